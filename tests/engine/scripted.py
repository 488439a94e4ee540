"""A stand-in for the database whose answers can be made to go wrong."""

from __future__ import annotations

import gzip
import json
import math
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

# How a read can fail: status, content type, body; None is handled by name in `_read`.
_ANSWERS = {
    "429": (429, "text/plain", b"slow down"),
    "500": (500, "text/plain", b"internal"),
    "503": (503, "text/plain", b"cannot handle more than 4 concurrent search requests during 10s"),
    "html": (200, "text/html", b"<html><body>Sign in</body></html>"),
    "bad query": (422, "application/json", b'{"status":"error","errorType":"422","error":"unknown func \\"rat\\""}'),
}


def value_at(series: int, time_s: float) -> float:
    """What series k was at a time: any later reader gets the same."""
    return 10 * series + math.sin(time_s / 7 + series)


class ScriptedVm:
    """Serves `n_series` series of `value_at` and keeps what is imported.

    `fault` names what goes wrong with reads now, `write_fault` with writes; None is health.
    """

    def __init__(self, n_series: int = 3) -> None:
        self.n_series = n_series
        self.fault: str | None = None
        self.write_fault: str | None = None
        self.n_reads = 0
        self.n_failed_writes = 0
        self.written: dict[str, dict[int, float]] = {}
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        vm = self
        self._is_down = False

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if vm._is_down:
                    self.close_connection = True
                else:
                    vm._read(self, parse_qs(urlsplit(self.path).query))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if vm._is_down:
                    self.close_connection = True
                else:
                    vm._write(self, gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)

            def log_message(self, *_: Any) -> None:
                return

        port = getattr(self, "_port", 0)
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and drop those that are open."""
        assert self._server is not None
        self._is_down = True
        self._server.shutdown()
        self._server.server_close()

    def _read(self, http: BaseHTTPRequestHandler, params: dict[str, list[str]]) -> None:
        self.n_reads += 1
        fault = self.fault
        if "query" not in params or "start" not in params:
            answer(http, 200, "text/plain", b"OK")
        elif params["query"] == ["fails_always"]:
            answer(http, *_ANSWERS["bad query"])
        elif fault in _ANSWERS:
            answer(http, *_ANSWERS[fault])
        elif fault == "redirect":
            http.send_response(302)
            http.send_header("Location", "http://user:secret@127.0.0.1:1/login")
            http.send_header("Content-Length", "0")
            http.end_headers()
        elif fault == "silence":
            time.sleep(4)
            http.close_connection = True
        elif fault == "half":
            body = self._matrix(params)
            http.send_response(200)
            http.send_header("Content-Type", "application/json")
            http.send_header("Content-Length", str(len(body)))
            http.end_headers()
            http.wfile.write(body[: len(body) // 2])
            http.close_connection = True
        else:
            answer(http, 200, "application/json", self._matrix(params))

    def _matrix(self, params: dict[str, list[str]]) -> bytes:
        start, end, step = (float(params[k][0]) for k in ("start", "end", "step"))
        times = [start + k * step for k in range(int((end - start) // step) + 1)]
        result = []
        for k in range(self.n_series) if self.fault != "empty" else ():
            values = [[t, repr(value_at(k, t))] for t in times]
            if self.fault == "not finite" and k == 0:
                values = [[t, ("NaN", "+Inf", "-Inf")[int(t) % 3]] for t in times]
            result.append({"metric": {"series": str(k)}, "values": values})
        if self.fault == "duplicates":
            result += result
        return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()

    def _write(self, http: BaseHTTPRequestHandler, body: bytes) -> None:
        if self.write_fault is not None:
            self.n_failed_writes += 1
            if self.write_fault == "reset":
                http.close_connection = True
                return
            answer(http, int(self.write_fault), "text/plain", b"no")
            return
        for line in body.splitlines():
            row = json.loads(line)
            key = f"{row['metric']['__name__']} {row['metric'].get('series')}"
            self.written.setdefault(key, {}).update(zip(row["timestamps"], row["values"], strict=True))
        answer(http, 204, "text/plain", b"")


def answer(http: BaseHTTPRequestHandler, status: int, kind: str, body: bytes) -> None:
    """One whole answer."""
    http.send_response(status)
    http.send_header("Content-Type", kind)
    http.send_header("Content-Length", str(len(body)))
    http.end_headers()
    http.wfile.write(body)
