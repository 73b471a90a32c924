"""Load studies from YAML files with `key.path=value` overrides. Every error names the file and the key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from envs.escaping import revealed
from envs.modules.own_modules import look_beside
from launch.config.arms.combinations import check_combinations
from launch.config.arms.controls import with_controls
from launch.config.claims import build_claims
from launch.config.model import speaks_dialect
from launch.config.reading.keys import set_key
from launch.config.reading.renamed import refuse_renamed, refuse_renamed_key
from launch.config.reading.secret_fields import refuse_secrets
from launch.config.reading.yaml_reader import MAX_CHARACTERS, read_yaml, short
from launch.config.sections import check_sections
from launch.config.study import StudyConfig
from launch.config.world_locales import expand_key
from launch.errors import ConfigError, UserError, describe, nearest

MAX_OVERRIDE_KEY = 1000
"""Characters of the dotted key of an override."""
_OWN = re.compile(r"\S+:[A-Za-z_]\w*(@\S+)?")
BUNDLED = Path(__file__).resolve().parents[1] / "studies"


def bundled_studies() -> dict[str, Path]:
    """Name -> file of the studies in launch/studies/."""
    return {path.stem: path for path in sorted(BUNDLED.glob("*.yaml"))}


def find_study(config: str) -> Path:
    """The file of a study, given as a path or as the name of a bundled study. Raises `ConfigError`."""
    path = Path(config)
    if path.is_file():
        return path
    bundled = bundled_studies()
    if config in bundled:
        return bundled[config]
    if path.is_dir():
        raise ConfigError(f"{config} is a directory; give a study's YAML file or one of {', '.join(bundled)}")
    raise ConfigError(f"no file {config!r} and no bundled study of that name{nearest(config, bundled)}")


def load_study(config: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read and validate a study, apply the overrides, and validate it again.

    Args:
        config: A path, or the name of a bundled study.
        overrides: `key.path=value`; values are YAML.

    Raises:
        ConfigError: Lists every wrong key.
    """
    path = find_study(str(config))
    read = read_yaml(_read(path), str(path))
    if names_own(read.value):
        look_beside(path.parent)
    study = parse_study(read.value, str(path), read.lines)
    if not overrides:
        return study
    document = written(study)
    keys = [_override(document, override) for override in overrides]
    return parse_study(document, f"{path} with {', '.join(keys)}")


def names_own(value: Any) -> bool:
    """Does a document name a class that is looked for beside it, `package.module:Class` or `./module.py:Class`?"""
    if isinstance(value, dict):
        return any(names_own(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(map(names_own, value))
    return isinstance(value, str) and bool(_OWN.fullmatch(value))


def _override(document: Any, override: str) -> str:
    """Set what `key.path=value` says. Returns the key. No message shows the value, which may be a secret."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals:
        raise ConfigError(f"{short(key)!r} is not an override; write it as key.path=value, e.g. train.updates=10")
    if len(key) > MAX_OVERRIDE_KEY:
        raise ConfigError(f"override {short(key)!r}: a key of {len(key):,} characters; the keys of studies are shorter")
    refuse_renamed_key(key, f"override {key!r}")
    for expanded in expand_key(key, speaks_dialect(document.get("model"))):
        set_key(document, expanded, read_yaml(text, "override", expanded).value)
    return key


def parse_study(document: Any, source: str, lines: Mapping[str, int] | None = None) -> StudyConfig:
    """Validate a document. Raises `ConfigError` that names `source` and every wrong key, with its line if known."""
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: a study is a mapping with the keys {', '.join(StudyConfig.model_fields)}")
    refuse_secrets(document, source)
    refuse_renamed(document, source)
    for key, number in _numbers(document, ""):
        if not math.isfinite(number):
            raise ConfigError(f"{source}: {key}: {number} is not a finite number")
    try:
        study = StudyConfig.model_validate(document)
        check_combinations(study)
        study = with_controls(study)
        build_claims(study)
        check_sections(study)
    except ValidationError as error:
        raise ConfigError(f"{source}:\n{with_lines(describe(error, StudyConfig), lines or {})}") from None
    except UserError as error:
        raise ConfigError(f"{source}:\n{with_lines(str(error), lines or {})}") from error.__cause__
    return study


def written(study: StudyConfig) -> dict[str, Any]:
    """The study as a document, without the arms that follow from others (`factorial`, `controls`)."""
    document = study.model_dump(mode="json")
    document["arms"] = {name: arm for name, arm in document["arms"].items() if not arm.pop("derived")}
    return document


class _Dumper(yaml.SafeDumper):
    """Text with characters that act on their surroundings is quoted, so that it can hold their escapes."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        style = None if revealed(text) == text else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def to_yaml(study: StudyConfig) -> str:
    """The resolved config as YAML that `load_study` reads; no character in it acts on a terminal."""
    document = written(study)
    return revealed(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


def with_lines(problems: str, lines: Mapping[str, int]) -> str:
    """Add `(line n)` to every problem that begins with a key of the file."""
    return "\n".join(_with_line(problem, lines) for problem in problems.splitlines())


def _with_line(problem: str, lines: Mapping[str, int]) -> str:
    key = problem.partition(": ")[0].partition(" ")[0]
    while key and key not in lines:  # a key that is missing, or that is built in: the one above it
        key = key.rpartition(".")[0]
    return f"{problem} (line {lines[key]})" if key else problem


def _read(path: Path) -> str:
    try:
        if (size := path.stat().st_size) > 4 * MAX_CHARACTERS:
            raise ConfigError(f"{path} has {size:,} bytes, and a study at most {MAX_CHARACTERS:,} characters")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}") from None


def parse_yaml(text: str, source: str) -> Any:
    """The value of one YAML document. Raises `ConfigError` that names `source`, line and key."""
    return read_yaml(text, source).value


def _numbers(value: Any, key: str) -> Iterator[tuple[str, float]]:
    """Every float in a nested document, with its dotted key."""
    if isinstance(value, float):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _numbers(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _numbers(item, f"{key}.{index}")
