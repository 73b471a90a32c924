"""Who may ask: whoever knows the token in the address, by a name of this machine. And the headers of every answer."""

from __future__ import annotations

import hmac
import secrets

from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""Nothing is loaded but the viewer's own style and script; nothing written into a page runs or is fetched."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
NAMES = ("127.0.0.1", "localhost", "[::1]")
"""Hosts that a browser may have been told. Any other name was made to point at this machine (DNS rebinding)."""


def new_token() -> str:
    """A secret for an address: 192 random bits."""
    return secrets.token_urlsafe(24)


class Gate:
    """Lets requests for `/<token>/...` through to an application, with the path behind the token. 403 for all others.

    The token is compared in constant time. It is in the path, not in a cookie: cookies are shared by all ports of a
    machine. Ports of the Host header may differ, as behind `ssh -L`.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the server closes it

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        await self._answer(scope)(scope, receive, guarded)

    def _answer(self, scope: Scope) -> ASGIApp:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or _name(hosts[0]) not in NAMES:
            return _refused("this page answers to 127.0.0.1 and localhost alone; open the printed link")
        token, slash, rest = scope["path"].lstrip("/").partition("/")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return _refused("the address has no valid token; open the link that `shaping view` has printed")
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("405: pages are read, not changed\n", 405, {"allow": "GET, HEAD"})
        if not slash:
            return RedirectResponse(f"/{self._token}/")
        scope["path"], scope["raw_path"] = f"/{rest}", f"/{rest}".encode()
        return self._app


def _name(host: str) -> str:
    """The host without its port."""
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0].lower()


def _refused(why: str) -> PlainTextResponse:
    return PlainTextResponse(f"403: {why}\n", 403)
