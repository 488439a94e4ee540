"""The writer against a scripted endpoint: delivery, order, lost connections."""

from __future__ import annotations

import math
from pathlib import Path

import certifi
import pytest

from engine.metrics import Metrics
from tests.engine.writer.batches import make_batch, numbered, simple_batch
from tests.engine.writer.server import Answer, ImportServer, Start, lines, sample


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
