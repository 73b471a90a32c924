"""The JSON schema of studies, by which editors complete and check keys; docs/study.md is written from it.

It is the schema of the models that read a study, with what they accept beside: bare names, built-in plug-ins by their
fields, worlds by their options. Plug-ins of one's own are allowed everywhere, with any fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel

from envs import WORLDS
from launch.config.plugins import CLAIM, INTERVENTION, MONITOR, REWARD, Kind, builtins, one_line
from launch.config.study import StudyConfig

_OWN: Final = {"type": "string", "pattern": ":", "description": "your own: package.module:Class or ./module.py:Class"}
#: Definition and key of it -> the kind of plug-in that it names.
_PLUGINS: Final[Mapping[tuple[str, str], Kind]] = {
    ("ArmConfig", "interventions"): INTERVENTION,
    ("ArmConfig", "seats"): INTERVENTION,
    ("ArmConfig", "reward"): REWARD,
    ("EvalConfig", "monitors"): MONITOR,
    ("", "claims"): CLAIM,
}


def study_schema() -> dict[str, Any]:
    """The schema, in draft 2020-12."""
    schema = StudyConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found = schema["$defs"]
    found["PluginSpec"] = {"anyOf": [{"type": "string", "minLength": 1}, found["PluginSpec"]]}
    for (name, key), kind in _PLUGINS.items():
        own = (found[name] if name else schema)["properties"]
        own[key] = _replaced(own[key], "#/$defs/PluginSpec", f"#/$defs/{kind.noun}")
        found[kind.noun] = _named(kind)
    for name in ("TrainConfig", "EvalConfig"):
        found[name]["properties"]["worlds"] |= _worlds()
    found["WorldOptions"] = {"type": "object", "description": "options of the world: `shaping list NAME` shows them"}
    grid = {"const": "grid", "description": "all of them"}
    contexts = found["EvalConfig"]["properties"]["contexts"]
    array = {key: contexts.pop(key) for key in ("items", "type", "maxItems", "minItems") if key in contexts}
    contexts["anyOf"] = [grid, array]
    _without_titles(schema)
    return schema | {"title": "A study"}


def _without_titles(part: Any) -> None:
    """Take out the names of our classes and those made of keys: editors offer them beside the keys themselves."""
    if isinstance(part, dict) and isinstance(part.get("title"), str):
        del part["title"]
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _without_titles(each)


def _named(kind: Kind) -> dict[str, Any]:
    """A built-in plug-in with its fields, or one of one's own with any."""
    classes = sorted(builtins(kind).items())
    names = {"enum": [name for name, _ in classes]}
    spec: dict[str, Any] = {
        "type": "object",
        "required": ["use"],
        "properties": {"use": {"anyOf": [names, {"type": "string"}], "description": f"the {kind.noun}"}},
        "allOf": [
            {
                "if": {"properties": {"use": {"const": name}}, "required": ["use"]},
                "then": {"description": one_line(each), "properties": fields_of(each, kind is CLAIM)},
            }
            for name, each in classes
        ],
    }
    return {"anyOf": [names, _OWN, {"type": "string", "description": "of an installed package"}, spec]}


def fields_of(kind: type, of_claim: bool = False) -> dict[str, Any]:
    """Field -> a short schema of it: what it is, and its default. Types are left to the program, which knows more."""
    if not issubclass(kind, BaseModel):
        return {}
    schema: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if of_claim and name == "id":
            continue
        schema[name] = {key: text for key in ("description",) if (text := getattr(field, key))}
        if not field.is_required() and isinstance(field.default, str | int | float | bool):
            schema[name]["default"] = field.default
    return schema


def _worlds() -> dict[str, Any]:
    """Worlds by name, so that editors know them; a locale or a class of one's own is any other key."""
    known = {name: {"$ref": "#/$defs/WorldOptions", "description": one_line(kind)} for name, kind in WORLDS.items()}
    return {"properties": known, "additionalProperties": {"type": "object"}}


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return new if value == old else value


def type_in_words(schema: Mapping[str, Any], section: Callable[[str], str] = str) -> str:
    """`whole number, ≥ 1`, `list of text`, `one of a, b`; a definition is what `section` calls it."""
    if "$ref" in schema:
        return section(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{each}`" for each in schema["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(type_in_words(each, section) for each in schema[key]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {type_in_words(schema.get('items', {}), section)}"
    if kind == "object":
        inner = next(iter(schema.get("patternProperties", {}).values()), schema.get("additionalProperties"))
        return f"name -> {type_in_words(inner, section)}" if isinstance(inner, dict) and inner else "mapping"
    words = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true or false",
        "null": "none",
    }
    return f"{words.get(kind, kind)}{_bounds(schema)}"


def _bounds(schema: Mapping[str, Any]) -> str:
    said: Iterable[str] = (
        f"{word} {schema[key]:g}"
        for key, word in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in schema
    )
    return "".join(f", {each}" for each in said)
