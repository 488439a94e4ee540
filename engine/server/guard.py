"""What stands before the routes: who may ask, and how long a request may take to come in."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from engine.server.settings import AuthSettings

log = logging.getLogger("monitoring")

_HEADERS_S = 10.0
_LONGEST_TOKEN = 64 << 10


class Guard:
    """Lets requests through that carry the user and password, or the token; all others get 401, whatever they ask for.

    Parameters
    ----------
    open_path : the route that everybody may ask, for health checks.
    """

    def __init__(self, app: ASGIApp, settings: AuthSettings, open_path: str) -> None:
        self._app = app
        self._open_path = open_path
        self._basic = None
        if settings.user is not None:
            pair = f"{settings.user}:{settings.password or ''}".encode()
            self._basic = _digest(b"basic " + base64.b64encode(pair))
        self._token = settings.bearer_token
        self._token_file = settings.bearer_token_file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == self._open_path or self._may(dict(scope["headers"])):
            await self._app(scope, receive, send)
            return
        challenge = "Basic" if self._basic else "Bearer"
        answer = JSONResponse({"error": "unauthorized"}, 401, {"WWW-Authenticate": f'{challenge} realm="engine"'})
        await answer(scope, receive, send)

    def _may(self, headers: dict[bytes, bytes]) -> bool:
        kind, _, credential = headers.get(b"authorization", b"").partition(b" ")
        given = _digest(kind.lower() + b" " + credential.strip())
        wanted = [self._basic, *(_digest(b"bearer " + token) for token in self._tokens())]
        # All are compared, and digests of one length: how long it takes says nothing.
        return any([hmac.compare_digest(given, each) for each in wanted if each is not None])

    def _tokens(self) -> list[bytes]:
        tokens = [self._token.encode()] if self._token else []
        if self._token_file:
            try:
                with Path(self._token_file).open("rb") as file:
                    tokens += [text] if (text := file.read(_LONGEST_TOKEN).strip()) else []
            except OSError as err:
                log.warning("server.auth.bearer_token_file cannot be read, nobody gets in by it: %s", err.strerror)
        return tokens


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


class Protocol(H11Protocol):
    """Uvicorn's HTTP/1.1, which ends connections whose request does not come in within some seconds."""

    _deadline: asyncio.TimerHandle | None = None

    # The type is uvicorn's own, which is narrower than asyncio's.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and self._is_idle():
            self._wait()
        super().data_received(data)
        if not self._is_idle():
            self._done()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(_HEADERS_S, self.transport.close)

    def _done(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
