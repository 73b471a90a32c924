"""All weights of a learner straight to an engine's process: tensors through a process group, no file and no pickle.

Each receiver is paired with the sender in a group of two: NCCL where both have a GPU and not the same one, gloo
otherwise. Pairs cost one send per receiver where a tree would share them, and fail one by one: a receiver that dies
takes no other with it. What arrives is staged, and loaded when it is there whole, so that a transfer that fails leaves
the served model as it was.

Neither side uses torch's default group, which is the learner's on one side and vLLM's on the other.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed import BroadcastOptions, PrefixStore, Store, TCPStore

from shaping.sampling.engine import EngineError

CHUNK = 64 << 20
"""Bytes of one message. Tensors are cut and joined to such messages, as small ones would cost a round trip each."""
ALIGNED = 16
"""Every tensor begins at a multiple of so many bytes, so that it can be used where it arrived."""
PARTING = 1.0
"""Seconds that a sender's threads get to end when it is closed, before its server does and after."""
SPARE = 0.2
"""Share of a GPU's free memory that staged weights leave alone; weights that do not fit wait in the host's."""


class TransferError(EngineError):
    """Weights have not arrived. The engine serves on with those that it has."""


@dataclass(frozen=True, slots=True)
class WeightTransfer:
    """Weights for one receiver, once; plain data. `timeout`: seconds for each step, meeting and every message.

    `session` names the pair, which is kept from offer to offer until one fails, and made anew for a receiver that was
    started again; `number` counts its offers.
    `tensors` has type and shape of what there is.
    """

    host: str
    port: int
    session: str
    number: int
    timeout: float
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]


class Part(NamedTuple):
    """One tensor in the stream of bytes that a transfer is."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def layout(wanted: Sequence[tuple[str, str, Sequence[int]]]) -> list[Part]:
    """Where each tensor (name, type, shape) lies. Both sides compute it."""
    parts: list[Part] = []
    start = 0
    for name, dtype, shape in wanted:
        parts.append(Part(name, getattr(torch, dtype), tuple(shape), start))
        start = -(-parts[-1].stop // ALIGNED) * ALIGNED
    return parts


# The pair -------------------------------------------------------------------------------------------------------------


class PairGroup:
    """A process group of two, of which rank 0 sends. Raises RuntimeError where the other does not come in time."""

    def __init__(self, store: Store, host: str, rank: int, device: torch.device, timeout: float) -> None:
        self._limit = timedelta(seconds=timeout)
        own = _identity(device)
        store.set(f"device-{rank}", own)
        other = store.get(f"device-{1 - rank}").decode()
        nccl = "cpu" not in (own, other) and own != other  # NCCL refuses two ranks on one GPU
        self.device = device if nccl else torch.device("cpu")
        self._group: Any = (_nccl if nccl else _gloo)(PrefixStore("group", store), rank, self._limit, device, host)

    def move(self, message: Tensor) -> None:
        """Bytes on `device`: from rank 0, into rank 1."""
        if (group := self._group) is None:
            raise TransferError("called off")
        how = BroadcastOptions()
        how.rootRank, how.timeout = 0, self._limit
        group.broadcast([message], how).wait(self._limit)

    def close(self) -> None:
        """Also from another thread than the one that moves something, which then raises. The other side is told."""
        group, self._group = self._group, None
        if group is not None:
            with contextlib.suppress(RuntimeError):
                group.abort()  # ends what is under way; connections close as the group goes


def _identity(device: torch.device) -> str:
    return "cpu" if device.type != "cuda" else str(torch.cuda.get_device_properties(device).uuid)


def _gloo(store: Store, rank: int, limit: timedelta, device: torch.device, host: str) -> Any:
    from torch.distributed import ProcessGroupGloo

    gloo: Any = ProcessGroupGloo  # its stub lacks the options that say where it listens
    options = gloo._Options()
    options._timeout = limit
    options._devices = [gloo.create_device(hostname=_way_to(host))]
    return gloo(store, rank, 2, options)


def _nccl(store: Store, rank: int, limit: timedelta, device: torch.device, host: str) -> Any:
    from torch.distributed import ProcessGroupNCCL

    options = ProcessGroupNCCL.Options()
    options._timeout = limit
    with _BLOCKING, torch.cuda.device(device):
        before = os.environ.get("TORCH_NCCL_BLOCKING_WAIT")
        # else a peer that is gone would end this process, by torch's watchdog, and not only the transfer
        os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"
        try:
            return ProcessGroupNCCL(store, rank, 2, options)
        finally:
            os.environ.pop("TORCH_NCCL_BLOCKING_WAIT")
            os.environ.update({} if before is None else {"TORCH_NCCL_BLOCKING_WAIT": before})


_BLOCKING = threading.Lock()


def _way_to(host: str) -> str:
    """The address of this machine that `host` sees; nothing is sent."""
    family, _, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def _client(host: str, port: int, timeout: float) -> TCPStore:
    """A connection of one's own: who waits on one keeps others from using it."""
    return TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=timeout))


