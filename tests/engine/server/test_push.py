"""What is pushed, where to, and what a failure does."""

from __future__ import annotations

import http.server
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from engine.errors import StartError
from engine.metrics import Metrics
from engine.server.push import Pusher, push_url
from engine.server.settings import PushFrequency, PushSettings
from engine.settings import Duration
from tests.e2e.stack import until


class Endpoint:
    """Keeps the pushes that it gets."""

    def __init__(self) -> None:
        self.status = 204
        self.pushes: list[tuple[str, dict[str, str], str]] = []
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                endpoint.pushes.append((self.path, dict(self.headers), body))
                self.send_response(endpoint.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize(
    ("url", "tenant", "path"),
    [
        ("http://vm:8428", None, "/api/v1/import/prometheus"),
        ("http://vm:8428/", None, "/api/v1/import/prometheus"),
        ("http://vminsert:8480", "3:4", "/insert/3:4/prometheus/api/v1/import/prometheus"),
        ("http://vminsert:8480/insert/3:4/prometheus/", "3:4", "/insert/3:4/prometheus/api/v1/import/prometheus"),
        ("http://vm:8428/api/v1/import", None, "/api/v1/import/prometheus"),
        ("http://vm/insert/0/prometheus/api/v1/import/", None, "/insert/0/prometheus/api/v1/import/prometheus"),
        ("http://vm/base/api/v1/import/prometheus", None, "/base/api/v1/import/prometheus"),
    ],
)
def test_url_of_single_nodes_and_clusters(url: str, tenant: str | None, path: str) -> None:
    assert push_url(PushSettings(url=url, tenant_id=tenant)).path == path


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, {"job": "vmanomaly", "instance": f"{socket.gethostname()}:8500"}),
        ({"job": "mine", "dc": "eu"}, {"job": "mine", "instance": f"{socket.gethostname()}:8500", "dc": "eu"}),
        ({"instance": "here"}, {"job": "vmanomaly", "instance": "here"}),
    ],
)
def test_jobs_that_end_are_pushed_with_job_and_instance(
    endpoint: Endpoint, extra: dict[str, str], expected: dict[str, str]
) -> None:
    pusher = Pusher(PushSettings(url=endpoint.url, extra_labels=extra), Metrics(), port=8500)
    pusher.start()
    pusher.notify()
    until(lambda: endpoint.pushes, 10, "a push")
    assert pusher.stop(5)
    path, _, body = endpoint.pushes[0]
    assert dict(label.split("=", 1) for _, label in parse_qsl(urlsplit(path).query)) == expected
    assert "vmanomaly_start_time_seconds" in body


def test_credentials_are_sent_and_never_logged(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = PushSettings(url=endpoint.url, user="u", password="hunter2")
    pusher = Pusher(settings, Metrics(), port=1)
    assert pusher.push()
    assert endpoint.pushes[0][1]["Authorization"].startswith("Basic ")
    endpoint.status = 401
    assert not pusher.push()
    assert "hunter2" not in caplog.text
    assert "answered 401" in caplog.text


def test_failure_is_logged_once_and_pushing_goes_on(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    pusher = Pusher(PushSettings(url=endpoint.url), Metrics(), port=1)
    endpoint.status = 500
    assert [pusher.push() for _ in range(3)] == [False] * 3
    assert caplog.text.count("answered 500") == 1
    endpoint.status = 204
    assert pusher.push()


def test_nobody_there_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    pusher = Pusher(PushSettings(url="http://127.0.0.1:1"), Metrics(), port=1)
    assert not pusher.push()
    assert "push to http://127.0.0.1:1/api/v1/import/prometheus failed" in caplog.text


def test_pushes_come_every_push_frequency_without_any_job(endpoint: Endpoint) -> None:
    pusher = Pusher(PushSettings(url=endpoint.url, push_frequency=PushFrequency(50)), Metrics(), port=1)
    pusher.start()
    until(lambda: len(endpoint.pushes) >= 2, 10, "two pushes")
    assert pusher.stop(5)


def test_what_the_last_jobs_counted_is_pushed_at_the_stop(endpoint: Endpoint) -> None:
    metrics = Metrics()
    pusher = Pusher(PushSettings(url=endpoint.url, push_frequency=PushFrequency.parse("")), metrics, port=1)
    pusher.start()
    metrics.threads.set(77)
    assert pusher.stop(5)
    assert "vmanomaly_native_threads_per_worker 77.0" in endpoint.pushes[-1][2]
    assert "_created" not in endpoint.pushes[-1][2]


def test_jobs_that_end_together_are_one_push(endpoint: Endpoint) -> None:
    pusher = Pusher(PushSettings(url=endpoint.url, push_frequency=PushFrequency(0)), Metrics(), port=1)
    pusher.start()
    for _ in range(200):
        pusher.notify()
    until(lambda: endpoint.pushes, 10, "a push")
    assert pusher.stop(5)
    assert len(endpoint.pushes) == 2  # the jobs' and the last one


def test_a_silent_endpoint_does_not_hold_the_stop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        pusher = Pusher(PushSettings(url=url, timeout=Duration(2_000)), Metrics(), port=1)
        pusher.start()
        pusher.notify()
        assert not pusher.stop(0.1)
        assert pusher.stop(30)


def test_a_token_that_no_header_can_hold_is_a_failed_push(caplog: pytest.LogCaptureFixture) -> None:
    pusher = Pusher(PushSettings(url="http://127.0.0.1:1", bearer_token="s\u00e9cret\u2603"), Metrics(), port=1)
    assert not pusher.push()
    assert "failed" in caplog.text
    assert "cret" not in caplog.text


def test_a_push_that_cannot_be_made_is_a_failed_push(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise AttributeError("broken")

    monkeypatch.setattr(httpx.Client, "post", fails)
    assert not Pusher(PushSettings(url="http://127.0.0.1:1"), Metrics(), port=1).push()
    assert "broken" in caplog.text


def test_a_password_in_the_url_is_not_shown(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    endpoint.status = 500
    pusher = Pusher(PushSettings(url=endpoint.url.replace("//", "//me:hunter2@")), Metrics(), port=1)
    assert not pusher.push()
    assert endpoint.pushes[0][1]["Authorization"].startswith("Basic ")
    assert "hunter2" not in caplog.text


def test_a_missing_ca_file_is_named_at_the_start() -> None:
    with pytest.raises(StartError, match=r"monitoring\.push: verify_tls: No such file"):
        Pusher(PushSettings(url="https://vm", verify_tls="/none.pem"), Metrics(), port=1)
