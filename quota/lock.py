"""Who may see the pages: whoever knows the token, by ``Bearer``, or as the password of any user.

A browser asks for user and password by itself and sends them with everything that the page fetches.
Whether the daemon lives and serves is told to anybody, because what probes it knows no token.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = frozenset({"/-/healthy", "/-/ready"})
STRANGER = "quota.stranger"
"""Stands in the scope of a request whose sender has not shown the token."""

_ASKED = {"www-authenticate": 'Basic realm="quotad", charset="UTF-8"', "cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class Lock:
    """Lets requests in that show the token; without one, all of them."""

    app: ASGIApp
    token: str | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and self.token is not None and not self._shown(Headers(scope=scope)):
            if scope["path"] not in OPEN:
                await PlainTextResponse("the token is missing or wrong\n", 401, _ASKED)(scope, receive, send)
                return
            scope[STRANGER] = True
        await self.app(scope, receive, send)

    def _shown(self, headers: Headers) -> bool:
        kind, _, word = headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            word = _password(word)
        elif kind.lower() != "bearer":
            word = ""
        return hmac.compare_digest(word.strip().encode(), (self.token or "").encode())


def _password(word: str) -> str:
    """Read the password that a browser sends; empty where there is none."""
    try:
        return base64.b64decode(word, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
