"""The demo after its replay: new points every minute, scored as they come, with the report at /."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route

from engine.demo.store import STEP_MS
from engine.errors import EngineError
from engine.frame import align_down
from engine.metrics import Metrics
from engine.scheduler.periodic import PeriodicScheduler, now_ms
from engine.server.app import Server, create_app

if TYPE_CHECKING:
    from engine.demo.command import Demo

log = logging.getLogger("demo")

_STOP_S = 4.0
_WAITING = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="3">
<meta name="color-scheme" content="light dark"><title>Demo</title>
<body style="font: 16px/1.5 system-ui; margin: 3rem">The report is being made; this page will show it.</body></html>"""


class Site:
    """The service's own pages, and the report at /."""

    def __init__(self, metrics: Metrics, report_path: Path, port: int) -> None:
        def report(_request: Request) -> Response:
            if not report_path.exists():
                return HTMLResponse(_WAITING)
            return FileResponse(report_path, media_type="text/html", headers={"Cache-Control": "no-store"})

        app = Starlette(routes=[Route("/", report), Mount("/", create_app(metrics))])
        self._server = Server(app, "0.0.0.0", port)

    @property
    def port(self) -> int:
        """The port in use, also where port 0 asked for any."""
        return self._server.port

    def start(self) -> None:
        """Answer from now on.

        Raises
        ------
        StartError : the port is taken.
        """
        self._server.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.stop(1.0)


def go_on(demo: Demo, site: Site, console: Console) -> None:
    """Feed and score a new minute at a time until SIGINT or SIGTERM; the fitted models go on as they are."""
    stop = threading.Event()
    handlers = {n: signal.signal(n, lambda *_: stop.set()) for n in (signal.SIGINT, signal.SIGTERM)}
    made = PeriodicScheduler(demo.alias, demo.config.preset, demo.schedule, demo.tasks, 1, demo.metrics)
    console.print(
        f"Live at http://127.0.0.1:{site.port}/ : the report, with new points every minute; /metrics, /health. "
        "Ctrl-C ends it.",
        highlight=False,
    )
    try:
        demo.feed(now_ms())
        made.start()
        while not stop.wait((align_down(now_ms(), STEP_MS) + STEP_MS - now_ms()) / 1000):
            _next_minute(demo)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        made.stop()
        made.join(_STOP_S)


def _next_minute(demo: Demo) -> None:
    """Append what is new, and renew the report with what was scored so far; a failure is made up next time."""
    try:
        if demo.feed(now_ms()):
            demo.conclude()
    except EngineError as err:
        log.warning("%s", err)