def _meeting(store: Store, number: int) -> Store:
    """What the two sides of a pair tell each other there is not taken for what was told at an earlier meeting."""
    return PrefixStore(f"meeting-{number}", store)


# Sending --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _ReceiverState:
    """What the sender has of one receiver."""

    session: str = field(default_factory=lambda: uuid.uuid4().hex)
    offers: int = 0
    pair: PairGroup | None = None
    thread: threading.Thread | None = None
    over: threading.Event = field(default_factory=threading.Event)


class Broadcaster:
    """Sends weights to engines that take up its offers; listens on the address `host` of this machine alone."""

    def __init__(self, host: str, timeout: float) -> None:
        self._host, self._timeout = host, timeout
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.bind(address)
        listening.listen()
        self._port = int(listening.getsockname()[1])
        self._server: TCPStore | None = TCPStore(
            host, self._port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )
        self._receivers: dict[Any, _ReceiverState] = {}
        self._ending: list[threading.Thread] = []

    def offer(self, receiver: Any, state: Mapping[str, Tensor]) -> WeightTransfer:
        """Send `state` to `receiver` (any key) as soon as it asks, in a thread; `settle` has to follow."""
        receiver_state = self._receivers.setdefault(receiver, _ReceiverState())
        tensors = {n: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for n, t in state.items()}
        offer = WeightTransfer(
            self._host, self._port, receiver_state.session, receiver_state.offers, self._timeout, tensors
        )
        receiver_state.offers += 1
        receiver_state.thread = threading.Thread(
            target=self._send, args=(receiver_state, offer, state), name="broadcast", daemon=True
        )
        receiver_state.thread.start()
        return offer

    def settle(self, receiver: Any, arrived: bool) -> None:
        """Whether `receiver` has the weights. If not, sending ends, and its next offer is for a new pair."""
        receiver_state = self._receivers.get(receiver)
        if receiver_state is None or receiver_state.thread is None:
            return
        if arrived:
            receiver_state.thread.join(self._timeout)
        if not arrived or receiver_state.thread.is_alive() or receiver_state.over.is_set():
            self._drop(receiver)

    def close(self) -> None:
        """End what is under way, and listen no more."""
        for receiver in list(self._receivers):
            self._drop(receiver)
        # a thread that is inside torch when the interpreter ends would take the process down with it: who is about to
        # connect finds the server and ends, who waits for a receiver ends with the server
        self._join()
        self._server = None
        self._join()

    def _join(self) -> None:
        last = time.monotonic() + PARTING
        for thread in self._ending:
            thread.join(max(last - time.monotonic(), 0.0))

    def _drop(self, receiver: Any) -> None:
        receiver_state = self._receivers.pop(receiver)
        receiver_state.over.set()
        if receiver_state.pair is not None:
            receiver_state.pair.close()
        self._ending = [t for t in (*self._ending, receiver_state.thread) if t is not None and t.is_alive()]

    def _send(self, receiver_state: _ReceiverState, offer: WeightTransfer, state: Mapping[str, Tensor]) -> None:
        """Failures are the receiver's to report: it sees the pair closed, or nobody come."""
        try:
            store = PrefixStore(offer.session, _client(offer.host, offer.port, offer.timeout))
            key = f"wanted-{offer.number}"
            while not store.check([key]):  # its engine may have to start first
                if receiver_state.over.wait(0.02):
                    return
            asked = json.loads(store.get(key))
            store.delete_key(key)
            parts = layout(asked["wanted"])
            device = next(iter(state.values())).device
            if (
                receiver_state.pair is not None and asked["new"]
            ):  # the receiver was started again: the pair has no other side
                receiver_state.pair.close()
                receiver_state.pair = None
            if receiver_state.pair is None:
                receiver_state.pair = PairGroup(_meeting(store, offer.number), offer.host, 0, device, offer.timeout)
            for message in _messages(parts, state, receiver_state.pair.device):
                if receiver_state.over.is_set():
                    raise TransferError("called off")
                receiver_state.pair.move(message)
        except Exception:  # whatever it is, this receiver_state is of no more use
            receiver_state.over.set()
        if receiver_state.over.is_set() and receiver_state.pair is not None:
            receiver_state.pair.close()


