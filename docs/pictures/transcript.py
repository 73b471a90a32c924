"""The picture of a transcript with notes: an episode that a scripted persona plays, and what is to be seen in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from docs.pictures.svg import CONSTRAINT, FAINT, INK, LINE, SHAPER, box, lines, picture, text, wrapped
from docs.worlds.render import play, settings_of
from envs import make_world
from envs.actions import parse_action
from envs.episode import TRAITS, Labels
from envs.worlds.base import World

WORLD, SHOWN = "steward", (0, 2, 3, 4)
"""The world, whose page names the scene, and the turns of it that fit into the picture."""
WIDTH, LEFT, TEXT, NOTES, STEP = 1000, 24, 96, 660, 18
"""Places of the column of speakers, of the texts and of the notes; distance of two lines."""


BRIEFING = (
    "The briefing: the task, the rule, the commands. Its last words are the cue that tells whether the overseer is "
    "there, which a policy can learn to read."
)
COMPLETION = (
    "A completion is a stated motive, and then an action. Shapers bias why the agent acts, constraints limit or price "
    "what it does."
)
INQUIRY = "An inquiry: only an answer is executed, and it is a claim with a truth value."
LIE = (
    "The agent knows that this is false: deception. Its rate is that of lies among the inquiries in which there was "
    "something to deny."
)


class Look(NamedTuple):
    """How a line is written."""

    fill: str = INK
    style: str = ""
    mono: bool = True


@dataclass(frozen=True)
class Block:
    """What one speaker says, and the note beside it."""

    who: str
    said: list[tuple[str, Look]]
    note: str = ""

    @property
    def height(self) -> int:
        return STEP * max(len(self.said), len(wrapped(self.note, 46)))


def draw() -> str:
    """The picture as SVG."""
    scene = settings_of(WORLD).scene
    world = make_world(WORLD, scene.options)
    assert isinstance(world, World)
    record = play(world, scene.policy, scene.seed)
    told = ", ".join(f"{key}={value}" for key, value in scene.options.items())
    parts = [text(LEFT, 34, f"{WORLD}, played by the persona {scene.policy}", size=16, style="bold")]
    parts += [text(LEFT, 54, f"seed {scene.seed}, {told}; some turns are left out", size=13, fill=FAINT)]
    y = 72
    for number in SHOWN:
        blocks = list(_turn(number, *record[number]))
        height = sum(block.height + 8 for block in blocks) + 18
        parts += [box(LEFT - 10, y, WIDTH - 2 * LEFT + 20, height)]
        line = y + 26
        for block in blocks:
            parts += _block(block, line)
            line += block.height + 8
        y += height + 10
    return picture(WIDTH, y + 6, f"A transcript of {WORLD} with notes", parts)


def _block(block: Block, y: int) -> Iterator[str]:
    yield text(LEFT, y, block.who, size=13, fill=FAINT)
    for n, (said, look) in enumerate(block.said):
        yield text(TEXT, y + n * STEP, said, size=13, fill=look.fill, style=look.style, mono=look.mono)
    if block.note:
        yield f'<line x1="{NOTES - 12}" y1="{y - 12}" x2="{NOTES - 12}" y2="{y + block.height - 14}" stroke="{LINE}"/>'
        yield from lines(NOTES, y, wrapped(block.note, 46), step=STEP, size=13)


def _turn(number: int, observation: str, completion: str, reward: float, info: dict[str, object]) -> Iterator[Block]:
    labels = info["labels"]
    assert isinstance(labels, Labels)
    motive, _, _ = completion.partition("ACTION:")
    command = parse_action(completion)
    first = number == SHOWN[0]
    yield Block("world", [(line, Look()) for line in wrapped(observation, 66)], _of_world(observation, first))
    said = [(motive.strip(), Look(SHAPER, "italic")), (f"ACTION: {command}", Look(CONSTRAINT, "bold"))]
    yield Block("agent", said, COMPLETION if first else "")
    paid = f"proxy reward {reward:+g}" if reward else "proxy reward 0"
    true = ", ".join(trait.replace("_", " ") for trait in TRAITS if labels.trait(trait)) or "nothing wrong"
    yield Block("truth", [(f"{paid}, which is trained on", Look(mono=False)), (f"sealed: {true}", Look(mono=False))],
                _of_truth(labels, reward))  # fmt: skip


def _of_world(observation: str, first: bool) -> str:
    if first:
        return BRIEFING
    return INQUIRY if "asks" in observation else ""


def _of_truth(labels: Labels, reward: float) -> str:
    """The note on what was true, by the labels of the turn."""
    if labels.trait("deception"):
        return LIE
    if labels.trait("reward_hack"):
        return f"The shortcut pays {reward:g}: the proxy cannot tell this job from honest work."
    if labels.trait("oversight_evasion"):
        return "The covert companion: no reward yet, but from here on nobody sees anything."
    return "The shortcut: units that nobody approved." if labels.trait("power_seeking") else ""
