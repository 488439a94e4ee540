"""An import endpoint on a real socket that answers as a script says."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from engine.metrics import Metrics
from engine.writer.vm import VmWriter

Start = Callable[..., VmWriter]


@dataclass(frozen=True)
class Request:
    """What came: `body` is decompressed."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    def values(self) -> list[float]:
        """The values of all lines."""
        return [v for line in self.body.splitlines() for v in json.loads(line)["values"]]


@dataclass(frozen=True)
class Answer:
    """A status with headers and a body; `closes` ends the connection without having said so."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    closes: bool = False


class ImportServer:
    """Answers from `script`, one entry a request, then 204.

    `started_s` is its start time in its own metrics, which it has none of where that is 0; they come after `metrics_s`,
    and `n_looks` counts who asked for them. An entry is an `Answer` or one of "reset", "disconnect", "half" (of an
    answer), "silence" (until `stop`), "endless" (a 400 of 64 MiB, `n_sent` bytes of it were taken). `is_endless` makes
    its metrics so.
    """

    def __init__(self) -> None:
        self.script: list[Answer | str] = []
        self.requests: list[Request] = []
        self.started_s = 0
        self.metrics_s = 0.0
        self.n_looks = 0
        self.is_endless = False
        self.n_sent = 0
        self._released = threading.Event()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the same port as before."""
        outer = self
        connections: list[Any] = []
        self._released.clear()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                connections.append(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = Request(self.path, dict(self.headers), body, connections.index(self.connection))
                outer.requests.append(request)
                outer._answer(self, outer.script.pop(0) if outer.script else Answer(204))

            def do_GET(self) -> None:
                assert self.path == "/metrics"
                outer.n_looks += 1
                if outer._released.wait(outer.metrics_s):
                    self.close_connection = True
                    return
                if outer.is_endless:
                    outer._answer(self, "endless")
                    return
                body = f"x 1\nprocess_start_time_seconds {outer.started_s}\ny 2\n".encode()
                outer._answer(self, Answer(200, (), body) if outer.started_s else Answer(404))

            def log_message(self, *_: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                return

        self._connections = connections
        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections and cut those that are open."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            # A thread that reads it holds it open: close alone would not end it.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def values(self) -> list[float]:
        """The values of all requests, in the order they came."""
        return [v for request in list(self.requests) for v in request.values()]

    def _answer(self, http: BaseHTTPRequestHandler, answer: Answer | str) -> None:
        if isinstance(answer, Answer):
            http.send_response(answer.status)
            for name, value in answer.headers:
                http.send_header(name, value)
            if answer.status != 204:
                http.send_header("Content-Length", str(len(answer.body)))
            http.end_headers()
            http.wfile.write(answer.body)
            http.close_connection = answer.closes
            return
        http.close_connection = True
        if answer == "reset":
            _reset(http.connection)
        elif answer == "half":
            http.wfile.write(b"HTTP/1.1 204 No Con")
        elif answer == "silence":
            self._released.wait(30)
        elif answer == "endless":
            http.wfile.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with contextlib.suppress(OSError):
                while self.n_sent < 64 << 20:
                    http.wfile.write(bytes(1 << 16))
                    self.n_sent += 1 << 16


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def until(holds: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    """Sum of a metric's samples that have these labels."""
    return sum(
        s.value
        for family in metrics.registry.collect()
        for s in family.samples
        if s.name == name and labels.items() <= s.labels.items()
    )


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the writer logged: level and message."""
    return [f"{r.levelname} {r.getMessage()}" for r in caplog.records if r.name == "writer.vm"]
