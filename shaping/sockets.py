"""Listening on one address of the machine, and on no other."""

from __future__ import annotations

import os
import socket

import psutil

LOOPBACK = "127.0.0.1"
"""The address that only this machine reaches."""


def listen(host: str, port: int = 0) -> socket.socket:
    """A socket that listens on the address of `host` alone; with port 0 on a free port."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def own_address(host: str) -> str:
    """This machine's address on the route to `host`. Nothing is sent."""
    family, _, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def use_interface(host: str, *variables: str) -> None:
    """Let libraries that read these environment variables listen on the interface that leads to `host` alone.

    By default gloo takes the address of the machine's name and NCCL any interface, which may be another network's. A
    variable that the user has set stays.
    """
    own = own_address(host)
    names = [name for name, addresses in psutil.net_if_addrs().items() if own in {a.address for a in addresses}]
    for variable in variables if names else ():
        exact = "=" if variable.startswith("NCCL") else ""  # NCCL reads a bare name as a prefix
        os.environ.setdefault(variable, exact + names[0])
