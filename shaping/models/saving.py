"""What else is saved with a model's weights: config, generation config and tokenizer. Faults of theirs show at load.

Transformers loads a `generation_config.json` with settings that have no effect, such as a temperature without sampling,
and refuses to save it, which would be after all training.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedModel

from shaping.models.log_once import log_once

LOG = logging.getLogger(__name__)
_DECIDE = ("do_sample", "num_beams", "num_beam_groups", "return_dict_in_generate")
"""Settings on which it depends what others mean."""


class SavingError(ValueError):
    """What belongs to a model cannot be saved."""


def saveable(config: GenerationConfig) -> tuple[GenerationConfig, list[str]]:
    """The config with all settings that can be saved together, and the names of those that it had to leave out.

    What is left out has no effect: decoding by the result is decoding by `config`.
    """
    with _quiet():
        if _valid(config):
            return config, []
        settings = config.to_diff_dict()
        settings.pop("transformers_version", None)
        kept = GenerationConfig()
        lost = []
        for name in sorted(settings, key=lambda name: (name not in _DECIDE, name)):
            before = getattr(kept, name, None)
            setattr(kept, name, settings[name])
            if not _valid(kept):
                setattr(kept, name, before)
                lost.append(name)
        return kept, lost


def mend_generation_config(model: PreTrainedModel, source: object) -> None:
    """Make the generation config of a loaded model one that can be saved, and log once what had to be left out."""
    config = getattr(model, "generation_config", None)
    if config is None:
        return
    model.generation_config, lost = saveable(config)
    line = f"{source}: generation_config.json: left out, as they have no effect together: {', '.join(lost)}"
    if lost:
        log_once(LOG, line)


def rehearse_saving(directory: Path) -> None:
    """Save all that is saved with the weights of a model into a temporary folder, and load it from there.

    Raises: `SavingError` that names what cannot be loaded or saved.
    """
    with tempfile.TemporaryDirectory(prefix="shaping-") as folder:
        for name, load in _PARTS.items():
            part = _attempt(partial(load, directory), f"{directory}: {name} cannot be loaded")
            if part is not None:
                said = f"{directory}: {name} cannot be saved again, so that the trained model would be lost"
                _attempt(partial(part.save_pretrained, folder), said)
        for name, load in _PARTS.items():
            _attempt(partial(load, Path(folder)), f"{directory}: {name} cannot be loaded once it was saved")


def _attempt(act: Callable[[], Any], failure: str) -> Any:
    try:
        return act()
    except Exception as error:  # transformers raises exceptions of many types
        said = " ".join(str(error).split())[:300]
        raise SavingError(f"{failure}: {type(error).__name__}: {said}") from error


def _generation_config(directory: Path) -> GenerationConfig | None:
    if not (directory / "generation_config.json").is_file():
        return None
    with _quiet():
        return saveable(GenerationConfig.from_pretrained(directory, local_files_only=True))[0]


_PARTS: dict[str, Callable[[Path], Any]] = {
    "config.json": lambda directory: AutoConfig.from_pretrained(
        directory, local_files_only=True, trust_remote_code=False
    ),
    "generation_config.json": _generation_config,
    "the tokenizer": lambda directory: AutoTokenizer.from_pretrained(
        directory, local_files_only=True, trust_remote_code=False
    ),
}


def _valid(config: GenerationConfig) -> bool:
    try:
        config.validate(strict=True)
    except (ValueError, TypeError):
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from warning of every attempt."""
    logger = logging.getLogger("transformers.generation.configuration_utils")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
