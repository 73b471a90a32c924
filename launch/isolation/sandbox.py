"""Walls around this process, by the kernel: no file but those that are named, no socket, no look into other processes.

Landlock blocks files and the memory, environment and descriptors of other processes; a filter of system calls blocks
sockets. Both hold for every thread and child process from then on and cannot be lifted, not even by root. This module
imports the standard library alone: the walls must stand before a library starts a thread of its own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable, Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_READ = 1 << 0 | 1 << 2 | 1 << 3
"""To execute, to read a file, to list a directory."""
_OF_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
"""The rights that a rule about a file, rather than a directory, may give."""
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights over files, by the version of Landlock that brought them."""
_SCOPED = 6
"""The version from which on abstract sockets and signals of other processes are blocked, too."""
_X86, _ARM = "x86_64", "aarch64"
_ARCHITECTURES = {_X86: 0xC000003E, _ARM: 0xC00000B7}
_REFUSED = {
    # socket, ptrace, process_vm_readv, process_vm_writev, io_uring_setup, pidfd_getfd
    _X86: (41, 101, 310, 311, 425, 438),
    _ARM: (198, 117, 270, 271, 425, 438),
}
SYSTEM = (
    *("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/nix/store"),
    *("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"),
    *("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"),
)
"""What every Python process reads of a system."""


def protect(readable: Sequence[str], writable: Sequence[str]) -> dict[str, str]:
    """Put the walls up. Returns those that stand: `files` and `sockets`; what is missing is not possible here."""
    if not sys.platform.startswith("linux"):
        return {}
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return {}
    walls = {}
    if version := _landlock(libc, (*SYSTEM, *readable), ("/dev/null", *writable)):
        walls["files"] = f"Landlock {version}"
    if _refuse_calls(libc):
        walls["sockets"] = "seccomp"
    return walls


def landlock_version() -> int:
    """The version of the kernel's Landlock; 0 if it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, 0, 1)), 0)


def _landlock(libc: ctypes.CDLL, readable: Iterable[str], writable: Iterable[str]) -> int:
    version = landlock_version()
    if not version:
        return 0
    rights = _RIGHTS[max(known for known in _RIGHTS if known <= version)]
    attributes = struct.pack("<Q", rights)
    if version >= _SCOPED:
        attributes = struct.pack("<QQQ", rights, 0, 3)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return 0
    try:
        for allowed, paths in ((_READ, readable), (rights, writable)):
            for path in paths:
                _allow(libc, ruleset, path, allowed & rights)
        return 0 if libc.syscall(_RESTRICT_SELF, ruleset, 0) else version
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    """Allow a path and all below it; one that does not exist needs no rule."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        allowed = rights if os.path.isdir(path) else rights & _OF_FILES
        if libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("<Qi", allowed, place), 0):
            raise OSError(ctypes.get_errno(), f"Landlock takes no rule for {path}")
    finally:
        os.close(place)


def _refuse_calls(libc: ctypes.CDLL) -> bool:
    """Let the refused system calls, and all of a foreign calling convention, fail with EACCES."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES or sys.maxsize < 2**32:
        return False
    refused = _REFUSED[machine]
    load, jump_equal, jump_above, answer = 0x20, 0x15, 0x35, 0x06
    deny, allow = (answer, 0, 0, 0x00050000 | errno.EACCES), (answer, 0, 0, 0x7FFF0000)
    last = len(refused)
    steps = [
        (load, 0, 0, 4),  # the architecture
        (jump_equal, 0, last + 3, _ARCHITECTURES[machine]),
        (load, 0, 0, 0),  # the number of the call
        (jump_above, last + 1, 0, 0x40000000),  # x32
        *((jump_equal, last - n, 0, number) for n, number in enumerate(refused)),
        allow,
        deny,
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(code)))
    return bool(libc.prctl(_SET_SECCOMP, _FILTER, program, 0, 0) == 0)
