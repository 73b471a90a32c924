"""The renderer of a run: its model's chat template with the settings of `rollout`, checked before any play."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from launch.config.model import HubModel
from launch.config.plugins import build_arm
from launch.config.study import RunConfig
from launch.errors import ConfigError
from launch.run.models.start_model import present_model
from shaping.arm import Arm
from shaping.hooks import GroupInfo, Knob
from shaping.sampling.text.render import Renderer
from shaping.sampling.text.template import ChatTemplate, TemplateArgumentError, TemplateError, TemplateSettings

SHORT_THOUGHT = 256
"""Tokens in which few thoughts of reasoning models end."""
_DRAWS = 16
"""Draws of contexts that tell whether an arm trains under another one than it samples under."""


def renderer_of(run: RunConfig, tokenizer: PreTrainedTokenizerBase) -> Renderer:
    """Raises `ConfigError` for a template or for settings with which no conversation can be rendered."""
    try:
        renderer = Renderer(tokenizer, run.rollout.template_settings())
        renderer.open("be brief .", "hello .")
        if renderer.stable:
            renderer.extend("go on .", finished=True)
    except TemplateArgumentError as error:
        raise ConfigError(f"rollout.chat_template_kwargs: {error}") from error
    except TemplateError as error:
        raise ConfigError(f"model: {error}") from error
    except Exception as error:  # Jinja and the templates themselves raise exceptions of many types
        raise ConfigError(
            f"model: the chat template of {tokenizer.name_or_path!r} fails on a conversation of two turns "
            f"({type(error).__name__}: {error}): use an instruction-tuned model, or set its arguments in "
            "rollout.chat_template_kwargs"
        ) from error
    return renderer


def check_unbroken(run: RunConfig, arm: Arm, renderer: Renderer) -> None:
    """Raise `ConfigError` if an arm needs an episode to be one token sequence, and the template does not let it be."""
    if renderer.stable or not any(_swaps(run, arm.of(seat)) for seat in (run.seats.learned if run.seats else [""])):
        return
    kept = ChatTemplate(renderer.tokenizer, TemplateSettings("keep", renderer.template.settings.arguments)).stable
    remedy = "set rollout.thoughts to keep" if kept else "use a model whose template keeps earlier turns unchanged"
    raise ConfigError(
        f"arms.{run.arm}: it trains under another context than it samples under, or without text that opens "
        f"completions, for which an episode must be one token sequence, but the chat template of "
        f"{renderer.template.name!r} rewrites earlier turns: {remedy}"
    )


def _swaps(run: RunConfig, arm: Arm) -> bool:
    if Knob.EPISODE_CONTEXT in arm.owner:
        return True
    if not {Knob.TRAINING_CONTEXT, Knob.PREFILL} & {*arm.owner}:
        return False
    for number in range(_DRAWS):
        for world in run.train.worlds:
            info = GroupInfo(world=world, seed=number, group=number, update=0, prose=run.prose)
            sampling, training = arm.contexts(info, np.random.default_rng([run.seed, 4, number]))
            texts = arm.prefills(info, run.train.group_size, np.random.default_rng([run.seed, 4, number, 1]))
            if sampling.system != training.system or any(text and text.loss == "stripped" for text in texts):
                return True
    return False


def notes(run: RunConfig, renderer: Renderer) -> Iterator[str]:
    """What is particular about the template of a run, in sentences for the log."""
    yield from renderer.template.notes
    if run.max_tokens < SHORT_THOUGHT and renderer.template.thinks:
        switch = "enable_thinking" in renderer.template.arguments
        instead = ", or rollout.chat_template_kwargs to {enable_thinking: false}" if switch else ""
        yield (
            f"chat template: the model may think before it acts, and train.max_tokens is {run.max_tokens}: a "
            f"thought that is cut off holds no action; raise train.max_tokens{instead}"
        )


def record(renderer: Renderer) -> dict[str, Any]:
    """How text becomes tokens, for run.json."""
    template = renderer.template
    return {
        "default_system": template.default_system,
        "system_role": template.has_system,
        "clock": str(template.settings.clock) if template.reads_clock else None,
        "one_sequence": template.stable,
        "keeps_thoughts": template.keeps_thoughts,
        "opens_thought": bool(template.opened),
    }


def check_templates(runs: Iterable[RunConfig]) -> None:
    """Render with the templates of all models that are on this machine already. Raises `ConfigError`.

    Organisms have no particular template, but a study may still give it arguments.
    """
    seen: dict[str, Renderer] = {}
    for run in runs:
        if not isinstance(run.model, str | HubModel):
            continue
        path = present_model(run.model)
        if path is None:
            continue
        if (key := f"{path} {run.rollout!r}") not in seen:
            seen[key] = renderer_of(run, load_tokenizer(path))
        if not seen[key].stable:
            check_unbroken(
                run, build_arm(run.arm, run.arm_config, run.isolation, run.learner.ratio, run.seats), seen[key]
            )


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(path, local_files_only=True)
