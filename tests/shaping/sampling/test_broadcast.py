"""Weights go from process to process to the bit, and whatever happens to one side, the other is told in time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from waiting import patience

from shaping.sampling.transfer import broadcast
from shaping.sampling.transfer.broadcast import Broadcaster, Receiver, WeightTransfer, _messages, layout
from shaping.sampling.transfer.weights import digests

HOST = "127.0.0.1"
LIMIT = patience(2.0)
"""Seconds that a transfer may take."""

Wanted = list[tuple[str, str, list[int]]]


@pytest.fixture
def sender() -> Iterator[Broadcaster]:
    with contextlib.closing(Broadcaster(HOST, LIMIT)) as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(torch.device("cpu"))
    yield made
    made.close()


def weights(seed: int, rows: int = 300) -> dict[str, Tensor]:
    """Types and sizes of all kinds."""
    noise = torch.Generator().manual_seed(seed)
    return {
        "embed": torch.randn(rows, 17, generator=noise),
        "norm": torch.randn(3, generator=noise).to(torch.bfloat16),
        "steps": torch.arange(5) + seed,
        "none": torch.zeros(0, 4),
        "scale": torch.tensor(2.5 + seed),
        "head": torch.randn(17, rows, generator=noise).T,
    }


def described(state: dict[str, Tensor]) -> Wanted:
    return [(name, str(t.dtype).removeprefix("torch."), list(t.shape)) for name, t in state.items()]


def asked(receiver: Receiver, offer: WeightTransfer, wanted: Wanted) -> str:
    """Of one transfer: what went wrong."""
    receiver.start(offer.host, offer.port, offer.session, offer.number, offer.timeout, wanted)
    while (outcome := receiver.outcome) is None:
        time.sleep(0.002)
    return outcome


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[n].dtype == t.dtype and found[n].shape == t.shape and torch.equal(found[n], t)
        for n, t in expected.items()
    )


@given(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=12), chunk=st.sampled_from([16, 48, 64, 4096]))
def test_the_messages_hold_every_byte_where_the_layout_says(sizes: list[int], chunk: int) -> None:
    """Tensors smaller and larger than a message, ends at its end and around it."""
    state = {str(n): torch.arange(size, dtype=torch.uint8) + n for n, size in enumerate(sizes)}
    parts = layout(described(state))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broadcast, "CHUNK", chunk)
        messages = [m.clone() for m in _messages(parts, state, torch.device("cpu"))]
    assert all(len(m) == chunk for m in messages[:-1]) and sum(map(len, messages)) == parts[-1].stop
    stream = torch.cat(messages)
    assert all(torch.equal(stream[p.start : p.stop], state[p.name]) and p.start % 16 == 0 for p in parts)


def test_what_is_asked_for_arrives_to_the_bit_in_the_type_that_is_asked_for(
    sender: Broadcaster, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "CHUNK", 1024)
    state = weights(0)
    assert asked(receiver, sender.offer("it", state), described(state)) == ""
    assert same(receiver.take(), state)
    sender.settle("it", True)
    half: Wanted = [("head", "bfloat16", [300, 17]), ("steps", "int64", [5])]
    assert asked(receiver, sender.offer("it", state), half) == ""
    assert same(receiver.take(), {"head": state["head"].to(torch.bfloat16), "steps": state["steps"]})


def test_a_pair_is_kept_from_offer_to_offer_and_made_anew_after_a_failure(
    sender: Broadcaster, receiver: Receiver
) -> None:
    sessions = []
    for number in range(4):
        offer = sender.offer("it", weights(number))
        sessions.append((offer.session, offer.number))
        if number == 1:  # called off before it is asked for
            sender.settle("it", False)
            assert "Connection closed by peer" in asked(receiver, offer, described(weights(number)))
            continue
        assert asked(receiver, offer, described(weights(number))) == ""
        assert same(receiver.take(), weights(number))
        sender.settle("it", True)
    assert sessions[0][0] == sessions[1][0] != sessions[2][0] == sessions[3][0]
    assert [number for _, number in sessions] == [0, 1, 0, 1]


def test_a_receiver_that_was_started_again_is_met_anew_without_a_failure(
    sender: Broadcaster, receiver: Receiver
) -> None:
    """The sender cannot know that its pair has no other side any more."""
    state = weights(0)
    assert asked(receiver, sender.offer("it", state), described(state)) == ""
    sender.settle("it", True)
    again = Receiver(torch.device("cpu"))
    with contextlib.closing(again):
        started = time.monotonic()
        assert asked(again, sender.offer("it", state), described(state)) == ""
        assert time.monotonic() - started < LIMIT / 2
        sender.settle("it", True)
        assert asked(again, sender.offer("it", state), described(state)) == ""
        assert same(again.take(), state)


def test_a_sender_keeps_nothing_of_offers_that_are_over(sender: Broadcaster, receiver: Receiver) -> None:
    """Weights have many names, and a long run many updates."""
    state, held = weights(0), []
    for _ in range(3):
        assert asked(receiver, sender.offer("it", state), described(state)) == ""
        sender.settle("it", True)
        assert sender._server is not None
        held.append(sender._server.num_keys())
    assert held[0] == held[1] == held[2]


def test_a_sender_that_is_closed_ends_what_is_under_way_and_listens_no_more(
    sender: Broadcaster, receiver: Receiver
) -> None:
    offer = sender.offer("it", weights(0))
    thread = sender._receivers["it"].thread
    sender.close()
    assert thread is not None
    thread.join(LIMIT)
    assert not thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, offer.port), 1)


def test_a_sender_is_closed_cleanly_though_a_receiver_has_asked_and_never_come() -> None:
    """In a process of its own: what is left inside torch at the end would abort it."""
    program = f"""
