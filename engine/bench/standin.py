"""A stand-in for the database: answers query_range with made-up series, takes imports and forgets them."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from engine.bench.made import answer
from engine.frame import Window


class StandIn:
    """Serves on a port of its own of 127.0.0.1 while the `with` block runs.

    Attributes
    ----------
    url : where it listens.
    has_import : set by each import that is not empty.
    """

    def __init__(self) -> None:
        self.has_import = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="stand-in", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        has_import = self.has_import

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                self._query(parse_qs(url.query) if url.path.endswith("/query_range") else None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path.partition("?")[0].endswith("/query_range"):
                    self._query(parse_qs(body.decode()) or parse_qs(urlsplit(self.path).query))
                    return
                self._reply(204, b"")
                if body:
                    has_import.set()

            def _query(self, asked: dict[str, list[str]] | None) -> None:
                if asked is None:
                    self._reply(404, b"")
                    return
                start_ms, end_ms = (round(float(asked[name][0]) * 1000) for name in ("start", "end"))
                step_ms = round(float(asked["step"][0].removesuffix("s")) * 1000)
                self._reply(200, answer(asked["query"][0], Window(start_ms, end_ms, step_ms)))

            def _reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the table is what a user wants to see."""

        return Handler
