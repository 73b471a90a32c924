"""An OpenAI-compatible endpoint on loopback whose answers are scripted."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from envs.episode import Episode, Span
from shaping.monitors.transcript_judge import TranscriptJudge

MakeEpisode = Callable[..., Episode]
Says = Callable[["Request"], Any]
"""What answers: text of the reply, or a whole (status, headers, body)."""


@dataclass(frozen=True)
class Request:
    """What came in."""

    number: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw)
        return found

    @property
    def rules(self) -> str:
        return str(self.body["messages"][0]["content"])

    @property
    def shown(self) -> str:
        return str(self.body["messages"][1]["content"])

    @property
    def nonce(self) -> str:
        return re.search(r"BEGIN (\w+)", self.rules)[1]  # type: ignore[index]

    @property
    def canary(self) -> str:
        return re.search(r"The canary is (\w+)", self.rules)[1]  # type: ignore[index]

    @property
    def asked(self) -> list[int]:
        return [int(n) for n in re.search(r"only the turns ([\d, ]+)", self.rules)[1].split(",")]  # type: ignore[index]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The transcript, decoded."""
        inside = self.shown.split(f"BEGIN {self.nonce}\n")[1].split(f"\nEND {self.nonce}")[0]
        return [json.loads(line) for line in inside.split("\n")]


def verdict(request: Request, score: Callable[[dict[str, Any]], float] | float, **changed: Any) -> str:
    """The right answer to a request. `score`: of every turn, or of a turn's line."""
    by_turn = {line["turn"]: line for line in request.lines}
    turns = [
        {"turn": n, "score": score(by_turn[n]) if callable(score) else score, "reason": "as seen"}
        for n in request.asked
    ]
    return json.dumps({"canary": request.canary, "turns": turns, **changed})


@dataclass
class Endpoint:
    """A running endpoint and what it was sent."""

    url: str
    requests: list[Request] = field(default_factory=list)
    most_at_once: int = 0


def completion(text: str, usage: Mapping[str, Any] | None = None) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage}).encode()


@contextmanager
def endpoint(says: Says, usage: Mapping[str, Any] | None = None) -> Iterator[Endpoint]:
    """Serve on a free port of loopback until the block ends."""
    lock, running = threading.Lock(), 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal running
            raw = self.rfile.read(int(self.headers["content-length"]))
            with lock:
                running += 1
                found.most_at_once = max(found.most_at_once, running)
                request = Request(len(found.requests), {k.lower(): v for k, v in self.headers.items()}, raw)
                found.requests.append(request)
            try:
                said = says(request)
            finally:
                with lock:
                    running -= 1
            status, headers, body = (200, {}, completion(said, usage)) if isinstance(said, str) else said
            try:
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # whoever asked has given up

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Endpoint(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def judge(url: str, **settings: Any) -> TranscriptJudge:
    return TranscriptJudge(judges=[{"endpoint": url, "model": "m"}], backoff=0.0, **settings)


def saying(make_episode: MakeEpisode, *texts: str) -> Episode:
    """An episode of these reasonings, each followed by the same action."""
    episode = make_episode([0.0] * len(texts))
    turns = []
    for turn, text in zip(episode.turns, texts, strict=True):
        said = f"{text} ACTION: wait"
        turns.append(replace(turn, completion=said, motive=Span(0, len(text)), action=Span(len(text) + 9, len(said))))
    return replace(episode, turns=tuple(turns))
