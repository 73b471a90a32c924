"""Ranks meet on one address: what listens is bound to MASTER_ADDR, whatever else the machine is reachable at."""

from __future__ import annotations

import os
import socket

import psutil
import pytest
import torch
import torch.distributed as dist

from shaping.learning.ranks.parallel import Ranks, RanksError
from shaping.sockets import LOOPBACK, listen, use_interface


def addresses() -> set[str]:
    """Where this process listens."""
    found = psutil.Process().net_connections(kind="inet")
    return {s.laddr.ip.removeprefix("::ffff:") for s in found if s.status == psutil.CONN_LISTEN}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the only rank."""
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(variable, "")  # so that it is restored
        monkeypatch.delenv(variable)
    return {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": LOOPBACK}


def test_the_store_and_gloo_listen_on_the_address_where_ranks_meet(alone: dict[str, str]) -> None:
    before = addresses()
    listening = listen(LOOPBACK)
    port = str(listening.getsockname()[1])
    ranks = Ranks.connect("data", "cpu", timeout=20, environment={**alone, "MASTER_PORT": port}, listening=listening)
    try:
        dist.all_reduce(torch.ones(1))
        assert addresses() - before <= {LOOPBACK}
        assert os.environ["GLOO_SOCKET_IFNAME"] in {name for _, name in socket.if_nameindex()}
    finally:
        ranks.close()


def test_without_a_socket_rank_0_opens_one_there(alone: dict[str, str]) -> None:
    before = addresses()
    with listen(LOOPBACK) as probe:
        port = str(probe.getsockname()[1])
    ranks = Ranks.connect("data", "cpu", timeout=20, environment={**alone, "MASTER_PORT": port})
    try:
        assert addresses() - before <= {LOOPBACK}
    finally:
        ranks.close()


def test_a_port_in_use_is_told(alone: dict[str, str]) -> None:
    with listen(LOOPBACK) as taken:
        environment = {**alone, "MASTER_PORT": str(taken.getsockname()[1])}
        with pytest.raises(RanksError, match="rank 0 of 1 did not meet the others"):
            Ranks.connect("data", "cpu", timeout=2, environment=environment)


def test_an_interface_that_the_user_has_chosen_stays(alone: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    use_interface(LOOPBACK, "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"
    assert os.environ["NCCL_SOCKET_IFNAME"].startswith("=")
