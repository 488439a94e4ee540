"""One request: compression, waiting times, credentials."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from engine.errors import WriteError
from engine.writer.post import GZIP_MIN_BYTES, ImportEndpoint, TemporaryWriteError, import_url
from engine.writer.settings import VmWriterSettings
from tests.engine.writer.server import Answer, ImportServer


@pytest.fixture
def server() -> Iterator[ImportServer]:
    made = ImportServer()
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("url", "tenant", "path"),
    [
        ("http://vm:8428", None, "/api/v1/import"),
        ("http://vm:8428/base/", None, "/base/api/v1/import"),
        ("http://vminsert:8480", "7", "/insert/7/prometheus/api/v1/import"),
        ("http://vminsert:8480/insert/7/prometheus", "7", "/insert/7/prometheus/api/v1/import"),
        ("http://proxy/insert/multitenant/prometheus/", "multitenant", "/insert/multitenant/prometheus/api/v1/import"),
    ],
)
def test_the_url_follows_tenant_and_base(url: str, tenant: str | None, path: str) -> None:
    assert import_url(VmWriterSettings(datasource_url=url, tenant_id=tenant)).path == path


def post(url: str, data: bytes = b"", **keys: Any) -> int:
    endpoint = ImportEndpoint(VmWriterSettings(datasource_url=url, **keys))
    try:
        return endpoint.post(data, 5.0)
    finally:
        endpoint.close()


@pytest.fixture
def remote(server: ImportServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server under a name that does not look like this machine."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *rest, **keys: resolve("127.0.0.1", *rest, **keys))
    return server.url.replace("127.0.0.1", "vm.example")


@pytest.mark.parametrize(("size", "is_packed"), [(GZIP_MIN_BYTES - 1, False), (GZIP_MIN_BYTES, True)])
def test_long_bodies_to_other_machines_are_compressed(
    server: ImportServer, remote: str, size: int, is_packed: bool
) -> None:
    body = b'{"metric":{},"values":[],"timestamps":[]}\n' * size
    assert post(remote, body[:size]) == 204
    (request,) = server.requests
    assert request.body == body[:size]
    assert ("Content-Encoding" in request.headers) == is_packed
    if is_packed:
        assert int(request.headers["Content-Length"]) < size / 10


def test_bodies_to_this_machine_are_not_compressed(server: ImportServer) -> None:
    for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
        post(url, bytes(10 * GZIP_MIN_BYTES))
    assert all("Content-Encoding" not in r.headers for r in server.requests)
    assert all("Transfer-Encoding" not in r.headers for r in server.requests)


def test_the_wait_that_a_server_asks_for_is_known_and_bounded(server: ImportServer) -> None:
    def date(seconds: float) -> str:
        return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)

    for header, low, high in [
        ("3", 3, 3),
        ("-3", 0, 0),
        ("soon", 0, 0),
        ("", 0, 0),
        ("1e9", 60, 60),
        ("nan", 0, 60),
        (date(20), 15, 20),
        (date(-20), 0, 0),
        (date(9999), 60, 60),
    ]:
        server.script = [Answer(429, (("Retry-After", header),))]
        with pytest.raises(TemporaryWriteError) as caught:
            post(server.url)
        assert low <= caught.value.after_s <= high, header


@pytest.mark.parametrize(
    ("keys", "header"),
    [
        ({"user": "a", "password": "b"}, "Basic YTpi"),
        ({"bearer_token": "t0ken"}, "Bearer t0ken"),
    ],
)
def test_credentials_are_sent_and_never_shown(
    server: ImportServer, keys: dict[str, str], header: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.script = [Answer(500, (), f"bad {header}, that is {keys}".encode())]
    with pytest.raises(WriteError) as caught:
        post(server.url, **keys)
    assert server.requests[0].headers["Authorization"] == header
    secret = header.split()[1]
    assert secret not in str(caught.value) + caplog.text


def test_a_rotated_token_file_is_read_again(server: ImportServer, tmp_path: Path) -> None:
    path = tmp_path / "token"
    endpoint = ImportEndpoint(VmWriterSettings(datasource_url=server.url, bearer_token_file=str(path)))
    for token in ("first", "second one"):
        path.write_text(token + "\n")
        endpoint.post(b"", 5.0)
    endpoint.close()
    assert [r.headers["Authorization"] for r in server.requests] == ["Bearer first", "Bearer second one"]


@pytest.mark.parametrize(
    ("status", "words", "may_pass"),
    [
        (302, "redirects are not followed", True),
        (413, "batch_max_bytes", False),
        (400, "cannot parse", False),
        (405, "Method Not Allowed", True),
    ],
)
def test_a_refusal_says_what_to_do(server: ImportServer, status: int, words: str, may_pass: bool) -> None:
    server.script = [Answer(status, (), b"cannot\nparse" if status == 400 else b"")]
    with pytest.raises(WriteError, match=words) as caught:
        post(server.url)
    assert (caught.value.code, caught.value.retryable) == (str(status), may_pass)


@pytest.mark.parametrize(
    ("text", "may_pass"),
    [
        ('cannot find the provided auth token "Basic c29tZW9uZTp3cm9uZw==" in config\n', True),
        ('remoteAddr: "10.0.0.1:2, X-Forwarded-For: 1"; requestURI: /x; missing route for "http://a/x"', True),
        ('remoteAddr: "10.0.0.1:2"; requestURI: /api/v1/importx; unsupported path requested: "/api/v1/importx"', True),
        ('remoteAddr: "1"; requestURI: /x; cannot parse {"a":"; requestURI: /x; missing route for"}', False),
        ('cannot parse "missing route for"', False),
    ],
)
def test_a_400_about_the_address_or_credentials_may_pass(server: ImportServer, text: str, may_pass: bool) -> None:
    server.script = [Answer(400, (), text.encode())]
    with pytest.raises(WriteError) as caught:
        post(server.url)
    assert isinstance(caught.value, TemporaryWriteError) == may_pass
    assert "c29tZW9uZTp3cm9uZw" not in str(caught.value)


def test_of_an_endless_answer_only_the_start_is_read(server: ImportServer) -> None:
    server.script, server.is_endless = ["endless"], True
    with pytest.raises(WriteError):
        post(server.url)
    assert server.n_sent < 32 << 20
    server.n_sent = 0
    endpoint = ImportEndpoint(VmWriterSettings(datasource_url=server.url))
    assert endpoint.start_time(5.0) is None
    assert server.n_sent < 32 << 20
    endpoint.close()


def test_unencrypted_answers_to_tls_are_ssl_errors(server: ImportServer) -> None:
    with pytest.raises(TemporaryWriteError) as caught:
        post(server.url.replace("http:", "https:"))
    assert caught.value.code == "ssl_error"


def test_what_is_wrong_with_an_address_may_pass() -> None:
    with pytest.raises(TemporaryWriteError, match="idna") as caught:
        post("http://a..b:8428")
    assert caught.value.code == "io_error"
