"""Clients from connection settings: credentials, TLS files, codes of failures, texts without secrets."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.errors import StartError
from engine.http import Connection, Wires, client, error_code, explain, redact


def sent(connection: Connection, n: int = 1, between: Callable[[], Any] = lambda: None) -> list[httpx.Request]:
    """The requests that a client with these settings sends."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(302, headers={"Location": "http://elsewhere/"})

    with client(connection, 5, transport=httpx.MockTransport(answer)) as made:
        for _ in range(n):
            assert made.get("http://db/").status_code == 302
            between()
    return requests


def test_no_credentials_send_no_header() -> None:
    assert "Authorization" not in sent(Connection())[0].headers


def test_user_and_password_are_basic_auth() -> None:
    assert sent(Connection(user="Aladdin", password="open sesame"))[0].headers["Authorization"] == (
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # the example of RFC 7617
    )


def test_a_token_is_sent_with_the_capital_that_vmauth_wants() -> None:
    assert sent(Connection(bearer_token="abc"))[0].headers["Authorization"] == "Bearer abc"


def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old\n")

    def rotate() -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text("new\n")
        os.replace(fresh, path)

    requests = sent(Connection(bearer_token_file=str(path)), 2, rotate)
    assert [r.headers["Authorization"] for r in requests] == ["Bearer old", "Bearer new"]


def test_a_token_file_that_is_gone_leaves_the_last_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "token"
    path.write_text("last")
    requests = sent(Connection(bearer_token_file=str(path)), 2, lambda: path.unlink(missing_ok=True))
    assert requests[1].headers["Authorization"] == "Bearer last"
    assert "bearer_token_file cannot be read" in caplog.text
    assert "last" not in caplog.text.replace("last token", "")


def test_a_token_file_that_is_no_text_for_a_moment_leaves_the_last_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    path.write_text("kept")
    requests = sent(Connection(bearer_token_file=str(path)), 2, lambda: path.write_bytes(b"\xff\xfe\x00half"))
    assert [r.headers["authorization"] for r in requests] == ["Bearer kept", "Bearer kept"]
    assert "bearer_token_file cannot be read: it is not UTF-8" in caplog.text


def test_redirects_are_not_followed() -> None:
    assert len(sent(Connection())) == 1


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"verify_tls": "/no/such/ca.pem"}, "verify_tls: No such file"),
        ({"verify_tls": __file__}, "verify_tls"),
        ({"tls_cert_file": "/no/cert.pem", "tls_key_file": "/no/key.pem"}, "tls_cert_file: No such file"),
        ({"tls_cert_file": __file__, "tls_key_file": __file__}, "tls_cert_file"),
    ],
)
def test_a_tls_file_that_cannot_be_used_is_named(keys: dict[str, Any], name: str) -> None:
    with pytest.raises(StartError, match=name):
        client(Connection(**keys), 5)


def caused(outer: Exception, cause: BaseException) -> Exception:
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpx.ReadTimeout(""), "timeout"),
        (httpx.ConnectTimeout(""), "timeout"),
        (TimeoutError(), "timeout"),
        (caused(httpx.ConnectError("x"), ssl.SSLCertVerificationError("bad")), "ssl_error"),
        (httpx.ConnectError("refused"), "connection_error"),
        (httpx.ReadError("reset"), "connection_error"),
        (httpx.RemoteProtocolError("half"), "connection_error"),
        (ConnectionResetError(), "connection_error"),
        (httpx.DecodingError("gzip"), "io_error"),
        (OSError("disk"), "io_error"),
    ],
)
def test_each_failure_has_its_code(error: Exception, code: str) -> None:
    assert error_code(error) == code
    assert explain(error)
    assert ("verify_tls" in explain(error)) is (code == "ssl_error")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:pass@host/x?a=1", "http://***@host/x?a=1"),
        ('token "Basic dXNlcjpwYXNz" in config', 'token "Basic ***" in config'),
        ("authorization: bearer abc.def", "authorization: bearer ***"),
        ("http://h/?authKey=k3y&query=up", "http://h/?authKey=***&query=up"),
        ("plain text, nothing to hide", "plain text, nothing to hide"),
    ],
)
def test_texts_lose_what_looks_like_a_credential(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_cut_wires_end_a_read_from_another_thread() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wires = Wires()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        errors: list[str] = []

        def wait() -> None:
            try:
                made.get(url, extensions={"trace": wires.trace})
            except httpx.HTTPError as err:
                errors.append(error_code(err))

        with client(Connection(), 30) as made:
            thread = threading.Thread(target=wait)
            thread.start()
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                wires.cut()
                thread.join(10)
        assert errors == ["connection_error"]
