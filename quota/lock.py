"""Who may see the pages: whoever knows the token, by ``Bearer``, or as the password of any user.

A browser asks for user and password by itself and sends them with everything that the page fetches.
Whether the daemon lives and serves is told to anybody, because what probes it knows no token.

Without a token the pages are for this machine alone, and its browsers visit strangers' pages too: one
whose name is made to point to loopback after it was loaded would read ours as its own. So they must be
asked for by a name that is this machine's.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = frozenset({"/-/healthy", "/-/ready"})
STRANGER = "quota.stranger"
"""Stands in the scope of a request whose sender has not shown the token."""

_OWN = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^][:@/]+)(?::[0-9]*)?")
_ELSEWHERE = "these pages are asked for as localhost, 127.0.0.1 or [::1], unless quotad has a token\n"
_ASKED = {"www-authenticate": 'Basic realm="quotad", charset="UTF-8"', "cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class Lock:
    """Lets requests in that show the token; without one, those that name this machine."""

    app: ASGIApp
    token: str | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and (refusal := self._refusal(scope)) is not None:
            if scope["path"] not in OPEN:
                await refusal(scope, receive, send)
                return
            scope[STRANGER] = True
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self.token is None:
            return None if _ours(headers.get("host", ""), scope) else PlainTextResponse(_ELSEWHERE, 421)
        if self._shown(headers):
            return None
        return PlainTextResponse("the token is missing or wrong\n", 401, _ASKED)

    def _shown(self, headers: Headers) -> bool:
        kind, _, word = headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            word = _password(word)
        elif kind.lower() != "bearer":
            word = ""
        return hmac.compare_digest(word.strip().encode(), (self.token or "").encode())


def _ours(host: str, scope: Scope) -> bool:
    """Whether a host is this machine, or the address on which the request came in, at any port."""
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return False
    address = str((scope.get("server") or [""])[0])
    return found[1] in _OWN or found[1] == (f"[{address}]" if ":" in address else address)


def _password(word: str) -> str:
    """Read the password that a browser sends; empty where there is none."""
    try:
        return base64.b64decode(word, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
