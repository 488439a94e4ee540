"""/health and /metrics over HTTP: the app, and the thread that serves it."""

from __future__ import annotations

import inspect
import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from engine.errors import StartError
from engine.metrics import Metrics
from engine.server.guard import Guard, Protocol
from engine.server.settings import AuthSettings, ServerSettings, TlsSettings

log = logging.getLogger("monitoring")
access = logging.getLogger("monitoring.access")

_START_S = 10.0

# What `server.uvicorn_config` cannot change: `server.addr` and `server.port` say where, one process serves.
_OURS = frozenset(
    {"app", "host", "port", "uds", "fd", "workers", "lifespan", "log_config", "timeout_graceful_shutdown", "http"}
    | {"reload", "reload_dirs", "reload_delay", "reload_includes", "reload_excludes", "factory"}
)


def create_app(metrics: Metrics, path_prefix: str = "", auth: AuthSettings | None = None) -> ASGIApp:
    """The app; `path_prefix` ("x" or "/x") stands before every route, `auth` before all but /health."""

    async def health(_: Request) -> Response:  # on the event loop: no slow scrape can stand before it
        return JSONResponse({"status": "ok"})

    def show_metrics(request: Request) -> Response:
        started = time.perf_counter()
        names = request.query_params.getlist("name[]")
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        registry = _Selection(metrics.registry, names) if names else metrics.registry
        body = encode(registry)
        access.debug("GET /metrics: %d bytes in %.1f ms", len(body), 1000 * (time.perf_counter() - started))
        return Response(body, media_type=content_type)

    def refuse(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = error.detail if isinstance(error, HTTPException) else "internal error"
        headers = error.headers if isinstance(error, HTTPException) else None
        return JSONResponse({"error": detail}, status_code=status, headers=headers)

    prefix = path_prefix.strip("/")
    base = f"/{prefix}" if prefix else ""
    # With a slash at the end too: a redirect would name the host that a proxy asked for, which is not the client's.
    routes = [Route(f"{base}/health{end}", health) for end in ("", "/")]
    routes += [Route(f"{base}/metrics{end}", show_metrics) for end in ("", "/")]
    app = Starlette(routes=routes, exception_handlers={HTTPException: refuse, Exception: refuse})
    app.router.redirect_slashes = False
    return app if auth is None else Guard(app, auth, f"{base}/health")


class _Selection:
    """The part of a registry that `name[]` asks for: sample names, or metric names with or without _total."""

    def __init__(self, registry: CollectorRegistry, names: list[str]) -> None:
        self._registry = registry
        self._names = set(names)

    def collect(self) -> Any:
        for metric in self._registry.collect():
            whole = {metric.name, f"{metric.name}_total"} & self._names
            samples = [s for s in metric.samples if whole or s.name in self._names]
            if samples:
                chosen = Metric(metric.name, metric.documentation, metric.type, metric.unit)
                chosen.samples = samples
                yield chosen


def _uvicorn_config(app: ASGIApp, tls: TlsSettings | None, wanted: Mapping[str, Any]) -> uvicorn.Config:
    """Uvicorn's settings, loaded, so that what is wrong with them shows before anything runs."""
    known = inspect.signature(uvicorn.Config).parameters
    for key in wanted:
        if key not in known or key in _OURS:
            reason = "is set by the service" if key in _OURS else "is not a setting of uvicorn"
            raise StartError(f"server.uvicorn_config.{key}: {reason}")
    # The listener is ours, and shutting down must not wait for idle clients.
    ours: dict[str, Any] = {"lifespan": "off", "timeout_graceful_shutdown": 1, "log_config": None, "http": Protocol}
    if tls is not None:
        ours |= {"ssl_certfile": tls.cert_file, "ssl_keyfile": tls.key_file}
        if tls.client_ca_file:
            ours |= {"ssl_ca_certs": tls.client_ca_file, "ssl_cert_reqs": ssl.CERT_REQUIRED}
    try:
        config = uvicorn.Config(app, **{"log_level": "warning", "access_log": False, **wanted, **ours})
        config.load()
    except (TypeError, ValueError, KeyError, OSError, AssertionError, ImportError) as err:
        key = "server.tls" if tls is not None and isinstance(err, OSError) else "server.uvicorn_config"
        raise StartError(f"{key}: {type(err).__name__}: {err}") from err
    return config


def check_listener(server: ServerSettings) -> None:
    """Raise what a start with these settings would.

    Raises
    ------
    StartError : uvicorn does not take them.
    """
    _uvicorn_config(Starlette(), server.tls, server.uvicorn_config)


class Server:
    """One listener on a thread of its own.

    Parameters
    ----------
    tls : certificate to serve with; None is plain HTTP.
    uvicorn_config : further settings of uvicorn, as documented for `server.uvicorn_config`.

    Raises
    ------
    StartError : uvicorn does not take its settings.
    """

    def __init__(
        self,
        app: ASGIApp,
        addr: str,
        port: int,
        tls: TlsSettings | None = None,
        uvicorn_config: dict[str, Any] | None = None,
    ) -> None:
        self._addr, self._port = addr, port
        self._uvicorn = uvicorn.Server(_uvicorn_config(app, tls, uvicorn_config or {}))
        self._thread = threading.Thread(target=self._serve, name=f"http-{port}", daemon=True)
        self._socket: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port in use, also where port 0 asked for any."""
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Listen and serve; answers are given when this returns.

        Raises
        ------
        StartError : the address cannot be listened on.
        """
        family = socket.AF_INET6 if ":" in self._addr else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((self._addr, self._port))
            self._socket.listen(128)
        except OSError as err:
            self._socket.close()
            raise StartError(f"server: cannot listen on {self._addr}:{self._port}: {err.strerror}") from err
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._uvicorn.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        if not self._uvicorn.started:
            self._uvicorn.should_exit = True
            raise StartError(f"server: no answer on {self._addr}:{self._port} within {_START_S:.0f} s")
        log.info("Serving /metrics and /health: Listening on %s:%d", self._addr, self.port)

    def _serve(self) -> None:
        assert self._socket is not None
        self._uvicorn.run(sockets=[self._socket])

    def stop(self, timeout_s: float) -> bool:
        """Stop within the time given; false where the thread was still busy."""
        self._uvicorn.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()
