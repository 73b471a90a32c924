"""Where the ranks of a learner meet: sockets on one address of the machine, and on no other.

torch asks nobody for a password. Its store of keys listens on all addresses unless it is given a listening socket, and
takes writes from every stranger who reaches it.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import timedelta

from torch.distributed import Store, TCPStore

from shaping.sockets import listen


def store_of(
    host: str, port: int, size: int, limit: timedelta, *, client: bool, listening: socket.socket | None = None
) -> Store:
    """The store through which the ranks exchange addresses.

    Args:
        host: Address at which it is served.
        port: Its port.
        size: Number of ranks.
        limit: Time for all of them to connect.
        client: Is it served elsewhere?
        listening: The socket to serve it on, if it is open already.
    """
    if client:
        return TCPStore(host, port, size, is_master=False, timeout=limit)
    served = listening or listen(host, port)
    return TCPStore(host, port, size, is_master=True, timeout=limit, master_listen_fd=served.detach())


def served_by_torchrun(environment: Mapping[str, str]) -> bool:
    """Does torchrun's agent serve the store? Then rank 0 is a client like the others."""
    return environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
