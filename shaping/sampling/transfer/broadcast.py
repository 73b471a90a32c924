"""Send all weights of a learner to an engine's process: tensors through a process group, no file and no pickle.

Sender and receiver form a process group of two: NCCL if both have a GPU and not the same one, gloo otherwise. Pairs
cost one send per receiver, where a tree would share sends; in return a receiver that dies affects no other. Arriving
weights are staged and loaded only when they are complete, so that a failed transfer leaves the served model unchanged.
"""

from __future__ import annotations

import json
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed import PrefixStore, Store, TCPStore

from shaping.sampling.transfer.pair_group import PairGroup, TransferError
from shaping.sockets import listen

CHUNK = 64 << 20
"""Bytes of one message. Tensors are cut and joined into messages, because each message costs a round trip."""
ALIGNED = 16
"""Every tensor starts at a multiple of this many bytes, so that it can be used in place after its arrival."""
PARTING = 1.0
"""Seconds that the sender's threads get to end at `close`, once before and once after its server ends."""
SPARE = 0.2
"""Share of a GPU's free memory that staging leaves free; weights that need more are staged in host memory."""


@dataclass(frozen=True, slots=True)
class WeightTransfer:
    """The address and the contents of one transfer of weights to one receiver; plain data."""

    host: str
    """Address of the sender."""
    port: int
    """Port of the sender's store."""
    session: str
    """Name of the pair. A pair serves many transfers, until one fails."""
    number: int
    """Number of this transfer within the session, from 0."""
    timeout: float
    """Seconds for each step: the meeting of the pair, and every message."""
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    """Type and shape of every tensor on offer, by name."""


class Part(NamedTuple):
    """The place of one tensor in the byte stream of a transfer."""

    name: str
    """Name of the tensor."""
    dtype: torch.dtype
    """Its type on the wire."""
    shape: tuple[int, ...]
    """Its shape."""
    start: int
    """Its first byte in the stream."""

    @property
    def stop(self) -> int:
        """The byte after its last one."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def layout(wanted: Sequence[tuple[str, str, Sequence[int]]]) -> list[Part]:
    """The places of tensors (name, type, shape) in the byte stream. Both sides compute it."""
    parts: list[Part] = []
    start = 0
    for name, dtype, shape in wanted:
        parts.append(Part(name, getattr(torch, dtype), tuple(shape), start))
        start = -(-parts[-1].stop // ALIGNED) * ALIGNED
    return parts


def _client(host: str, port: int, timeout: float) -> TCPStore:
    """A separate connection to the sender's store: a waiting thread blocks all others on its connection."""
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=timeout))


def _meeting(store: Store, number: int) -> Store:
    """Keys of one meeting of a pair, apart from the keys of earlier meetings."""
    return PrefixStore(f"meeting-{number}", store)


# Sending --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _ReceiverState:
    """The sender's state of one receiver."""

    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Name of the pair."""
    transfers: int = 0
    """Number of transfers in this session."""
    pair: PairGroup | None = None
    """The process group, after the first meeting."""
    thread: threading.Thread | None = None
    """The thread of the latest transfer."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set when the session has failed or ended."""


class Broadcaster:
    """Sends weights to engines that ask for them.

    Args:
        host: the address of this machine to listen on; no other address is reachable.
        timeout: seconds for each step of a transfer.
    """

    def __init__(self, host: str, timeout: float) -> None:
        self._host, self._timeout = host, timeout
        listening = listen(host)
        self._port = int(listening.getsockname()[1])
        self._server: TCPStore | None = TCPStore(
            host, self._port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )
        self._receivers: dict[Any, _ReceiverState] = {}
        self._ending: list[threading.Thread] = []

    def offer(self, receiver: Any, state: Mapping[str, Tensor]) -> WeightTransfer:
        """Send `state` to `receiver` (any key) in a thread, as soon as the receiver asks for it.

        `settle` must follow. Returns: the data with which the receiver can ask.
        """
        peer = self._receivers.setdefault(receiver, _ReceiverState())
        tensors = {n: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for n, t in state.items()}
        transfer = WeightTransfer(self._host, self._port, peer.session, peer.transfers, self._timeout, tensors)
        peer.transfers += 1
        peer.thread = threading.Thread(target=self._send, args=(peer, transfer, state), name="broadcast", daemon=True)
        peer.thread.start()
        return transfer

    def settle(self, receiver: Any, arrived: bool) -> None:
        """End a transfer. If the weights have not `arrived`, sending stops, and the next transfer makes a new pair."""
        peer = self._receivers.get(receiver)
        if peer is None or peer.thread is None:
            return
        if arrived:
            peer.thread.join(self._timeout)
        if not arrived or peer.thread.is_alive() or peer.over.is_set():
            self._drop(receiver)

    def close(self) -> None:
        """End all transfers and stop listening."""
        for receiver in list(self._receivers):
            self._drop(receiver)
        # A thread inside torch at the end of the interpreter would crash the process. A thread that is about to
        # connect needs the server to end; a thread that waits for a receiver ends when the server does.
        self._join()
        self._server = None
        self._join()

    def _join(self) -> None:
        deadline = time.monotonic() + PARTING
        for thread in self._ending:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def _drop(self, receiver: Any) -> None:
        peer = self._receivers.pop(receiver)
        peer.over.set()
        if peer.pair is not None:
            peer.pair.close()
        self._ending = [t for t in (*self._ending, peer.thread) if t is not None and t.is_alive()]

    def _send(self, peer: _ReceiverState, transfer: WeightTransfer, state: Mapping[str, Tensor]) -> None:
        """Send one transfer. The receiver reports failures: it sees a closed pair, or no peer in time."""
        try:
            store = PrefixStore(transfer.session, _client(transfer.host, transfer.port, transfer.timeout))
            key = f"wanted-{transfer.number}"
            while not store.check([key]):  # the receiver's engine may have to start first
                if peer.over.wait(0.02):
                    return
            request = json.loads(store.get(key))
            store.delete_key(key)
            parts = layout(request["wanted"])
            device = next(iter(state.values())).device
            if peer.pair is not None and request["new"]:  # the receiver has restarted: the pair has no other side
                peer.pair.close()
                peer.pair = None
            if peer.pair is None:
                peer.pair = PairGroup(_meeting(store, transfer.number), transfer.host, 0, device, transfer.timeout)
            for message in _messages(parts, state, peer.pair.device):
                if peer.over.is_set():
                    raise TransferError("called off")
                peer.pair.move(message)
        except Exception:  # after any failure the session cannot be used
            peer.over.set()
        if peer.over.is_set() and peer.pair is not None:
            peer.pair.close()


