"""Who may import whom, and how large a file and a function may grow. Both are read from the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("envs", "rewards", "shaping", "launch")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ALL_CODE = SOURCES + sorted(
    path for folder in ("tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")
)

#: What the modules under a prefix must not import. The longest prefix does not override the others: all apply.
FORBIDDEN = {
    "envs": ("rewards", "shaping", "launch", "ray", "torch", "transformers"),
    "rewards": ("shaping", "launch", "ray"),
    "shaping": ("launch", "ray"),
    "shaping.learning": ("shaping.monitors", "shaping.audits"),
    "shaping.shapers": ("shaping.monitors", "shaping.audits"),
    "shaping.monitors": ("shaping.learning",),
}
#: Code that trains: it must not even reach for `Episode.truth` (a redacted copy would refuse at run time).
TRAINS = ("rewards", "shaping.learning", "shaping.shapers", "shaping.constraints")
MAX_FILE, MAX_FUNCTION = 400, 60


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def under(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def imports(tree: ast.AST, module: str, is_package: bool) -> set[str]:
    """Every module that `tree` imports, anywhere in it; relative imports are resolved against `module`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".") if is_package else module.split(".")[:-1]
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return found


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    imported = imports(ast.parse(source), module, is_package)
    return sorted(
        f"{module} imports {name}, which {prefix} may not import"
        for prefix, banned in FORBIDDEN.items()
        if under(module, prefix)
        for name in imported
        if any(under(name, ban) for ban in banned)
    )


def long_functions(source: str) -> list[str]:
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))
    lengths = ((f.name, (f.end_lineno or f.lineno) - f.lineno + 1) for f in functions)
    return [f"{name}() has {length} lines" for name, length in lengths if length > MAX_FUNCTION]


def opens_truth(source: str) -> list[int]:
    return [n.lineno for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute) and n.attr == "truth"]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    assert violations(path.read_text(), name_of(path), path.name == "__init__.py") == []


@pytest.mark.parametrize("path", ALL_CODE, ids=name_of)
def test_files_and_functions_stay_short(path: Path) -> None:
    source = path.read_text()
    lines = len(source.splitlines())
    assert lines <= MAX_FILE, f"{name_of(path)} has {lines} lines: split it"
    assert long_functions(source) == []


@pytest.mark.parametrize("path", [p for p in SOURCES if any(under(name_of(p), t) for t in TRAINS)], ids=name_of)
def test_code_that_trains_never_reaches_for_the_truth(path: Path) -> None:
    assert opens_truth(path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_are_named_for_their_job(path: Path) -> None:
    assert not {"manager", "helper", "helpers", "util", "utils", "misc", "common"} & set(path.stem.split("_"))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("envs.worlds.clerk", "from shaping.intervention import Arm"),
        ("envs.worlds.clerk", "import torch.nn as nn"),
        ("rewards.env_reward", "def f():\n    import launch.config.study"),
        ("shaping.sampling.play", "import ray"),
        ("shaping.learning.learner", "from ..monitors import claims"),
        ("shaping.learning.learner", "from shaping import audits"),
    ],
)
def test_the_rule_sees_every_way_to_break_it(module: str, source: str) -> None:
    assert violations(source, module)


def test_the_rule_lets_the_allowed_directions_pass() -> None:
    assert violations("from envs.episode import Episode\nimport rewards", "shaping.learning.learner") == []
    assert violations("import ray\nfrom shaping.audits import selection", "launch.run.trainer") == []
    assert violations("from .episode import Episode", "envs.core") == []


def test_the_length_rule_counts_the_lines_of_a_function() -> None:
    assert long_functions("def f():\n" + "    x = 1\n" * MAX_FUNCTION) == [f"f() has {MAX_FUNCTION + 1} lines"]
    assert long_functions("def f():\n" + "    x = 1\n" * (MAX_FUNCTION - 1)) == []
