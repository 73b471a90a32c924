"""The viewer as a server on loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import uvicorn
from markupsafe import Markup
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from launch.errors import UserError
from launch.viewer.gate import Gate
from launch.viewer.index.filters import PAGE, Filters
from launch.viewer.pages import episode_page, error_page, list_page, pair_page, script, style
from launch.viewer.reader import AbsentError, Reader, ReaderError

HOST = "127.0.0.1"


class ServedLinks:
    """Links of pages that the server makes. All are relative, so the token stays where it is."""

    static, policy, inline_style, inline_script = False, "", Markup(), Markup()
    style, script = "style.css", "viewer.js"

    def __init__(self, filters: Filters | None = None, before: str = "", after: str = "") -> None:
        self._chosen = filters.chosen if filters else {}
        self._start = ((filters.page - 1) * PAGE) if filters else 0
        self.before, self.after = before, after

    def list(self, chosen: Mapping[str, Any]) -> str:
        return f"./?{urlencode(chosen)}" if chosen else "./"

    def episode(self, number: int, position: int | None = None) -> str:
        if position is None:
            return f"episode?id={number}"
        chosen = {key: value for key, value in self._chosen.items() if key != "page"}
        return f"episode?{urlencode({'id': number, 'at': self._start + position, **chosen})}"

    def pair(self, left: int, right: int) -> str:
        return f"pair?left={left}&right={right}"


class Viewer:
    """The pages of one study or run."""

    def __init__(self, title: str, reader: Reader) -> None:
        self._title, self._reader = title, reader

    def app(self, token: str) -> Gate:
        """The application behind its gate."""
        routes = [
            Route("/", self._shown(self._list)),
            Route("/episode", self._shown(self._episode)),
            Route("/at", self._shown(self._at)),
            Route("/pair", self._shown(self._pair)),
            Route("/style.css", lambda request: Response(style(), media_type="text/css")),
            Route("/viewer.js", lambda request: Response(script(), media_type="text/javascript")),
        ]
        return Gate(Starlette(routes=routes, exception_handlers={HTTPException: self._unknown}), token)

    def _shown(self, page: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:  # not async: Starlette runs it in a thread
            try:
                return page(request)
            except AbsentError as error:
                return self._error(str(error), 404)
            except ReaderError as error:
                return self._error(str(error), 503)
            except ValidationError as error:
                problem = error.errors()[0]
                return self._error(f"the address has a wrong {problem['loc'][0]}: {problem['msg']}", 400)
            except UserError as error:
                return self._error(str(error), 400)

        return endpoint

    def _list(self, request: Request) -> Response:
        filters = _filters(request)
        page = self._reader.ask("page", filters=filters.model_dump())
        return HTMLResponse(list_page(self._title, ServedLinks(filters), page, filters, self._reader.dropped))

    def _episode(self, request: Request) -> Response:
        number = _number(request, "id")
        episode = self._reader.ask("episode", id=number)
        before, after = (
            f"episode?id={episode[way]}" if episode[way] is not None else "" for way in ("before", "after")
        )
        if "at" in request.query_params:
            at = _number(request, "at")
            chosen = {key: value for key, value in _filters(request).chosen.items() if key != "page"}
            before = f"at?{urlencode({'at': at - 1, **chosen})}" if at else ""
            after = f"at?{urlencode({'at': at + 1, **chosen})}"
        links, colour = ServedLinks(None, before, after), request.query_params.get("colour", "")
        return HTMLResponse(episode_page(self._title, links, episode, episode["partners"], colour))

    def _at(self, request: Request) -> Response:
        """The episode at a place of a list, for `before` and `after`."""
        at, filters = _number(request, "at"), _filters(request)
        one = filters.model_copy(update={"page": at + 1})
        found = self._reader.ask("page", filters=one.model_dump(), size=1)["rows"]
        chosen = {key: value for key, value in filters.chosen.items() if key != "page"}
        if not found:
            return RedirectResponse(ServedLinks().list(chosen), 303)
        return RedirectResponse(f"episode?{urlencode({'id': found[0]['id'], 'at': at, **chosen})}", 303)

    def _pair(self, request: Request) -> Response:
        left, right = (self._reader.ask("episode", id=_number(request, side)) for side in ("left", "right"))
        colour = request.query_params.get("colour", "")
        return HTMLResponse(pair_page(self._title, ServedLinks(), left, right, colour))

    def _unknown(self, request: Request, error: Exception) -> Response:
        return self._error("there is no such page", 404)

    def _error(self, problem: str, status: int) -> Response:
        return HTMLResponse(error_page(self._title, ServedLinks(), problem), status)


def _filters(request: Request) -> Filters:
    return Filters.model_validate(dict(request.query_params))


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise UserError(f"the address needs {name}=<number>")
    return int(text)


def listen(port: int) -> socket.socket:
    """A socket on loopback; port 0: any free one. Raises `UserError` if the port is taken."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
    except (OSError, OverflowError) as error:
        found.close()
        raise UserError(f"--port {port}: cannot listen there ({error}); leave it out to take a free one") from None
    return found


def run(app: Gate, bound: socket.socket) -> None:
    """Serve until Ctrl-C. Addresses, which hold the token, are not logged."""
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", server_header=False, proxy_headers=False, ws="none",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[bound])
