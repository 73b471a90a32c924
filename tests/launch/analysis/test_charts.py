"""Static charts: numbers stand where the axis says, and every text is escaped."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from launch.analysis.charts import Block, Line, Mark, forest_chart, line_chart
from launch.analysis.tokens import TokenStrip

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert(1)</script>" onload="x'


def test_a_forest_plot_has_means_and_intervals_to_scale(tmp_path: Path) -> None:
    marks = [Mark("a", 0.5, 0.0, 1.0), Mark("b", -1.0, math.nan, math.nan)]
    chart = forest_chart("effects", "difference", [Block("claim", marks)])
    root = ElementTree.fromstring(chart.save(tmp_path / "forest.svg").read_text())
    squares = [float(each.get("x", "")) + 4 for each in root.iter(f"{SVG}rect") if each.get("width") == "8"]
    zero = next(float(e.get("x1", "")) for e in root.iter(f"{SVG}line") if e.get("stroke") == "#888888")
    # the axis runs from -1 to 1, so that 0.5 is a quarter of it to the right of zero, and -1 is half of it to the left
    assert squares[0] - zero == pytest.approx((zero - squares[1]) / 2, abs=0.2)
    whiskers = [e for e in root.iter(f"{SVG}line") if e.get("stroke-width") == "1.6"]
    assert len(whiskers) == 1, "an effect without bounds has no interval"
    assert float(whiskers[0].get("x1", "")) == pytest.approx(zero)
    assert float(whiskers[0].get("x2", "")) - zero == pytest.approx(2 * (squares[0] - zero), abs=0.2)


def test_long_labels_take_more_lines_and_reach_no_mark() -> None:
    label = "deception, training options in steward: overseer_penalty minus the mean of inoculation and unshaped"
    endless = "no " * 200
    block = Block(endless, [Mark(label, 0.5, 0.0, 1.0), Mark(endless, -1.0, -2.0, 0.0, note=endless)])
    root = ElementTree.fromstring(forest_chart(endless, "x", [block]).svg)
    texts = [(float(e.get("x", "")), float(e.get("y", "")), e.text or "") for e in root.iter(f"{SVG}text")]
    own = [(y, text) for x, y, text in texts if x == 22]
    assert all(len(text) <= 46 for _, text in own) and " ".join(text for _, text in own[:3]) == label
    assert len({y for y, _ in own}) == 6 and own[-1][1].endswith("…")
    assert all(len(text) <= 130 for *_, text in texts)
    squares = [float(e.get("y", "")) for e in root.iter(f"{SVG}rect") if e.get("width") == "8"]
    assert squares[1] - squares[0] == 22 + 2 * 14, "the next row is below the lines of this one"


def test_a_curve_goes_through_its_points() -> None:
    chart = line_chart("t", "x", [Line("own", "#000000", [0, 1, 2], [0.0, 1.0, 2.0], [0.0] * 3, [2.0] * 3)])
    path = next(e for e in ElementTree.fromstring(chart.svg).iter(f"{SVG}path") if e.get("fill") == "none")
    points = [tuple(map(float, pair.split(","))) for pair in re.findall(r"[\d.]+,[\d.]+", path.get("d", ""))]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 - y1 == pytest.approx(y1 - y2, abs=0.2) and y2 < y0


def test_no_text_becomes_markup() -> None:
    forest = forest_chart(EVIL, EVIL, [Block(EVIL, [Mark(EVIL, 1.0, 0.0, 2.0, note=EVIL)])])
    lines = line_chart(EVIL, EVIL, [Line(EVIL, "#000000", [0, 1], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0])])
    for chart in (forest, lines):
        root = ElementTree.fromstring(chart.svg)
        assert not list(root.iter(f"{SVG}script")) and all("onload" not in e.attrib for e in root.iter())
    strip = TokenStrip([EVIL, "\u202eok"], [1.0, math.nan], EVIL)
    assert "<script" not in strip._repr_html_() and "\u202e" not in strip._repr_html_()


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ValueError, match="no finite effect"):
        forest_chart("t", "x", [Block("claim", [Mark("a", math.nan, math.nan, math.nan)])])
    with pytest.raises(ValueError, match="no finite point"):
        line_chart("t", "x", [])