import json, torch
from torch.distributed import PrefixStore
from shaping.sampling.transfer.broadcast import Broadcaster, _client
sender = Broadcaster("{HOST}", 60.0)
offer = sender.offer("it", {{"x": torch.ones(3)}})
asked = PrefixStore(offer.session, _client(offer.host, offer.port, 60.0))
asked.set("wanted-0", json.dumps({{"wanted": [["x", "float32", [3]]], "new": True}}))
thread = sender._receivers["it"].thread
while asked.check(["wanted-0"]):  # until it waits for the other side
    pass
sender.settle("it", False)
sender.close()
assert not thread.is_alive()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=patience(60))
    assert done.returncode == 0, done.stderr


def test_a_sender_that_fails_half_way_is_noticed_at_once(
    sender: Broadcaster, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "CHUNK", 1024)
    state, started = weights(0), time.monotonic()
    told = asked(receiver, sender.offer("it", state), [*described(state), ("more", "float32", [3])])
    assert told and time.monotonic() - started < LIMIT
    assert not receiver.arrived, "part of the weights can be loaded"
    sender.settle("it", False)
    assert asked(receiver, sender.offer("it", state), described(state)) == ""


def test_nobody_outside_the_address_can_reach_the_sender(sender: Broadcaster) -> None:
    port = sender.offer("it", weights(0)).port
    socket.create_connection((HOST, port), 1).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), 1)


# Processes ------------------------------------------------------------------------------------------------------------


def serve(offers: Any, answers: Any) -> None:
    """A receiver in a process of its own. Small messages, so that a large transfer takes long."""
    torch.set_num_threads(1)
    broadcast.CHUNK = 4096
    receiver = Receiver(torch.device("cpu"))
    answers.put("ready")
    while True:
        offer, wanted = offers.get()
        told = asked(receiver, offer, wanted)
        answers.put((told, {} if told else digests(receiver.take())))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_receiver_that_dies_or_hangs_in_mid_transfer_takes_nothing_with_it(
    receiver: Receiver, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "CHUNK", 4096)
    limit = patience(3.0)
    sender = Broadcaster(HOST, limit)
    context = multiprocessing.get_context("spawn")
    offers, answers = context.SimpleQueue(), context.SimpleQueue()
    process = context.Process(target=serve, args=(offers, answers), daemon=True)
    process.start()
    try:
        assert answers.get() == "ready"
        offers.put((sender.offer("victim", small := weights(0)), described(small)))
        assert answers.get() == ("", digests(small))
        sender.settle("victim", True)
        large = weights(0, rows=1_000_000)
        offers.put((sender.offer("victim", large), described(large)))
        time.sleep(0.2)
        thread = sender._receivers["victim"].thread
        assert thread is not None and thread.is_alive(), "the transfer was over before it was disturbed"
        assert process.pid is not None
        os.kill(process.pid, how)
        assert asked(receiver, sender.offer("other", small), described(small)) == ""
        started = time.monotonic()
        sender.settle("victim", False)
        assert time.monotonic() - started < limit / 2, "the run waits for a receiver that is gone"
        thread.join(limit + 2)
        assert not thread.is_alive()
        sender.settle("other", True)
        assert asked(receiver, sender.offer("other", small), described(small)) == ""
    finally:
        sender.close()
        process.kill()
