"""A proxy between the service and a database that can be told to misbehave."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

DELAY_S = 20.0


class Proxy:
    """Forwards requests to `target`.

    Parameters
    ----------
    target : URL of the database.

    `fault` is None, "cut" (the connection, in the middle of a body), "delay", or a status to answer with. Bodies that
    were answered with 400 are kept in `refused`.
    """

    def __init__(self, target: str) -> None:
        self.fault: str | None = None
        self.refused: list[bytes] = []
        self.n_faults = 0
        parts = urlsplit(target)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_GET(self) -> None:
                proxy._serve(self, b"")

            def do_POST(self) -> None:
                proxy._serve(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def log_message(self, *_: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                return

        self._target = parts.hostname or "", parts.port or 80
        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        fault = self.fault
        if fault is not None:
            self.n_faults += 1
        if fault == "delay":
            time.sleep(DELAY_S)
        elif fault == "cut":
            self._cut(request, body)
            return
        elif fault is not None and body:
            if fault == "400":
                self.refused.append(body)
            _answer(request, int(fault), b"made up by the proxy", "text/plain")
            return
        self._forward(request, body)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        connection = http.client.HTTPConnection(*self._target, timeout=60)
        try:
            headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "connection")}
            connection.request(request.command, request.path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            _reset(request)  # as if the database had been asked itself
            return
        finally:
            connection.close()
        kind = answer.headers.get("Content-Type", "text/plain")
        _answer(request, answer.status, content, kind, answer.headers.get("Content-Encoding"))

    def _cut(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """The database gets half of the request, the client a reset."""
        head = f"{request.command} {request.path} HTTP/1.1\r\nHost: db\r\nContent-Length: {len(body)}\r\n\r\n"
        with contextlib.suppress(OSError), socket.create_connection(self._target, timeout=5) as half:
            half.sendall(head.encode() + body[: len(body) // 2])
        _reset(request)


def _answer(request: BaseHTTPRequestHandler, status: int, body: bytes, kind: str, coding: str | None = None) -> None:
    with contextlib.suppress(OSError):
        request.send_response(status)
        request.send_header("Content-Type", kind)
        if coding:
            request.send_header("Content-Encoding", coding)
        if status != 204:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if status != 204:
            request.wfile.write(body)


def _reset(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True
    with contextlib.suppress(OSError):
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.connection.close()
