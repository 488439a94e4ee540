"""Who gets in, and forty requests that nobody should send."""

from __future__ import annotations

import base64
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import engine.server.guard
from engine.metrics import Metrics
from engine.server.app import Server, create_app
from engine.server.settings import AuthSettings, TlsSettings


def serve(auth: AuthSettings | None, prefix: str = "", tls: TlsSettings | None = None) -> Server:
    server = Server(create_app(Metrics(), prefix, auth), "127.0.0.1", 0, tls)
    server.start()
    return server


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "token").write_text("rotated\n")
    server = serve(AuthSettings(user="u", password="päss:word", bearer_token_file=str(tmp_path / "token")))
    yield f"http://127.0.0.1:{server.port}"
    server.stop(5)


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize("headers", [basic("u:päss:word"), {"Authorization": "bearer rotated"}])
def test_the_right_ones_get_in(guarded: str, headers: dict[str, str]) -> None:
    assert "vmanomaly_" in httpx.get(f"{guarded}/metrics", headers=headers).text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("u:wrong"),
        basic("u:"),
        basic(":"),
        basic("v:päss:word"),
        {"Authorization": ""},
        {"Authorization": "Basic"},
        {"Authorization": "Basic ="},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer rotated2"},
        {"Authorization": "Digest rotated"},
        {"Authorization": "Basic rotated"},
        {"X-Authorization": "Bearer rotated"},
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/none", "/", "/healthz", "/health/", "//health"])
def test_others_learn_nothing(guarded: str, headers: dict[str, str], path: str) -> None:
    answer = httpx.get(f"{guarded}{path}", headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"error": "unauthorized"})
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="engine"'


def test_health_is_open(guarded: str) -> None:
    assert httpx.get(f"{guarded}/health").json() == {"status": "ok"}


def test_a_token_that_is_rotated_or_gone(guarded: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def status(token: str) -> int:
        return httpx.get(f"{guarded}/metrics", headers={"Authorization": f"Bearer {token}"}).status_code

    (tmp_path / "token").write_text("second")
    assert (status("rotated"), status("second")) == (401, 200)
    (tmp_path / "token").write_text("")
    assert status("second") == 401
    (tmp_path / "token").unlink()
    assert status("second") == 401
    assert "bearer_token_file cannot be read" in caplog.text
    assert "second" not in caplog.text


def test_a_prefix_moves_health_too() -> None:
    server = serve(AuthSettings(bearer_token="t"), "/x")
    try:
        url = f"http://127.0.0.1:{server.port}"
        assert httpx.get(f"{url}/x/health").status_code == 200
        assert httpx.get(f"{url}/health").status_code == 401
        answer = httpx.get(f"{url}/x/metrics")
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="engine"')
        assert httpx.get(f"{url}/x/metrics", headers={"Authorization": "Bearer t"}).status_code == 200
    finally:
        server.stop(5)


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    import subprocess

    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(cert), "-keyout", str(key)]
    subprocess.run(words, check=True, capture_output=True)
    return str(cert), str(key)


def test_tls_and_client_certificates(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "server")
    own, own_key = certificate(tmp_path, "client")
    server = serve(None, tls=TlsSettings(cert_file=cert, key_file=key, client_ca_file=own))
    try:
        url = f"https://127.0.0.1:{server.port}/health"
        known = ssl.create_default_context(cafile=cert)
        with pytest.raises(httpx.TransportError):
            httpx.get(url, verify=known)
        known.load_cert_chain(own, own_key)
        assert httpx.get(url, verify=known).json() == {"status": "ok"}
        with pytest.raises(httpx.TransportError):
            httpx.get(url)
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http"))
    finally:
        server.stop(5)


