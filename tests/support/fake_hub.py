"""A Hugging Face hub on this machine: the routes by which a model is looked up and fetched, and nothing else."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

FIRST, SECOND = "a" * 40, "b" * 40
"""Commits."""


class FakeHub:
    """Models by id: revision -> commit, commit -> folder. Changing them changes what the hub says."""

    def __init__(self) -> None:
        self.revisions: dict[str, dict[str, str]] = {}
        self.folders: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.address = ""

    def add(self, name: str, folder: Path, commit: str = FIRST, revision: str = "main") -> None:
        """Put a folder's files on the hub, as the newest state of a branch."""
        self.revisions.setdefault(name, {})[revision] = commit
        self.folders[commit] = folder

    def commit(self, name: str, revision: str) -> str | None:
        known = self.revisions.get(name, {})
        return revision if revision in known.values() else known.get(revision)


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        self.hub.asked.append(f"{self.command} {self.path}")
        if parts[:2] == ["api", "models"]:
            self._about(parts[2:], body)
        elif len(parts) > 4 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), body)
        else:
            self._refuse(404, "EntryNotFound")

    def _about(self, parts: list[str], body: bool) -> None:
        name = "/".join(parts[:2])
        kind, revision = (parts[2], parts[3]) if len(parts) > 3 else ("revision", "main")
        if name not in self.hub.revisions:
            return self._refuse(401, "RepoNotFound")
        if (commit := self.hub.commit(name, revision)) is None:
            return self._refuse(404, "RevisionNotFound")
        files = sorted(self.hub.folders[commit].iterdir())
        if kind == "tree":
            tree = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _hash(f)} for f in files]
            return self._send(json.dumps(tree).encode(), body)
        about = {"id": name, "modelId": name, "sha": commit, "siblings": [{"rfilename": f.name} for f in files]}
        return self._send(json.dumps(about).encode(), body)

    def _file(self, name: str, revision: str, file: str, body: bool) -> None:
        commit = self.hub.commit(name, revision)
        if name in self.hub.gated:
            return self._refuse(403, "GatedRepo")
        if commit is None or not (path := self.hub.folders[commit] / file).is_file():
            return self._refuse(404, "EntryNotFound")
        return self._send(path.read_bytes(), body, {"X-Repo-Commit": commit, "ETag": f'"{_hash(path)}"'})

    def _send(self, content: bytes, body: bool, headers: dict[str, Any] | None = None) -> None:
        self.send_response(200)
        for key, value in {"Content-Length": len(content), **(headers or {})}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _hash(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
