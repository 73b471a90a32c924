"""An address at which no Ray answers is told in time, and with the variable that holds it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launch_fakes import study
from small_organism import small_organism

from launch.distributed import reachable
from launch.distributed.reachable import check_reachable
from launch.errors import UserError
from launch.run.build import build


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(reachable, "ATTEMPT", 0.3)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")


@pytest.fixture
def closed() -> int:
    """A port at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that accepts connections, and never says anything."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        yield int(listening.getsockname()[1])


@pytest.fixture
def grpc() -> Iterator[int]:
    """A port that answers as a server of HTTP/2 does."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)

        def answer() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(100)
                    connection.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))

        threading.Thread(target=answer, daemon=True).start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)


def told(address: str) -> str:
    start = time.monotonic()
    with pytest.raises(UserError) as raised:
        check_reachable(address, patience=1.0)
    assert time.monotonic() - start < 5
    return str(raised.value)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}", "http://127.0.0.1:{}"])
def test_a_dead_address_is_told(closed: int, form: str) -> None:
    address = form.format(closed)
    assert f"no Ray cluster answers at {address!r}: Connection refused" in told(address)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_what_listens_and_is_no_ray_is_told(mute: int, form: str) -> None:
    assert "it does not answer" in told(form.format(mute))


@pytest.mark.parametrize("address", ["auto", "itself"])
def test_the_variable_is_named_if_the_address_is_its_value(
    closed: int, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", value := f"ray://127.0.0.1:{closed}")
    message = told(value if address == "itself" else address)
    assert f"no Ray cluster answers at RAY_ADDRESS, {value!r}" in message
    assert "correct RAY_ADDRESS, or unset it" in message


def test_what_answers_is_left_to_ray(grpc: int, monkeypatch: pytest.MonkeyPatch) -> None:
    check_reachable(f"127.0.0.1:{grpc}", patience=0.0)
    check_reachable(f"ray://127.0.0.1:{grpc}", patience=0.0)
    check_reachable("auto", patience=0.0)  # without the variable Ray looks for a cluster on this machine
    for unclear in ("local", "host", "anyscale://x", "host:port", "ray://"):
        check_reachable(unclear, patience=0.0)


def test_a_cluster_that_is_just_starting_is_waited_for(closed: int) -> None:
    def late() -> None:
        time.sleep(0.7)
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", closed))
            listening.listen(5)
            listening.accept()

    threading.Thread(target=late, daemon=True).start()
    check_reachable(f"http://127.0.0.1:{closed}", patience=10.0)


@pytest.mark.parametrize("ranks", [True, False], ids=["ranks of the learner", "rollout workers"])
def test_a_run_in_this_process_joins_the_cluster_of_the_variable(
    ranks: bool, closed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not start a Ray of its own beside it."""
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed}")
    train = {"worlds": {"steward": {"size": 2}}, "updates": 1, "groups": 1, "group_size": 2, "device": "cpu"}
    if ranks:
        train["learner_group"] = {"strategy": "data", "ranks": 1}
    run = study(tmp_path, {"arm": ""}, train=train, rollout={"workers": int(not ranks)}).runs()[0]
    with pytest.raises(UserError, match="no Ray cluster answers at RAY_ADDRESS"):
        build(run, small_organism(tmp_path / "cache"), "cpu").close()
