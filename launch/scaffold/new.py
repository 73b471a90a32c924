"""`shaping new`: write the files of a plug-in or of a study into a folder."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from launch.errors import UserError
from launch.scaffold.templates import KINDS, Names, Part, check_names, code, known_kind, names_of, study, test_code

SCHEMA = "study.schema.json"
_BASES = {kind.capitalize(): kind for kind in KINDS if kind != "study"}


def write_new(kind: str, name: str, folder: Path) -> list[Path]:
    """Write the file and its test. Returns what was written; no file is ever replaced.

    A study names the plug-ins that lie in the folder, and gets the schema by which editors complete its keys.

    Raises: `UserError` for a kind or a name that does not go, and for files that are there already.
    """
    known_kind(kind)
    names = names_of(name)
    if kind == "study":
        files = {
            folder / f"{names.module}.yaml": study(names, list(parts_in(folder)), f"./{SCHEMA}"),
            folder / f"test_{names.module}.py": test_code(kind, names),
        }
        if not (folder / SCHEMA).exists():
            files[folder / SCHEMA] = schema_text()
    else:
        check_names(kind, names)
        files = {
            folder / f"{names.module}.py": code(kind, names),
            folder / f"test_{names.module}.py": test_code(kind, names),
        }
    if there := [file for file in files if file.exists()]:
        raise UserError(f"{there[0]} is there already: choose another name or --folder, or move it away")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: it cannot be written to: {error}") from None
    return list(files)


def parts_in(folder: Path) -> Iterator[Part]:
    """The plug-ins that the modules of a folder define, by the names of the base classes. Nothing is imported."""
    for file in sorted(folder.glob("*.py")):
        if file.name.startswith("test_"):
            continue
        try:
            statements = ast.parse(file.read_text(encoding="utf-8")).body
        except (OSError, SyntaxError, ValueError):  # no module of anybody's
            continue
        for statement in statements:
            if isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
                bases = [base.id for base in statement.bases if isinstance(base, ast.Name)]
                for kind in (_BASES[base] for base in bases if base in _BASES):
                    yield Part(kind, f"{file.stem}:{statement.name}", Names(*names_of(statement.name)).module)


def schema_text() -> str:
    """The JSON schema of studies."""
    from launch.config.schema import study_schema

    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"