def _messages(parts: Sequence[Part], state: Mapping[str, Tensor], device: torch.device) -> Iterator[Tensor]:
    """The stream of bytes in messages of CHUNK, all in one buffer: each is to be sent before the next is asked for."""
    if not parts:
        return
    buffer = torch.empty(min(CHUNK, parts[-1].stop), dtype=torch.uint8, device=device)
    filled = 0  # messages behind us
    for part in parts:
        data = state[part.name].detach().to(device, part.dtype).contiguous().reshape(-1).view(torch.uint8)
        at = part.start
        while at < part.stop:
            if at // CHUNK > filled:
                yield buffer
                filled += 1
            end = min(part.stop, (filled + 1) * CHUNK)
            buffer[at % CHUNK : at % CHUNK + end - at].copy_(data[at - part.start : end - part.start])
            at = end
    yield buffer[: parts[-1].stop - filled * CHUNK]


# Receiving ------------------------------------------------------------------------------------------------------------


class Receiver:
    """Takes up offers in a thread, so that its process goes on with its work, and keeps what arrived until taken."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._session = ""
        self._pair: PairGroup | None = None
        self._told: list[str] = []
        self._arrived: dict[str, Tensor] = {}
        self._heard, self._patience = 0.0, math.inf

    def start(self, host: str, port: int, session: str, number: int, timeout: float, wanted: Sequence[Any]) -> None:
        """Ask for tensors (name, type, shape) of an offer, in this order."""
        if session != self._session:
            self.close()
        told: list[str] = []
        # a thread that hangs tells a list that nobody reads any more, and leaves the rest alone
        self._session, self._arrived, self._told = session, {}, told
        self._heard, self._patience = time.monotonic(), 2 * timeout  # meeting takes two steps

        def receive() -> None:
            began, pair = time.monotonic(), self._pair
            try:
                store = PrefixStore(session, _client(host, port, timeout))
                store.set(f"wanted-{number}", json.dumps({"wanted": wanted, "new": pair is None}))
                pair = pair or PairGroup(_meeting(store, number), host, 1, self._device, timeout)
                arrived = _staged(pair, layout(wanted), self._beat)
                if self._told is not told:
                    raise TransferError("another offer has been taken up")
                self._pair, self._arrived = pair, arrived
                told.append("")
            except Exception as error:
                if pair is not None:
                    pair.close()
                if self._told is told:
                    self.close()
                first = str(error).split(". ")[0]  # of a paragraph of advice, where gloo has failed
                told.append(f"{first or type(error).__name__} (after {time.monotonic() - began:.1f} s)")

        threading.Thread(target=receive, name="broadcast", daemon=True).start()

    @property
    def told(self) -> str | None:
        """None while it lasts; then what went wrong, empty where nothing did."""
        if not self._told and time.monotonic() - self._heard > self._patience:
            self.close()
            self._told = [f"nothing has come for {self._patience:g} s"]  # the thread hangs: it is on its own now
        return self._told[0] if self._told else None

    def _beat(self) -> None:
        self._heard = time.monotonic()

    @property
    def arrived(self) -> Mapping[str, Tensor]:
        return self._arrived

    def take(self) -> dict[str, Tensor]:
        """What has arrived, to be loaded; it is not kept here."""
        taken, self._arrived = self._arrived, {}
        if not taken:
            raise TransferError("no weights have arrived")
        return taken

    def close(self) -> None:
        pair, self._pair, self._session = self._pair, None, ""
        if pair is not None:
            pair.close()


def _staged(pair: PairGroup, parts: Sequence[Part], beat: Callable[[], None]) -> dict[str, Tensor]:
    """What comes through `pair`, each tensor where it arrived. `beat` is called after every message."""
    size = parts[-1].stop if parts else 0
    staged = torch.empty(size, dtype=torch.uint8, device=_stage(pair.device, size))
    through = None if staged.device == pair.device else torch.empty(CHUNK, dtype=torch.uint8, device=pair.device)
    for start in range(0, size, CHUNK):
        place = staged[start : start + CHUNK]
        if through is None:
            pair.move(place)
        else:
            pair.move(message := through[: len(place)])
            place.copy_(message)
        beat()
    return {part.name: staged[part.start : part.stop].view(part.dtype).view(part.shape) for part in parts}


def _stage(device: torch.device, size: int) -> torch.device:
    """Where `size` bytes wait to be loaded."""
    if device.type == "cuda" and size + CHUNK > (1 - SPARE) * torch.cuda.mem_get_info(device)[0]:
        return torch.device("cpu")
    return device
