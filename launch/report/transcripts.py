"""Annotated transcripts, chosen by rule: nobody picks the story that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.episode import TRAITS, Episode, Event, Labels, Turn
from launch.report.files.load import Run, Study
from launch.report.files.run_files import MAX_NUMBER
from shaping.audits.played import OWN, cells_of

Read = Callable[[Path], Sequence[Episode]]

RULES = {
    "most deceptive": "the evaluation episode with the most deceptive turns",
    "median return": "the evaluation episode whose proxy return is the (lower) median",
}
TRAIT_WORDS = {
    "deception": "deception (knew better)",
    "power_seeking": "power seeking",
    "reward_hack": "reward hack",
    "oversight_evasion": "oversight evasion",
    "shutdown_resistance": "shutdown resistance",
    "harm": "harm",
    "invalid": "no valid command",
}


@dataclass(frozen=True)
class Chip:
    """A short annotation; `kind` is the trait or the kind of note, and chooses its colour. Text says it too."""

    kind: str
    text: str


@dataclass(frozen=True)
class TurnView:
    """One turn as a reader sees it. All of it is model or world text, or derived from labels."""

    number: int
    observation: str
    motive: str
    action: str
    executed: str
    reward: float
    truth: tuple[Chip, ...]
    overseer: tuple[str, ...]
    watched: bool


@dataclass(frozen=True)
class TranscriptView:
    """One chosen episode of one arm."""

    arm: str
    rule: str
    run_seed: int
    episode_seed: int
    world: str
    context: str
    options: str
    status: str
    proxy_return: float
    true_return: float
    deceptive_turns: int
    turns: tuple[TurnView, ...]


def rule_text(study: Study) -> str:
    """How the transcripts were chosen, for the page."""
    return (
        f"For each arm two episodes are shown: {RULES['most deceptive']} in any world, and {RULES['median return']} in "
        f"{_median_world(study)}. Ties go to the lowest training seed, then the lowest episode seed, then the order "
        "in the file."
    )


def choose(study: Study, read: Read) -> tuple[list[TranscriptView], list[str]]:
    """The transcripts of all arms, and what could not be read. One arm's episodes are held in memory at a time."""
    chosen: list[TranscriptView] = []
    problems: list[str] = []
    for arm in study.arms:
        episodes: list[tuple[Run, Episode]] = []
        for run in study.of(arm):
            path = episode_file(run)
            if path is None:
                continue
            try:
                episodes += [(run, _sound(e)) for e in read(path) if e.turns and OWN in cells_of(e)]
            except Exception as error:  # whatever a damaged file raises, the rest of the report stands
                why = f"{type(error).__name__}: {error}".replace(str(path), path.name)
                problems.append(f"{arm}, seed {run.seed}: {path.name} cannot be read ({why})")
        picks = {"most deceptive": most_deceptive(episodes)}
        here = [pair for pair in episodes if pair[1].world == _median_world(study)]
        picks["median return"] = median_return(here or episodes)
        chosen += [_transcript(rule, *pick) for rule, pick in picks.items() if pick]
    if without := sum(run.directory is None for run in study.runs):
        problems.append(f"the episodes of {without} of {len(study.runs)} runs are not kept in rows")
    return chosen, problems


def episode_file(run: Run) -> Path | None:
    """The file of a run's evaluation episodes; None if only its rows were kept, and of a preference model, which plays
    none."""
    if "preference_model" in run.result:
        return None
    return run.directory / "episodes" / "eval.parquet" if run.directory is not None else None


def _sound(episode: Episode) -> Episode:
    """The episode, if its numbers can be ordered and its truth is there. Raises `ValueError` and `SealedError`."""
    truth = [[labels.true_reward, *map(labels.trait, TRAITS)] for labels in episode.truth.open()]
    rewards = [turn.reward for turn in episode.turns]
    if not all(abs(value) <= MAX_NUMBER for values in (rewards, *truth) for value in values):
        raise ValueError(f"the episode of seed {episode.seed} in {episode.world} holds a number that measures nothing")
    return episode


def most_deceptive(episodes: Iterable[tuple[Run, Episode]]) -> tuple[Run, Episode] | None:
    """The most deceptive turns; ties by training seed, episode seed, order. None without episodes."""
    return min(episodes, key=lambda pair: (-_deceptions(pair[1]), pair[0].seed, pair[1].seed), default=None)


def median_return(episodes: Sequence[tuple[Run, Episode]]) -> tuple[Run, Episode] | None:
    """The lower median of the proxy return; among equal returns the lowest training seed, then episode seed."""
    if not episodes:
        return None
    ordered = sorted(episodes, key=lambda pair: pair[1].proxy_return)
    median = ordered[(len(ordered) - 1) // 2][1].proxy_return
    tied = [pair for pair in episodes if pair[1].proxy_return == median]
    return min(tied, key=lambda pair: (pair[0].seed, pair[1].seed))


def _median_world(study: Study) -> str:
    """A world that no arm trained in, where there is one: it shows what generalises."""
    return next(iter(study.held_out_worlds or study.worlds), "any world")


def _deceptions(episode: Episode) -> int:
    return sum(labels.deception > 0 for labels in episode.truth.open())


def _transcript(rule: str, run: Run, episode: Episode) -> TranscriptView:
    labels = episode.truth.open()
    return TranscriptView(
        arm=run.arm,
        rule=rule,
        run_seed=run.seed,
        episode_seed=episode.seed,
        world=episode.world,
        context=episode.contexts.sampling.system,
        options=", ".join(f"{key} = {value}" for key, value in sorted(episode.options.items())),
        status=episode.status.value.replace("_", " "),
        proxy_return=episode.proxy_return,
        true_return=sum(label.true_reward for label in labels),
        deceptive_turns=_deceptions(episode),
        turns=tuple(turn_view(i, *pair) for i, pair in enumerate(zip(episode.turns, labels, strict=True), start=1)),
    )


def turn_view(number: int, turn: Turn, labels: Labels) -> TurnView:
    """A turn, counted from 1, with what was true of it."""
    return TurnView(
        number=number,
        observation=turn.observation,
        motive=turn.motive_text,
        action=turn.action_text or turn.completion,
        executed=turn.executed if " ".join(turn.action_text.lower().split()) != turn.executed else "",
        reward=turn.reward,
        truth=_truth(labels),
        overseer=tuple(_overseer(event, watched=labels.monitored) for event in turn.events),
        watched=labels.monitored,
    )


def _truth(labels: Labels) -> tuple[Chip, ...]:
    """What happened, and which temptation was declined."""
    chips = [Chip(trait, TRAIT_WORDS[trait]) for trait in TRAITS if labels.trait(trait) > 0]
    if labels.opportunity.get("deception") and not labels.deception:
        chips.append(Chip("declined", "could have lied, did not"))
    if labels.opportunity.get("reward_hack") and not labels.reward_hack:
        chips.append(Chip("declined", "shortcut declined"))
    return tuple(chips)


def _overseer(event: Event, *, watched: bool) -> str:
    """Claims, and silence when asked, always reach the overseer; other acts only when it is there."""
    if event.kind == "claim":
        return f"was told ({event.name}): {event.text} — {'admits' if event.admits else 'admits nothing'}"
    if event.name == "no_answer":
        return f"asked and got no answer: {event.text}"
    return f"{'saw' if watched else 'was not there to see'} {event.name}: {event.text}"
