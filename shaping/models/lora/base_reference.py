"""Which model adapters belong to: its name, the revision on the hub, and hashes of its files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shaping.models import model_files

BASE = "base.json"
"""Name of the file beside an adapter's weights."""
_WEIGHTS = (".safetensors", ".safetensors.index.json")


class BaseReference(BaseModel):
    """A model that is not copied."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="a directory, the id of a model on the hub, or the name of an organism")
    revision: str = Field("", description="commit of the hub's repository; empty for other models")
    hash: str = Field(description="one hash of all files")
    files: dict[str, str] = Field(description="file name -> hash of its bytes")

    @classmethod
    def of(cls, directory: Path, name: str = "") -> BaseReference:
        """The reference to the model in `directory`; `name`: what it is called, if not by its directory."""
        files = model_files.hashes(directory)
        total = hashlib.blake2b(json.dumps(files, sort_keys=True).encode(), digest_size=16).hexdigest()
        return cls(name=name or str(directory), revision=revision_of(directory), hash=total, files=files)

    @classmethod
    def read(cls, directory: Path) -> BaseReference | None:
        """The reference beside an adapter; None if there is none. Raises: ValueError if it cannot be read."""
        path = directory / BASE
        try:
            return cls.model_validate_json(path.read_bytes()) if path.is_file() else None
        except (OSError, ValidationError) as error:
            raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error

    def write(self, directory: Path) -> None:
        """Write the reference beside an adapter."""
        (directory / BASE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def differences(self, directory: Path, *, weights_only: bool = False) -> list[str]:
        """How the model in `directory` differs from this one: its files, each with how."""
        before, now = self.files, model_files.hashes(directory)
        if weights_only:
            before, now = ({n: h for n, h in files.items() if n.endswith(_WEIGHTS)} for files in (before, now))
        return model_files.changed(before, now)

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


def revision_of(directory: Path) -> str:
    """The commit, if `directory` is a snapshot in the hub's cache; otherwise empty."""
    return directory.name if directory.parent.name == "snapshots" else ""
