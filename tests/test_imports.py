"""Who may import whom, without circles, and how large a file and a function may grow.

The graph of imports is grimp's. It holds every import statement, also those inside functions and those for type
checking only.
"""

from __future__ import annotations

import ast
import importlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("launch", "shaping", "rewards", "envs")
"""From high to low: a package imports only those after it."""
SOURCES = sorted(path for package in LAYERS for path in (ROOT / package).rglob("*.py"))
ALL_CODE = SOURCES + sorted(
    path for folder in ("tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")
)

#: What the modules under a prefix must not import, beside what the layers forbid. All entries apply.
FORBIDDEN = {
    "envs": ("ray", "torch", "transformers"),
    "rewards": ("ray",),
    "shaping": ("ray",),
    "shaping.learning": ("shaping.monitors", "shaping.audits"),
    "shaping.shapers": ("shaping.monitors", "shaping.audits"),
    "shaping.monitors": ("shaping.learning",),
}
#: Code that trains: it must not even reach for `Episode.truth` (a redacted copy would refuse at run time).
TRAINS = ("rewards", "shaping.learning", "shaping.shapers", "shaping.constraints")
MAX_FILE, MAX_FUNCTION = 400, 60

Plant = Callable[..., grimp.ImportGraph]


def graph_of(*packages: str) -> grimp.ImportGraph:
    return grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)


def circle(graph: grimp.ImportGraph) -> list[str]:
    """Modules of which each imports the next and the last is the first; empty if there are none."""
    try:
        TopologicalSorter(
            {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
        ).prepare()
    except CycleError as error:
        return error.args[1][::-1]  # graphlib lists what is imported before what imports it
    return []


def upward(graph: grimp.ImportGraph, layers: Sequence[str]) -> list[str]:
    """Chains of imports from a lower layer to a higher one."""
    return sorted(
        " -> ".join((min(route.heads), *route.middle, min(route.tails)))
        for found in graph.find_illegal_dependencies_for_layers(layers=layers)
        for route in found.routes
    )


def forbidden(graph: grimp.ImportGraph, rules: Mapping[str, Sequence[str]]) -> list[str]:
    """Imports, by modules under a prefix, of what modules under it must not import."""
    return sorted(
        f"{module} -> {imported}"
        for prefix, banned in rules.items()
        for module in graph.modules
        if under(module, prefix)
        for imported in graph.find_modules_directly_imported_by(module)
        if any(under(imported, ban) for ban in banned)
    )


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return graph_of(*LAYERS)


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Write modules of two packages, `upper` and `lower`, and read their graph."""

    def build(**modules: str) -> grimp.ImportGraph:
        for package in ("upper", "lower", "lower/inner"):
            (tmp_path / package).mkdir(exist_ok=True)
            (tmp_path / package / "__init__.py").touch()
        for name, source in modules.items():
            (tmp_path / name.replace("__", "/")).with_suffix(".py").write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        return graph_of("upper", "lower")

    return build


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def under(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def long_functions(source: str) -> list[str]:
    functions = (n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))
    lengths = ((f.name, (f.end_lineno or f.lineno) - f.lineno + 1) for f in functions)
    return [f"{name}() has {length} lines" for name, length in lengths if length > MAX_FUNCTION]


def opens_truth(source: str) -> list[int]:
    """Lines that name the truth outside of classes that declare `oracle`."""
    tree = ast.parse(source)
    declared = {id(n) for kind in ast.walk(tree) if is_oracle(kind) for n in ast.walk(kind)}
    return [
        n.lineno for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "truth" and id(n) not in declared
    ]


def is_oracle(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and "oracle: ClassVar[bool] = True" in map(ast.unparse, node.body)


def test_no_modules_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    assert circle(graph) == []


def test_imports_point_one_way(graph: grimp.ImportGraph) -> None:
    assert upward(graph, LAYERS) == []
    assert forbidden(graph, FORBIDDEN) == []


def test_the_graph_holds_every_module_and_the_packages_that_are_forbidden(graph: grimp.ImportGraph) -> None:
    assert {name_of(path) for path in SOURCES} <= graph.modules
    assert {*FORBIDDEN, *(ban for banned in FORBIDDEN.values() for ban in banned)} <= graph.modules


@pytest.mark.parametrize("path", ALL_CODE, ids=name_of)
def test_files_and_functions_stay_short(path: Path) -> None:
    source = path.read_text()
    lines = len(source.splitlines())
    assert lines <= MAX_FILE, f"{name_of(path)} has {lines} lines: split it"
    assert long_functions(source) == []


@pytest.mark.parametrize("path", [p for p in SOURCES if any(under(name_of(p), t) for t in TRAINS)], ids=name_of)
def test_code_that_trains_never_reaches_for_the_truth(path: Path) -> None:
    assert opens_truth(path.read_text()) == []


def test_only_a_class_that_declares_oracle_may_name_the_truth() -> None:
    reads = "    def cost(self, episode):\n        return episode.truth.open()\n"
    oracle = "class A(Constraint):\n    oracle: ClassVar[bool] = True\n" + reads
    assert opens_truth(oracle) == []
    assert opens_truth(oracle + "class B(Constraint):\n" + reads) == [7]
    assert opens_truth(oracle.replace("True", "False")) == [4]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_are_named_for_their_job(path: Path) -> None:
    assert not {"manager", "helper", "helpers", "util", "utils", "misc", "common"} & set(path.stem.split("_"))


@pytest.mark.parametrize(
    "source",
    [
        "import upper.top",
        "from upper import top",
        "def late():\n    from upper.top import VALUE",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from upper.top import VALUE",
    ],
    ids=["module", "package", "in a function", "for types only"],
)
def test_an_import_from_below_is_seen_however_it_is_written(plant: Plant, source: str) -> None:
    graph = plant(upper__top="VALUE = 1", lower__bottom=source)
    assert upward(graph, ("upper", "lower")) == ["lower.bottom -> upper.top"]
    assert upward(graph, ("lower", "upper")) == [], "the other way round it is allowed"


@pytest.mark.parametrize("source", ["from . import bottom", "from .bottom import x", "import lower.bottom"])
def test_a_planted_circle_is_seen_also_where_only_types_close_it(plant: Plant, source: str) -> None:
    back = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lower.middle import y"
    assert circle(plant(lower__bottom="x = 1", lower__middle=source)) == []
    found = circle(plant(lower__bottom=back, lower__middle=source))
    assert found[0] == found[-1] and set(found) == {"lower.bottom", "lower.middle"}


def test_a_planted_import_of_a_forbidden_package_is_seen(plant: Plant) -> None:
    graph = plant(
        lower__inner__deep="def late():\n    import torch.nn as nn",
        lower__middle="from .inner import deep",
        lower__bottom="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torch import Tensor",
    )
    assert forbidden(graph, {"lower": ("torch",)}) == ["lower.bottom -> torch", "lower.inner.deep -> torch"]
    assert forbidden(graph, {"lower.inner": ("torch",)}) == ["lower.inner.deep -> torch"]
    assert forbidden(graph, {"lower.middle": ("lower.inner",)}) == ["lower.middle -> lower.inner.deep"]
    assert forbidden(graph, {"lower.middle": ("torch",), "upper": ("lower",)}) == []


def test_the_length_rule_counts_the_lines_of_a_function() -> None:
    assert long_functions("def f():\n" + "    x = 1\n" * MAX_FUNCTION) == [f"f() has {MAX_FUNCTION + 1} lines"]
    assert long_functions("def f():\n" + "    x = 1\n" * (MAX_FUNCTION - 1)) == []
