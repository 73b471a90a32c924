"""Runs programs that nobody trusts, each in a process of its own. A script: no module of the project imports it.

It waits for jobs, and forks for each. The child puts up walls, runs the program on every input and writes a line of
JSON per result; this process never runs a program. A job has inputs and never what they should give: what is right is
decided by the process that reads the lines. So a program that forges lines has only chosen what it returns.

The walls: limits of processor time, memory, files and processes; a namespace of its own for the network, where the
system gives one to unprivileged processes; and a filter that refuses every system call but those of plain computation.
None of the calls that it lets through opens a file, a directory or a socket, starts a process, or signals another one.
"""

from __future__ import annotations

import ast
import ctypes
import errno
import gc
import json
import os
import platform
import resource
import signal
import socket
import struct
import sys
from types import CodeType
from typing import Any

PROVIDED = (
    *("bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools"),
    *("heapq", "itertools", "math", "operator", "random", "re", "statistics", "string", "typing"),
)
"""Modules that a program can import. Others are files, of which it sees none."""
_NAMESPACES = 0x10000000 | 0x40000000
"""CLONE_NEWUSER, CLONE_NEWNET."""
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOWED = {
    # read, write, close, fstat, lseek, mmap, mprotect, munmap, brk, rt_sigaction, rt_sigprocmask, rt_sigreturn, mremap,
    # madvise, sched_yield, getpid, exit, gettimeofday, getrusage, times, sigaltstack, gettid, time, futex,
    # restart_syscall, clock_gettime, clock_getres, exit_group, getrandom, membarrier, rseq
    "x86_64": (
        *(0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 25, 28, 24, 39, 60, 96, 98, 100, 131, 186, 201, 202, 219),
        *(228, 229, 231, 318, 324, 334),
    ),
    "aarch64": (
        *(63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 216, 233, 124, 172, 93, 169, 165, 153, 132, 178, 98),
        *(128, 113, 114, 94, 278, 283, 293),
    ),
}
"""The system calls that stay. They compute, allocate, tell the time, and use what is open already."""
_HEAD = struct.Struct("<Q")
"""The length of a job, in bytes."""
_LITERALS = 2000
"""The largest number of literals of a program that are told."""


def serve(control: int) -> None:
    """Take jobs from a socket, each with a pipe for its results, until it closes. Each job has a child of its own.

    A byte says that the results are read: the child is then ended, and a byte goes back.
    """
    for name in PROVIDED:
        __import__(name)
    apart = sys.platform.startswith("linux") and ctypes.CDLL(None).unshare(_NAMESPACES) == 0
    gc.freeze()  # children share what is here, rather than copy it
    with socket.socket(fileno=control) as asks:
        while True:
            head, pipes, _, _ = socket.recv_fds(asks, _HEAD.size, 1)
            if not head:
                return
            job = json.loads(_whole(asks, _HEAD.unpack(head)[0]))
            child = os.fork()
            if not child:
                asks.close()
                os.closerange(3, pipes[0])
                os.closerange(pipes[0] + 1, 256)
                try:
                    work(job, pipes[0], ["namespace"] if apart else [])
                finally:
                    os._exit(0)
            os.close(pipes[0])
            asks.recv(1)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            asks.sendall(b".")


def _whole(asks: socket.socket, size: int) -> bytes:
    told = b""
    while len(told) < size:
        if not (chunk := asks.recv(size - len(told))):
            raise EOFError
        told += chunk
    return told


def work(job: dict[str, Any], pipe: int, around: list[str]) -> None:
    """Run one job, and write its results into the pipe. `around`: walls that stand already."""
    lines = os.fdopen(pipe, "w", encoding="utf-8")
    say(lines, {"walls": [*around, *walls(job["limits"])]})
    program = parsed(job["program"])
    defined = program is not None and defines(program, job["name"])
    tests = parsed(job["tests"]) if job["tests"] is not None else None
    sound = job["tests"] is None or tests is not None
    say(lines, {"defined": defined, "tests": sound, "literals": literals(program) if program else []})
    if not (defined and program and sound):
        return
    space: dict[str, Any] = {"__name__": "program"}
    sys.modules["random"].seed(0)
    execute(compile(program, "program", "exec"), space)
    called = space.get(job["name"])
    for number, arguments in enumerate(job["calls"]):
        say(lines, {"call": number, **answer(called, arguments)})
    if tests is not None:
        say(lines, {"passed": execute(compile(tests, "tests", "exec"), space)})


def say(lines: Any, what: dict[str, Any]) -> None:
    lines.write(json.dumps(what) + "\n")
    lines.flush()


def parsed(text: str) -> ast.Module | None:
    """The syntax tree of a text; None if it is no Python."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def defines(program: ast.Module, name: str) -> bool:
    """Does it define the function at its top level?"""
    for node in program.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return True
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            return True
    return False


def literals(program: ast.Module) -> list[int | float | str]:
    """The numbers and texts that stand in it."""
    found: list[int | float | str] = []
    for node in ast.walk(program):
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            node, sign = node.operand, -1
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            found.append(sign * node.value)  # type: ignore[operator, arg-type]
    return found[:_LITERALS]


def execute(code: CodeType, space: dict[str, Any]) -> bool:
    """Does it run to its end?"""
    try:
        exec(code, space)
    except BaseException:  # also SystemExit: to leave is not to pass
        return False
    return True


def answer(called: Any, arguments: list[Any]) -> dict[str, Any]:
    """What the function returns, as JSON has it."""
    try:
        value = called(*arguments)
        json.dumps(value)
    except BaseException:
        return {"raised": True}
    return {"value": value}


# -- walls -------------------------------------------------------------------------------------------------------------


def walls(limits: dict[str, int]) -> list[str]:
    """Put the walls up. Returns those that stand: `limits`, `calls`."""
    stand = []
    seconds, size = limits["seconds"], limits["bytes"]
    for what, most in (
        (resource.RLIMIT_CPU, (seconds, seconds + 1)),
        (resource.RLIMIT_AS, (size, size)),
        (resource.RLIMIT_FSIZE, (0, 0)),
        (resource.RLIMIT_CORE, (0, 0)),
        (resource.RLIMIT_NPROC, (0, 0)),
        (resource.RLIMIT_NOFILE, (8, 8)),
    ):
        resource.setrlimit(what, most)
    stand.append("limits")
    if sys.platform.startswith("linux") and _filter_calls(ctypes.CDLL(None, use_errno=True)):
        stand.append("calls")
    return stand


def _filter_calls(libc: ctypes.CDLL) -> bool:
    """Let every system call but the allowed ones fail with EACCES."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES or sys.maxsize < 2**32 or libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        return False
    load, jump_equal, give = 0x20, 0x15, 0x06
    allowed = _ALLOWED[machine]
    steps = [
        (load, 0, 0, 4),  # the architecture
        (jump_equal, 1, 0, _ARCHITECTURES[machine]),
        (give, 0, 0, 0x00050000 | errno.EACCES),
        (load, 0, 0, 0),  # the number of the call
        *((jump_equal, len(allowed) - n, 0, number) for n, number in enumerate(allowed)),
        (give, 0, 0, 0x00050000 | errno.EACCES),
        (give, 0, 0, 0x7FFF0000),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(steps), ctypes.addressof(code)))
    return bool(libc.prctl(_SET_SECCOMP, _FILTER, program, 0, 0) == 0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
