"""Does a Ray cluster answer at an address? Asked first, because Ray takes minutes to give up, and names no variable."""

from __future__ import annotations

import os
import socket
import time
from urllib.parse import urlsplit

from launch.errors import UserError

VARIABLE = "RAY_ADDRESS"
PATIENCE = 20.0
"""Seconds in which an address must answer. A cluster that is just starting may need some."""
ATTEMPT, PAUSE = 5.0, 0.5
"""Seconds that one attempt may take, and between two."""
_PORTS = {"ray": 10001, "http": 80, "https": 443}
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of gRPC begins; every server of gRPC answers it."""


def check_reachable(address: str, patience: float = PATIENCE) -> None:
    """Raise `UserError` if nothing answers at `address`: `auto`, host:6379, ray://host:10001 or http://host:8265."""
    given = os.environ.get(VARIABLE, "") if address == "auto" else address
    try:
        url = urlsplit(given if "://" in given else f"//{given}")
        host, port = url.hostname, url.port or _PORTS.get(url.scheme)
    except ValueError:
        return  # Ray tells what is wrong with an address that is none
    if not host or not port or url.scheme not in ("", *_PORTS):
        return
    deadline = time.monotonic() + patience
    while True:
        reasons = [_silent(each, port, url.scheme) for each in _hosts(host, url.scheme)]
        if "" in reasons:
            return
        if time.monotonic() + PAUSE > deadline:
            raise UserError(_message(address, reasons[0]))
        time.sleep(PAUSE)


def _hosts(host: str, scheme: str) -> list[str]:
    """Ray takes 127.0.0.1 for the address of this machine."""
    if scheme or host not in ("127.0.0.1", "localhost"):
        return [host]
    from ray.util import get_node_ip_address

    return [host, get_node_ip_address()]


def _silent(host: str, port: int, scheme: str) -> str:
    """Why there is no Ray at a port; empty if there may be one."""
    try:
        with socket.create_connection((host, port), ATTEMPT) as connection:
            if scheme not in ("", "ray") or os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return ""
            connection.settimeout(ATTEMPT)
            connection.sendall(_HTTP2)
            return "" if _settings(connection.recv(9, socket.MSG_WAITALL)) else "what answers is no Ray"
    except TimeoutError:
        return "it does not answer"
    except OSError as error:
        return str(error.strerror or error)


def _settings(head: bytes) -> bool:
    """Whether a server began with the frame with which one of HTTP/2 begins."""
    return len(head) == 9 and head[3] == 4


def named(address: str) -> str:
    """What messages call an address: its variable and its value, or the address."""
    value = os.environ.get(VARIABLE, "")
    return f"{VARIABLE}, {value!r}" if value and address in ("auto", value) else repr(address)


def _message(address: str, reason: str) -> str:
    where = named(address)
    remedy = f"correct {VARIABLE}, or unset it" if where.startswith(VARIABLE) else "is it up, and is the address right?"
    return (
        f"no Ray cluster answers at {where}: {reason}; {remedy}. Use host:6379 from its own nodes, ray://host:10001 "
        "from elsewhere, and http://host:8265 to submit jobs (docs/clusters.md)"
    )