def ask(port: int, data: bytes, seconds: float = 3.0) -> bytes:
    """What the server says to some bytes, until it closes or says no more."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as peer:
        try:
            peer.sendall(data)
            while len(got) < 1 << 20 and (piece := peer.recv(65_536)):
                got += piece
                if b"\r\n\r\n" in got:
                    peer.settimeout(0.2)
        except (TimeoutError, ConnectionError):
            pass
    return got


GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "zeros": b"\0" * 4096,
    "random": bytes(range(256)) * 16,
    "no version": b"GET /\r\n\r\n",
    "version 0.9": b"GET /metrics HTTP/0.9\r\n\r\n",
    "version 2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 9": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "tls hello": bytes.fromhex("16030100c8010000c40303") + b"a" * 190,
    "ssh": b"SSH-2.0-x\r\n",
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "smtp": b"EHLO x\r\n",
    "a very long line": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a very long header": GET + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
    "many headers": GET + b"".join(b"X%d: y\r\n" % k for k in range(20_000)) + b"\r\n",
    "two lengths": b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "length and chunks": GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "endless length": b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 100 + b"\r\n\r\n",
    "length of text": b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
    "bad chunk": b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "huge chunk": b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    "two hosts": b"GET /metrics HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no host": b"GET /metrics HTTP/1.1\r\n\r\n",
    "header without colon": GET + b"abc\r\n\r\n",
    "header with a newline": GET + b"X: a\nY: b\r\n\r\n",
    "header of zeros": GET + b"X: \0\0\r\n\r\n",
    "folded header": GET + b"X: a\r\n b\r\n\r\n",
    "not ASCII path": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "percent": b"GET /%00%ff%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    "up": b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "encoded up": b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "another machine": b"GET http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n",
    "trace": b"TRACE /metrics HTTP/1.1\r\nHost: x\r\nCookie: a\r\n\r\n",
    "delete": b"DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    "no such method": b"BREW /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    "web socket": GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n\r\n",
    "upgrade to http 2": GET + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: a\r\n\r\n",
    "many names": b"GET /metrics?" + b"&".join(b"name[]=%d" % k for k in range(5000)) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "endless accept": GET + b"Accept: " + b"application/openmetrics-text;q=0.1," * 1000 + b"\r\n\r\n",
    "wrong coding": GET + b"Accept-Encoding: gzip;q=abc\r\nTE: trailers, x\r\n\r\n",
    "pipeline": (GET + b"\r\n") * 50,
    "expect": b"POST /metrics HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n",
    "range": GET + b"Range: bytes=0-18446744073709551615\r\n\r\n",
}


@pytest.fixture(scope="module")
def open_server() -> Iterator[Server]:
    server = serve(None)
    yield server
    server.stop(5)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_is_answered_or_dropped_and_leaks_nothing(
    open_server: Server, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(HOSTILE) >= 40
    answer = ask(open_server.port, HOSTILE[name])
    assert answer == b"" or answer.startswith(b"HTTP/1.1 "), answer[:100]
    status = int(answer[9:12]) if answer else 400
    assert status in (200, 204, 400, 401, 404, 405, 431, 501, 505) or answer.startswith(b"HTTP/1.1 100")
    for word in (b"Traceback", b"root:", b"site-packages"):
        assert word not in answer
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert httpx.get(f"http://127.0.0.1:{open_server.port}/health", timeout=5).is_success


def test_requests_that_never_come_in_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.server.guard, "_HEADERS_S", 0.5)
    server = serve(None)
    try:
        for begin in (b"", b"GET /health HT", GET + b"X: a\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as peer:
                started = time.monotonic()
                stop = threading.Event()

                def drip(peer: Any = peer, begin: bytes = begin, stop: threading.Event = stop) -> None:
                    try:
                        peer.sendall(begin)
                        while begin and not stop.wait(0.1):
                            peer.sendall(b"a")
                    except OSError:
                        pass

                thread = threading.Thread(target=drip)
                thread.start()
                try:
                    got = peer.recv(100)
                except ConnectionError:
                    got = b""
                stop.set()
                thread.join()
                assert got == b""
                assert 0.4 < time.monotonic() - started < 3
        # One that asks now and then is not.
        with httpx.Client() as client:
            for _ in range(3):
                assert client.get(f"http://127.0.0.1:{server.port}/health").is_success
                time.sleep(0.7)
    finally:
        server.stop(5)


def test_two_hundred_idle_connections_hold_nobody_up(open_server: Server) -> None:
    peers = [socket.create_connection(("127.0.0.1", open_server.port), timeout=5) for _ in range(200)]
    try:
        assert httpx.get(f"http://127.0.0.1:{open_server.port}/health", timeout=5).is_success
    finally:
        for peer in peers:
            peer.close()
