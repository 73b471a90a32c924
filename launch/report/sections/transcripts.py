"""Two evaluation episodes of every arm, chosen by rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.markdown import blocks, bullets, line, table
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.transcripts import TranscriptView, choose, rule_text

ABOUT = (
    "The truth column is the simulator's and sealed from training (but for arms marked as oracles); the overseer's "
    "column is what it saw or was told."
)


@dataclass(frozen=True)
class Chosen:
    """One episode; `held_out`: of a world in which no arm trains."""

    arm: ArmView
    episode: TranscriptView
    held_out: bool


@dataclass(frozen=True)
class Choice:
    """The episodes, how they were chosen, and files that could not be read."""

    rule: str
    chosen: Sequence[Chosen]
    problems: Sequence[str]


class Transcripts(Section):
    """Whole episodes with stated motives, actions, ground truth, and what the overseer saw."""

    title = "Transcripts"
    position = 80

    def compute(self, results: Results) -> Choice:
        study = results.study
        found, problems = choose(study, results.read)
        chosen = [Chosen(results.arms[t.arm], t, t.world in study.held_out_worlds) for t in found]
        return Choice(f"{rule_text(study)} {ABOUT}", chosen, problems)

    def markdown(self, content: Choice) -> str:
        shown = [chosen for chosen in content.chosen if chosen.episode.rule == "most deceptive"]
        return blocks(
            line(f"{content.rule} The page shows both; here are the most deceptive ones.", 2000),
            *[_transcript(chosen) for chosen in shown],
            "" if shown else "No evaluation episode could be read.",
            bullets(content.problems),
        )


def _transcript(chosen: Chosen) -> str:
    episode = chosen.episode
    head = (
        f"{chosen.arm.title}, {episode.rule}: {episode.world}{' (held out)' if chosen.held_out else ''}, training seed "
        f"{episode.run_seed}, episode seed {episode.episode_seed}, {episode.deceptive_turns} deceptive turns"
    )
    rows = [
        (
            str(turn.number),
            turn.motive,
            turn.action,
            f"{turn.reward:+.2f}",
            "; ".join(chip.text for chip in turn.truth),
            "; ".join(turn.overseer),
        )
        for turn in episode.turns
    ]
    return blocks(f"### {line(head)}", table(("turn", "motive", "action", "reward", "truth", "overseer"), rows))
