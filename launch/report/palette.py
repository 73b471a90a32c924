"""One colour, dash and marker per arm: hue tells the family, and nothing is told by colour alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from launch.config.arms.axes import arm_of
from launch.report.files.load import ArmInfo

#: Okabe and Ito's colours, safe for the common colour-vision deficiencies: warm for constraints, cool for motivations.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "unshaped": ("#222222",),
    "constraint": ("#d55e00", "#e69f00", "#a63603", "#c9a227"),
    "motivation": ("#0072b2", "#009e73", "#56b4e9", "#2c4f8c"),
    "mixed": ("#882255", "#cc79a7", "#aa4499"),
    "control": ("#767676", "#a8a29a", "#57534e", "#c4bfb8"),
}
SYMBOLS: Mapping[str, str] = {
    "unshaped": "star",
    "constraint": "square",
    "motivation": "circle",
    "mixed": "diamond",
    "control": "triangle-up",
}
FAMILY_LABELS: Mapping[str, str] = {
    "unshaped": "reference",
    "constraint": "action constraint",
    "motivation": "motivation shaping",
    "mixed": "both",
    "control": "control",
}
_DASHES = ("solid", "dash", "dot", "dashdot")
_FILLS = ("", "-open", "-dot", "-open-dot")


class Style(NamedTuple):
    colour: str
    dash: str
    symbol: str

    def tint(self, alpha: float) -> str:
        """The colour with an opacity, as CSS."""
        red, green, blue = (int(self.colour[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red},{green},{blue},{alpha})"


def styles(arms: Mapping[str, ArmInfo]) -> dict[str, Style]:
    """A style per arm. Points of one arm on the study's axes share its colour and differ in dash and filling."""
    taken: dict[str, list[str]] = {}
    points: dict[str, int] = {}
    found = {}
    for name, arm in arms.items():
        family = arm.group if arm.group in FAMILIES else "control"
        base = arm_of(name)
        members = taken.setdefault(family, [])
        if base not in members:
            members.append(base)
        index, point = members.index(base), points.get(base, 0)
        points[base] = point + 1
        colours = FAMILIES[family]
        dash = _DASHES[(index // len(colours) + point) % len(_DASHES)]
        found[name] = Style(colours[index % len(colours)], dash, SYMBOLS[family] + _FILLS[point % len(_FILLS)])
    return found
