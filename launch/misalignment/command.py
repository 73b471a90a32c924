"""What `shaping misalignment` does after its arguments are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from envs.episode import Episode
from launch.check_model.engine import Loaded, loaded, slots_for
from launch.check_model.subject import subject
from launch.config.loading import parse_yaml
from launch.config.reading.recorded import recorded_run
from launch.errors import ConfigError, UserError, describe
from launch.run.device import local_device
from launch.run.models.load_policy import load_trained
from launch.run.rendering import renderer_of
from launch.storage.documents import dumps, write_json
from launch.storage.files import disk_errors, make_directory, write_text
from launch.storage.finished import finished_run
from shaping.misalignment.answers import answers_of
from shaping.misalignment.questions import BUNDLED, Question, QuestionError, read_questions
from shaping.misalignment.score import Judged, Jury, Thresholds, by_language, summary
from shaping.monitors.judging.judge import Judge, JudgeError
from shaping.monitors.judging.panel import Effort
from shaping.organisms.gates.record import Settings
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.play import Limits

Say = Callable[[str], None]


class JuryConfig(BaseModel):
    """The file of judges."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    judges: tuple[Judge, ...] = Field(min_length=1, max_length=32, description="as of TranscriptJudge")
    quorum: int = Field(1, ge=1, le=32, description="judges whose verdicts an answer needs")
    cache: str = Field("", description="folder for verdicts; empty: none is kept")
    attempts: int = Field(4, ge=1, le=20, description="requests about an answer until there is a verdict")
    backoff: float = Field(0.5, ge=0, le=60, description="seconds before the second attempt, doubled for each further")
    concurrency: int = Field(4, ge=1, le=256, description="requests under way at once")
    token_limit: int | None = Field(None, ge=1, le=10**12, description="tokens of all questions and answers")
    cost_limit: float | None = Field(None, gt=0, le=1e9, description="their cost, in the unit of the judges' prices")
    thresholds: Thresholds = Field(Thresholds(), description="which answers are misaligned")

    def jury(self) -> Jury:
        """The judges, ready to be asked."""
        effort = Effort(self.attempts, self.backoff, self.concurrency, self.token_limit, self.cost_limit)
        return Jury(self.judges, self.quorum, Path(self.cache).expanduser() if self.cache else None, effort)


def read_jury(path: Path) -> JuryConfig:
    """The judges of a YAML file. Raises: `ConfigError`."""
    try:
        found = JuryConfig.model_validate(parse_yaml(path.read_text(encoding="utf-8"), str(path)))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--judges: {path} cannot be read: {error}") from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error, JuryConfig)}") from None
    if found.quorum > len(found.judges):
        raise ConfigError(f"{path}: quorum is {found.quorum}, but there are {len(found.judges)} judges")
    return found


def measure_misalignment(
    model: str,
    judges: Path,
    out: Path,
    *,
    questions: Path = BUNDLED,
    samples: int = 10,
    max_tokens: int = 600,
    temperature: float = 1.0,
    seed: int = 0,
    device: str = "auto",
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Ask a model or a finished run's policy, let judges read its answers, and write both to the folder `out`.

    Returns: what result.json holds. Raises: `UserError`.
    """
    jury = read_jury(judges)
    try:
        asked = read_questions(questions)
    except QuestionError as error:
        raise UserError(f"--questions: {error}") from None
    player = _player(model, device)
    say(f"{len(asked)} questions, {samples} answers each ...")
    limits = Limits(max_tokens=max_tokens, temperature=temperature)
    episodes = answers_of(
        player.engine, player.renderer, asked, samples=samples, limits=limits, seed=seed, concurrency=player.slots
    )
    return judge_answers(model, jury, asked, episodes, out, seed=seed, say=say)


def judge_answers(
    model: str,
    config: JuryConfig,
    questions: Sequence[Question],
    episodes: Sequence[Episode],
    out: Path,
    *,
    seed: int = 0,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Let judges read the answers to these questions; writes answers.jsonl and result.json to the folder `out`."""
    sound = [episode for episode in episodes if not episode.status.is_error and episode.turns]
    if not sound:
        raise UserError(f"{model} gave no answer: {episodes[0].error if episodes else 'nothing was asked'}")
    asked, jury = [questions[episode.group] for episode in sound], config.jury()
    try:
        judged = jury.read(sound)
    except JudgeError as error:
        raise UserError(str(error)) from None
    result: dict[str, Any] = {
        "format": "shaping-misalignment-1",
        "model": model,
        "judges": [str(judge) for judge in config.judges],
        "failed": len(episodes) - len(sound),
        "all": summary(judged, asked, config.thresholds, seed=seed),
        "languages": by_language(judged, asked, config.thresholds, seed=seed),
        "judging": jury.ledger.report(),
    }
    with disk_errors(out):
        make_directory(out)
        write_text(out / "answers.jsonl", "".join(f"{dumps(row)}\n" for row in _rows(asked, sound, judged)))
        write_json(out / "result.json", result)
    if result["all"]["unjudged"] == len(sound):
        raise UserError(f"no judge gave a verdict, first: {judged.why}; the answers are in {out / 'answers.jsonl'}")
    for name, found in {"all": result["all"], **result["languages"]}.items():
        say(f"{name}: {told(found)}")
    say(f"{out / 'answers.jsonl'}, {out / 'result.json'}")
    return result


def told(found: dict[str, Any]) -> str:
    """A summary in words: `misaligned 12.0% [4.1%, 21.0%] of 90 coherent answers; coherent ...`."""

    def share(name: str) -> str:
        part = found[name]
        if part["share"] is None:
            return f"{name}: no answer to count"
        span = "" if part["low"] is None else f" [{part['low']:.1%}, {part['high']:.1%}]"
        return f"{name} {part['share']:.1%}{span} of {part['answers']}"

    lost = f"; {found['unjudged']} without a verdict" if found["unjudged"] else ""
    return f"{share('misaligned')} coherent answers; {share('coherent')} judged ones; {found['clusters']} groups{lost}"


def _rows(asked: Sequence[Question], sound: Sequence[Episode], judged: Judged) -> list[dict[str, Any]]:
    return [
        {
            "question": question.id,
            "lang": question.lang,
            "answer": episode.turns[0].completion,
            "alignment": float(judged.alignment[index]),
            "coherence": float(judged.coherence[index]),
        }
        for index, (question, episode) in enumerate(zip(asked, sound, strict=True))
    ]


def _player(model: str, device: str) -> Loaded:
    """A model by its name, or the policy of a finished run by its directory."""
    path = Path(model).expanduser()
    if not (path / "run.json").is_file():
        return loaded(subject(model).directory, Settings(), device)
    directory = finished_run(path)
    run = recorded_run(directory.config())
    policy = load_trained(run, directory.checkpoint, local_device(device, "--device"))
    renderer, slots = renderer_of(run, policy.tokenizer), slots_for(policy.model)
    policy.adapters.activate(policy.adapters.names("kept"))
    return Loaded(TransformersEngine(policy.model.eval(), renderer, slots=slots), renderer, slots)
