"""The writer against an endpoint that refuses, hangs or is away: retries, drops, bounds, secrets."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import httpx
import pytest

from engine.metrics import Metrics
from engine.series import SeriesTable
from engine.settings import Duration
from tests.engine.writer.batches import make_batch, numbered, simple_batch
from tests.engine.writer.server import Answer, ImportServer, Start, lines, sample, until


@pytest.mark.parametrize("status", [302, 401, 403, 404, 405, 408, 429, 500, 502, 503])
def test_a_server_that_cannot_now_is_asked_again(
    server: ImportServer, start: Start, metrics: Metrics, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    headers = (("Retry-After", "0"), ("Location", "http://u:pw@127.0.0.1:1/"))
    server.script = [Answer(status, headers, b"not now")]
    writer = start()
    for k in (1, 2):
        writer.submit(numbered(k))
    assert writer.drain(10)
    assert server.values() == [1, 1, 2]
    assert sample(metrics, "vmanomaly_writer_responses_total", code=str(status)) == 1
    assert sample(metrics, "vmanomaly_writer_datapoints_sent_total") == 2
    assert sample(metrics, "vmanomaly_writer_datapoints_dropped_total") == 0
    first, second = lines(caplog)
    assert first.startswith("WARNING Cannot write now: ")
    assert str(status) in first
    assert "pw" not in first
    assert second.startswith(f"INFO Writing to {server.url}/api/v1/import works again")


def test_retry_after_is_waited_for(server: ImportServer, start: Start) -> None:
    server.script = [Answer(429, (("Retry-After", "2"),))]
    writer = start()
    started = time.monotonic()
    writer.submit(numbered(1))
    assert writer.drain(10)
    assert time.monotonic() - started >= 1.9


def test_silence_is_a_timeout_and_is_retried(server: ImportServer, start: Start, metrics: Metrics) -> None:
    server.script = ["silence"]
    writer = start()
    writer.submit(numbered(1))
    assert writer.drain(10)
    assert server.values() == [1, 1]
    assert sample(metrics, "vmanomaly_writer_responses_total", code="timeout") == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_body_is_dropped_alone(
    server: ImportServer, start: Start, metrics: Metrics, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [Answer(status) for _ in range(3)]
    writer = start()
    for k in range(5):
        writer.submit(numbered(k))
    assert writer.drain(10)
    assert server.values() == [0, 1, 2, 3, 4]
    assert sample(metrics, "vmanomaly_writer_responses_total", code=str(status)) == 3
    assert sample(metrics, "vmanomaly_writer_datapoints_dropped_total", reason="refused") == 3
    assert sample(metrics, "vmanomaly_writer_datapoints_sent_total") == 2
    (message,) = lines(caplog)
    assert message.startswith("ERROR Cannot write 1 points for query 'cpu'")
    assert str(status) in message


def test_one_refused_body_of_a_batch_leaves_the_others(server: ImportServer, start: Start, metrics: Metrics) -> None:
    server.script = [Answer(204), Answer(400)]
    writer = start(batch_max_series=1)
    writer.submit(simple_batch(3))
    assert writer.drain(10)
    assert server.values() == [0, 1, 2]
    assert sample(metrics, "vmanomaly_writer_datapoints_dropped_total", reason="refused") == 1
    assert sample(metrics, "vmanomaly_writer_datapoints_sent_total") == 2


def test_a_database_that_was_away_gets_all_in_order(server: ImportServer, start: Start, metrics: Metrics) -> None:
    server.stop()
    writer = start()
    for k in range(10):
        writer.submit(numbered(k))
    until(lambda: sample(metrics, "vmanomaly_writer_responses_total", code="connection_error") >= 2, "two tries")
    assert not writer.drain(0.01)
    server.start()
    assert writer.drain(15)
    assert server.values() == list(range(10))


def test_a_full_queue_gives_up_the_oldest_that_is_not_under_way(
    server: ImportServer, start: Start, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    server.stop()
    writer = start(queue_bytes=5 * 8)
    writer.submit(numbered(0))
    until(lambda: sample(metrics, "vmanomaly_writer_responses_total", code="connection_error") >= 1, "a try")
    for k in range(1, 10):
        writer.submit(numbered(k))
    assert sample(metrics, "vmanomaly_writer_datapoints_dropped_total", reason="queue_full") == 4
    assert sample(metrics, "vmanomaly_writer_queue_bytes") <= 5 * 8
    server.start()
    assert writer.drain(15)
    assert server.values() == [0, 5, 6, 7, 8, 9]
    assert "Cannot write 1 points for query 'cpu': given up (queue_full)" in caplog.text


def test_a_half_delivered_batch_goes_on_where_it_stopped(server: ImportServer, start: Start) -> None:
    server.script = [Answer(204), Answer(503), Answer(503)]
    writer = start(batch_max_series=1)
    writer.submit(simple_batch(3))
    assert writer.drain(10)
    assert server.values() == [0, 1, 1, 1, 2]


def test_colliding_series_are_counted(server: ImportServer, start: Start, metrics: Metrics) -> None:
    writer = start()
    writer.submit(
        make_batch([{"__name__": "a"}, {"__name__": "b"}], {"y": [[1.0], [2.0]], "yhat": [[1.0], [math.nan]]})
    )
    assert writer.drain(10)
    assert server.values() == [1, 1]
    assert sample(metrics, "vmanomaly_writer_datapoints_dropped_total", reason="collision") == 1


def test_a_batch_that_cannot_be_encoded_does_not_stop_the_next(
    server: ImportServer, start: Start, metrics: Metrics
) -> None:
    class BrokenTable(SeriesTable):
        def labels(self, series: int) -> dict[str, str]:
            raise RuntimeError("broken")

    writer = start()
    writer.submit(numbered(1, BrokenTable()))
    writer.submit(numbered(2))
    assert writer.drain(10)
    assert server.values() == [2]
    assert sample(metrics, "vmanomaly_writer_datapoints_dropped_total", reason="failed") == 1


@pytest.mark.parametrize("error", [ValueError("label empty"), AttributeError("broken")])
def test_a_request_that_cannot_be_made_is_no_fault_of_the_batch(
    server: ImportServer, start: Start, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    writer = start()
    with monkeypatch.context() as patched:
        patched.setattr(httpx.Client, "stream", fails)
        for k in range(3):
            writer.submit(numbered(k))
        until(lambda: sample(metrics, "vmanomaly_writer_responses_total", code="io_error") >= 2, "two tries")
    assert writer.drain(15)
    assert server.values() == [0, 1, 2]
    assert sample(metrics, "vmanomaly_writer_datapoints_dropped_total") == 0


@pytest.mark.parametrize("fault", ["silence", "away"])
def test_close_returns_in_time_and_counts_what_is_left(
    server: ImportServer, start: Start, metrics: Metrics, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer = start(timeout=Duration(20_000))
    if fault == "away":
        server.stop()
    else:
        server.script = ["silence"] * 100
    for k in range(3):
        writer.submit(numbered(k))
    until(lambda: bool(server.requests) or fault == "away", "the first try")
    started = time.monotonic()
    writer.close(0.5)
    assert time.monotonic() - started < 1.5
    assert sample(metrics, "vmanomaly_writer_datapoints_dropped_total", reason="shutdown") == 3
    assert "given up (shutdown)" in caplog.text
    assert "Traceback" not in caplog.text
    if fault == "away":
        server.start()


def test_close_delivers_what_it_can(server: ImportServer, start: Start) -> None:
    writer = start()
    for k in range(50):
        writer.submit(numbered(k))
    writer.close(10)
    assert server.values() == list(range(50))
    writer.submit(numbered(99))
    assert not writer._thread.is_alive()


def test_a_batch_after_close_is_counted(start: Start, metrics: Metrics) -> None:
    writer = start()
    writer.close(0)
    writer.submit(numbered(1))
    assert sample(metrics, "vmanomaly_writer_datapoints_dropped_total", reason="shutdown") == 1


def test_probe_says_whether_writes_are_taken(
    server: ImportServer, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    writer = start()
    writer.probe()
    server.stop()
    writer.probe()
    server.start()
    first, second = lines(caplog)
    assert first == f"INFO Writing to {server.url}/api/v1/import"
    assert second.startswith("WARNING Writing is not possible yet: ")
    assert server.requests[0].body == b""


def test_credentials_are_in_no_log_line_and_no_metric(
    server: ImportServer, start: Start, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    host = server.url.removeprefix("http://")
    echo = b"cannot use Authorization: Basic dXNlcjpzZWNyZXQ= of user:secret"
    server.script = [Answer(400, (), echo), Answer(503, (), echo), "reset", Answer(204)]
    writer = start(datasource_url=f"http://user:secret@{host}", timeout=Duration(300))
    for k in range(3):
        writer.submit(numbered(k))
    assert writer.drain(10)
    writer.probe()
    shown = caplog.text + repr([s for f in metrics.registry.collect() for s in f.samples])
    assert "secret" not in shown
    assert "dXNlcjpzZWNyZXQ=" not in shown
    assert server.requests[0].headers["Authorization"] == "Basic dXNlcjpzZWNyZXQ="
