"""The writer against a scripted endpoint: delivery, order, retries, drops, bounds."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest

from engine.frame import SeriesTable
from engine.metrics import Metrics
from engine.settings import Duration
from engine.writer.settings import VmWriterSettings
from engine.writer.vm import VmWriter
from tests.engine.writer.batches import MINUTE_MS, START_MS, make_batch, simple_batch
from tests.engine.writer.server import Answer, ImportServer, until

Start = Callable[..., VmWriter]


@pytest.fixture
def server() -> Iterator[ImportServer]:
    made = ImportServer()
    yield made
    made.stop()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def start(server: ImportServer, metrics: Metrics) -> Iterator[Start]:
    made: list[VmWriter] = []

    def begin(queue_bytes: int = 1 << 20, **keys: Any) -> VmWriter:
        keys = {"datasource_url": server.url, "timeout": Duration(500), **keys}
        made.append(VmWriter(VmWriterSettings(**keys), metrics, queue_bytes=queue_bytes))
        return made[-1]

    yield begin
    for writer in made:
        writer.close(0.1)


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


def numbered(k: int, table: SeriesTable | None = None) -> Any:
    """A batch of one point whose value is k."""
    return make_batch([{"i": "0"}], {"y": [[float(k)]]}, table=table, start_ms=START_MS + k * MINUTE_MS)


def test_batches_arrive_whole_and_in_order(server: ImportServer, start: Start, metrics: Metrics) -> None:
    writer = start()
    for k in range(20):
        writer.submit(numbered(k))
    assert writer.drain(10)
    assert server.values() == list(range(20))
    request = server.requests[0]
    assert request.path == "/api/v1/import"
    assert int(request.headers["Content-Length"]) == len(request.body)
    names = {"url": f"{server.url}/api/v1/import", "query_key": "cpu", "scheduler_alias": "s", "preset": "default"}
    assert sample(metrics, "vmanomaly_writer_responses_total", code="204", **names) == 20
    assert sample(metrics, "vmanomaly_writer_datapoints_sent_total", **names) == 20
    assert sample(metrics, "vmanomaly_writer_timeseries_sent_total", **names) == 20
    sent = sum(len(r.body) for r in server.requests)
    assert sample(metrics, "vmanomaly_writer_sent_bytes_total", **names) == sent
    assert sample(metrics, "vmanomaly_writer_request_duration_seconds_count", **names) == 20
    assert sample(metrics, "vmanomaly_writer_request_serialize_seconds_count", **names) == 20
    assert sample(metrics, "vmanomaly_writer_queue_bytes") == 0


def test_a_good_answer_is_counted_before_the_first_one_came(
    server: ImportServer, start: Start, metrics: Metrics
) -> None:
    server.script = ["silence"]
    start().submit(numbered(1))
    codes = [
        s.labels["code"]
        for f in metrics.registry.collect()
        for s in f.samples
        if s.name.endswith("writer_responses_total")
    ]
    assert codes == ["200"]


def test_long_batches_go_in_bodies_of_bounded_size(server: ImportServer, start: Start) -> None:
    writer = start(batch_max_bytes=1000, batch_max_series=3)
    writer.submit(simple_batch(20, 5))
    assert writer.drain(10)
    assert max(len(r.body) for r in server.requests) <= 1000
    assert max(r.body.count(b"\n") for r in server.requests) <= 3
    assert sorted(server.values()) == sorted(i + t / 10 for i in range(20) for t in range(5))


@pytest.mark.parametrize(
    ("base", "keys", "path"),
    [
        ("", {}, "/api/v1/import"),
        ("/", {}, "/api/v1/import"),
        ("/vm/", {}, "/vm/api/v1/import"),
        ("", {"tenant_id": "3:4"}, "/insert/3:4/prometheus/api/v1/import"),
        ("", {"tenant_id": "0"}, "/insert/0/prometheus/api/v1/import"),
        ("", {"tenant_id": "multitenant"}, "/insert/multitenant/prometheus/api/v1/import"),
        ("", {"tenant_id": ""}, "/api/v1/import"),
        ("", {"import_json_path": "custom/import"}, "/custom/import"),
        ("/?extra_label=a%3Db", {}, "/api/v1/import?extra_label=a%3Db"),
    ],
)
def test_where_bodies_go(server: ImportServer, start: Start, base: str, keys: dict[str, str], path: str) -> None:
    writer = start(datasource_url=server.url + base, **keys)
    writer.submit(numbered(1))
    assert writer.drain(10)
    assert server.requests[0].path == path


def test_nothing_finite_is_no_request(server: ImportServer, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    writer = start()
    writer.submit(make_batch([{}], {"y": [[math.nan, math.inf, -math.inf]]}))
    assert writer.drain(10)
    assert server.requests == []
    assert lines(caplog) == ["WARNING No valid datapoints to save for metric ['y'] of query 'cpu'"]


@pytest.mark.parametrize("fault", ["reset", "disconnect", "half"])
def test_a_lost_connection_is_retried_at_once(
    server: ImportServer, start: Start, metrics: Metrics, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [fault]
    writer = start()
    writer.submit(numbered(1))
    assert writer.drain(10)
    assert server.values() == [1, 1]
    assert sample(metrics, "vmanomaly_writer_responses_total", code="connection_error") == 1
    assert sample(metrics, "vmanomaly_writer_responses_total", code="204") == 1
    assert lines(caplog) == []


def test_a_connection_that_the_server_closed_while_idle_is_replaced(server: ImportServer, start: Start) -> None:
    server.script = [Answer(204, closes=True)]
    writer = start(connection_retry_attempts=1)
    for k in (1, 2):
        writer.submit(numbered(k))
        assert writer.drain(10)
    assert server.values()[:2] == [1, 2]
    assert {r.connection for r in server.requests} == {0, 1}


def test_a_tls_file_that_is_gone_for_a_moment_stops_nothing(server: ImportServer, start: Start, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes())
    writer = start(verify_tls=str(bundle))
    bundle.unlink()
    server.script = ["reset"]
    writer.submit(numbered(1))
    assert writer.drain(10)
    assert server.values() == [1, 1]


def test_what_was_delivered_last_is_sent_again_after_a_lost_connection(server: ImportServer, start: Start) -> None:
    writer = start()
    for k in (1, 2):
        writer.submit(numbered(k))
    assert writer.drain(10)
    server.script = ["reset"]
    writer.submit(numbered(3))
    assert writer.drain(10)
    assert server.values() == [1, 2, 3, 3, 1, 2]
    writer.submit(numbered(4))
    assert writer.drain(10)
    assert server.values()[6:] == [4]


def test_an_endpoint_that_drops_every_second_request_does_not_loop(server: ImportServer, start: Start) -> None:
    server.script = [entry for _ in range(20) for entry in (Answer(204), "reset")]
    writer = start()
    for k in range(5):
        writer.submit(numbered(k))
    assert writer.drain(10)
    assert set(server.values()) == set(range(5))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_server_that_cannot_now_is_asked_again(
    server: ImportServer, start: Start, metrics: Metrics, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.script = [Answer(status, (("Retry-After", "0"),), b"not now")]
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


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 413, 422])
def test_a_refused_body_is_dropped_alone(
    server: ImportServer, start: Start, metrics: Metrics, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [Answer(status, (("Location", "http://u:pw@127.0.0.1:1/"),)) for _ in range(3)]
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


def test_a_full_queue_gives_up_the_oldest(
    server: ImportServer, start: Start, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    server.stop()
    writer = start(queue_bytes=5 * 8)
    for k in range(10):
        writer.submit(numbered(k))
    until(lambda: sample(metrics, "vmanomaly_writer_datapoints_dropped_total", reason="queue_full") == 5, "drops")
    assert sample(metrics, "vmanomaly_writer_queue_bytes") <= 5 * 8
    server.start()
    assert writer.drain(15)
    assert server.values()[-4:] == [6, 7, 8, 9]
    assert len(server.values()) == 5
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
