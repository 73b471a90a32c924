"""Load studies from YAML files with `key.path=value` overrides. Every error names the file and the key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from launch.config.claims import build_claims
from launch.config.keys import set_key
from launch.config.renamed import refuse_renamed, refuse_renamed_key
from launch.config.sections import check_sections
from launch.config.study import StudyConfig
from launch.config.world_locales import expand_key
from launch.errors import ConfigError, UserError, describe, nearest

BUNDLED = Path(__file__).resolve().parents[1] / "studies"


class _Loader(yaml.SafeLoader):
    """Safe YAML. Only true and false are booleans (`placebo: [on, off]` is text), and no key may occur twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int)):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} occurs twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_BOOLEAN = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


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
    study = parse_study(parse_yaml(_read(path), str(path)), str(path))
    if not overrides:
        return study
    document = study.model_dump(mode="json")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"{override!r} is not an override; write it as key.path=value, e.g. train.updates=10")
        refuse_renamed_key(key.strip(), f"override {override!r}")
        for expanded in expand_key(key.strip()):
            set_key(document, expanded, parse_yaml(value, f"override {override!r}"))
    return parse_study(document, f"{path} with {' '.join(overrides)}")


def parse_study(document: Any, source: str) -> StudyConfig:
    """Validate a document. Raises `ConfigError` that names `source` and every wrong key."""
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: a study is a mapping with the keys {', '.join(StudyConfig.model_fields)}")
    refuse_renamed(document, source)
    for key, number in _numbers(document, ""):
        if not math.isfinite(number):
            raise ConfigError(f"{source}: {key}: {number} is not a finite number")
    try:
        study = StudyConfig.model_validate(document)
        build_claims(study)
        check_sections(study)
    except ValidationError as error:
        raise ConfigError(f"{source}:\n{describe(error, StudyConfig)}") from None
    except UserError as error:
        raise ConfigError(f"{source}:\n{error}") from error.__cause__
    return study


def to_yaml(study: StudyConfig) -> str:
    """The resolved config as YAML that `load_study` reads."""
    return yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}") from None


def parse_yaml(text: str, source: str) -> Any:
    """Parse one YAML document of a study. Raises `ConfigError` that names `source` and line."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{source}{place}: {getattr(error, 'problem', None) or error}") from None


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
