"""Memory that the C library keeps after it was freed.

Tensors of a batch have other sizes in each update. glibc keeps what they leave behind in its heap, in pieces that the
next batch does not fit into: a process that trained a model of 135 M weights on a CPU has grown from 3 to 15 GB in
twenty updates, between which it used half a GB.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

SPARED = 1 << 30
"""Bytes that may be kept. To give back less would cost small models more time than the memory is worth."""


_NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _Usage(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _NAMES.split())


@cache
def _glibc() -> Any:
    """The C library, if it is one that can tell and give back (glibc from 2.33); else None."""
    try:
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _Usage
        library.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError):
        return None
    return library


def kept() -> int:
    """Bytes that were freed and are kept; 0 where it cannot be told."""
    return int(_glibc().mallinfo2().fordblks) if _glibc() is not None else 0


def give_back(spared: int = SPARED) -> bool:
    """Give freed memory back to the system if more than `spared` bytes are kept. Returns whether it was."""
    if kept() <= spared:
        return False
    _glibc().malloc_trim(0)
    return True