def _messages(parts: Sequence[Part], state: Mapping[str, Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield the byte stream in messages of CHUNK bytes. All share one buffer: send each before asking for the next."""
    if not parts:
        return
    buffer = torch.empty(min(CHUNK, parts[-1].stop), dtype=torch.uint8, device=device)
    complete = 0  # messages already yielded
    for part in parts:
        data = state[part.name].detach().to(device, part.dtype).contiguous().reshape(-1).view(torch.uint8)
        position = part.start
        while position < part.stop:
            if position // CHUNK > complete:
                yield buffer
                complete += 1
            end = min(part.stop, (complete + 1) * CHUNK)
            offset = position % CHUNK
            buffer[offset : offset + end - position].copy_(data[position - part.start : end - part.start])
            position = end
    yield buffer[: parts[-1].stop - complete * CHUNK]


# Receiving ------------------------------------------------------------------------------------------------------------


class Receiver:
    """Receives weights in a thread, while its process does other work. Arrived weights wait here until `take`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._session = ""
        self._pair: PairGroup | None = None
        self._outcomes: list[str] = []
        self._arrived: dict[str, Tensor] = {}
        self._latest_message, self._patience = 0.0, math.inf

    def start(self, host: str, port: int, session: str, number: int, timeout: float, wanted: Sequence[Any]) -> None:
        """Ask for `wanted` tensors (name, type, shape), in this order. The other arguments: see `WeightTransfer`."""
        if session != self._session:
            self.close()
        outcomes: list[str] = []
        # A hung thread writes to an abandoned list and is harmless.
        self._session, self._arrived, self._outcomes = session, {}, outcomes
        self._latest_message, self._patience = time.monotonic(), 2 * timeout  # the meeting takes two steps

        def receive() -> None:
            began, pair = time.monotonic(), self._pair
            try:
                store = PrefixStore(session, _client(host, port, timeout))
                store.set(f"wanted-{number}", json.dumps({"wanted": wanted, "new": pair is None}))
                pair = pair or PairGroup(_meeting(store, number), host, 1, self._device, timeout)
                arrived = _staged(pair, layout(wanted), self._beat)
                if self._outcomes is not outcomes:
                    raise TransferError("another transfer has started")
                self._pair, self._arrived = pair, arrived
                outcomes.append("")
            except Exception as error:
                if pair is not None:
                    pair.close()
                if self._outcomes is outcomes:
                    self.close()
                reason = str(error).split(". ")[0]  # gloo adds a paragraph of advice
                outcomes.append(f"{reason or type(error).__name__} (after {time.monotonic() - began:.1f} s)")

        threading.Thread(target=receive, name="broadcast", daemon=True).start()

    @property
    def outcome(self) -> str | None:
        """None during a transfer; then the reason of its failure, empty after success."""
        if not self._outcomes and time.monotonic() - self._latest_message > self._patience:
            self.close()
            self._outcomes = [f"nothing has come for {self._patience:g} s"]  # this abandons the hung thread
        return self._outcomes[0] if self._outcomes else None

    def _beat(self) -> None:
        self._latest_message = time.monotonic()

    @property
    def arrived(self) -> Mapping[str, Tensor]:
        """The weights that have arrived and not been taken."""
        return self._arrived

    def take(self) -> dict[str, Tensor]:
        """Hand over the arrived weights. Raises: TransferError if there are none."""
        taken, self._arrived = self._arrived, {}
        if not taken:
            raise TransferError("no weights have arrived")
        return taken

    def close(self) -> None:
        """End the session."""
        pair, self._pair, self._session = self._pair, None, ""
        if pair is not None:
            pair.close()


def _staged(pair: PairGroup, parts: Sequence[Part], beat: Callable[[], None]) -> dict[str, Tensor]:
    """Receive all tensors through `pair`, as views of one buffer. `beat` is called after every message."""
    size = parts[-1].stop if parts else 0
    staged = torch.empty(size, dtype=torch.uint8, device=_staging_device(pair.device, size))
    bounce = None if staged.device == pair.device else torch.empty(CHUNK, dtype=torch.uint8, device=pair.device)
    for start in range(0, size, CHUNK):
        target = staged[start : start + CHUNK]
        if bounce is None:
            pair.move(target)
        else:
            pair.move(message := bounce[: len(target)])
            target.copy_(message)
        beat()
    return {part.name: staged[part.start : part.stop].view(part.dtype).view(part.shape) for part in parts}


def _staging_device(device: torch.device, size: int) -> torch.device:
    """The device on which `size` bytes are staged."""
    if device.type == "cuda" and size + CHUNK > (1 - SPARE) * torch.cuda.mem_get_info(device)[0]:
        return torch.device("cpu")
    return device
