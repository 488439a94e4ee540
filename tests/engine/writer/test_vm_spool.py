"""What the writer promises of results that it could not deliver, or that the database may have lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import engine.writer.vm
from engine.metrics import Metrics
from engine.settings import Duration, Size
from engine.writer.settings import SpoolSettings, VmWriterSettings
from engine.writer.vm import VmWriter
from tests.engine.writer.batches import numbered
from tests.engine.writer.server import Answer, ImportServer, Start, lines, sample, until

GAUGES = {f"vmanomaly_writer_{name}" for name in ("queue_bytes", "spool_bytes", "spool_oldest_seconds")}


@pytest.fixture
def spooled(server: ImportServer, metrics: Metrics, tmp_path: Path) -> Iterator[Start]:
    made: list[VmWriter] = []

    def begin(**keys: Any) -> VmWriter:
        settings = VmWriterSettings(**{"datasource_url": server.url, "timeout": Duration(500), **keys})
        made.append(VmWriter(settings, metrics, tmp_path / "spool"))
        return made[-1]

    yield begin
    for writer in made:
        writer.close(0.1)


def test_results_outlive_the_process(server: ImportServer, spooled: Start, metrics: Metrics) -> None:
    server.stop()
    first = spooled()
    for k in range(5):
        first.submit(numbered(k))
    assert first.is_safe()
    until(lambda: sample(metrics, "vmanomaly_writer_spool_oldest_seconds") > 0.1, "they wait")
    assert sample(metrics, "vmanomaly_writer_spool_bytes") > 5 * 100
    first.close(0.1)
    assert sample(metrics, "vmanomaly_writer_datapoints_dropped_total") == 0
    server.start()
    second = spooled()
    second.submit(numbered(5))
    assert second.drain(10)
    assert sorted(server.values()) == list(range(6))
    assert sample(metrics, "vmanomaly_writer_queue_bytes") == 0
    assert sample(metrics, "vmanomaly_writer_spool_oldest_seconds") == 0


def test_fresh_results_do_not_wait_for_a_backlog(server: ImportServer, spooled: Start, metrics: Metrics) -> None:
    server.stop()
    writer = spooled()
    for k in range(400):
        writer.submit(numbered(k))
    n_tries = sample(metrics, "vmanomaly_writer_responses_total", code="connection_error")
    until(lambda: sample(metrics, "vmanomaly_writer_responses_total") > n_tries + 2, "all of it is backlog")
    server.start()
    until(lambda: len(server.requests) > 1, "it works again")
    n_before = len(server.requests)
    writer.submit(numbered(999))
    assert writer.drain(15)
    assert n_before < 300
    assert server.values().index(999) <= n_before + 5
    assert [v for v in server.values() if v != 999] == list(range(400))


@pytest.mark.parametrize("started_s", [0, 1_700_000_000])
def test_results_are_settled_where_the_database_stays_or_does_not_say(
    server: ImportServer, spooled: Start, monkeypatch: pytest.MonkeyPatch, started_s: int
) -> None:
    monkeypatch.setattr(engine.writer.vm, "_UNSAFE_S", 0.2)
    server.started_s = started_s
    writer = spooled()
    writer.submit(numbered(0))
    until(lambda: writer.drain(0.01) and writer._spool.first_delivered_s() == float("inf"), "settled")
    assert server.values() == [0]


def test_a_database_that_goes_away_after_it_acknowledged_gets_it_again(
    server: ImportServer, spooled: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.writer.vm, "_UNSAFE_S", 0.5)
    server.started_s = 1_700_000_000
    writer = spooled()
    writer.submit(numbered(0))
    assert writer.drain(10)
    server.stop()
    time.sleep(1.0)
    server.started_s += 10
    server.start()
    until(lambda: server.values() == [0, 0], "sent again")


def test_the_start_time_is_looked_at_now_and_then_and_not_before_each_batch(
    server: ImportServer, spooled: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.writer.vm, "_UNSAFE_S", 0.4)
    server.started_s = 1_700_000_000
    writer = spooled()
    began = time.monotonic()
    for k in range(100):
        writer.submit(numbered(k))
        time.sleep(0.02)
    assert writer.drain(10)
    assert 3 <= server.n_looks <= 2 + (time.monotonic() - began) / 0.4
    assert server.values() == list(range(100))


def test_results_are_settled_where_bodies_are_taken_and_metrics_hang(
    server: ImportServer, spooled: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.writer.vm, "_UNSAFE_S", 0.5)
    server.started_s, server.metrics_s = 1_700_000_000, 30.0
    writer = spooled(timeout=Duration(100))
    writer.submit(numbered(0))
    assert writer.drain(10)
    first_s, deadline = writer._spool.first_delivered_s(), time.monotonic() + 15
    while writer._spool.first_delivered_s() == first_s:
        assert time.monotonic() < deadline
        writer.submit(numbered(1))
        time.sleep(0.05)
    assert server.values().count(0) == 1


def test_a_database_that_hangs_and_then_is_killed_gets_again_what_it_took_last(
    server: ImportServer, spooled: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.writer.vm, "_UNSAFE_S", 0.3)
    server.started_s = 1_700_000_000
    writer = spooled(timeout=Duration(100))
    writer.submit(numbered(0))
    assert writer.drain(10)
    server.metrics_s = 30.0
    n_before = server.n_looks
    until(lambda: server.n_looks >= n_before + 2, "it is looked at while it hangs")
    server.stop()
    server.started_s, server.metrics_s = server.started_s + 60, 0.0
    server.start()
    until(lambda: len(server.values()) > 1, "sent again")


@pytest.mark.parametrize(
    ("starts", "values"),
    [
        ([0, 60, 120], [0, 1, 1, 2, 2]),  # restarts, between two requests: no connection was broken
        ([0, 1, 0, 1], [0, 1, 1, 2, 3]),  # replicas behind one address
    ],
)
def test_results_are_sent_again_at_a_start_that_was_not_seen_before(
    server: ImportServer, spooled: Start, monkeypatch: pytest.MonkeyPatch, starts: list[int], values: list[int]
) -> None:
    monkeypatch.setattr(engine.writer.vm, "_UNSAFE_S", 0.2)
    server.started_s = 1_700_000_000
    writer = spooled()
    for k, start in enumerate(starts):
        writer.submit(numbered(k))
        assert writer.drain(10)
        server.started_s = 1_700_000_000 + start  # the next look meets this one
        until(lambda: writer.drain(0.01) and writer._spool.first_delivered_s() == float("inf"), "settled")
    assert server.values() == values


def test_a_refused_body_is_kept_and_logged_once(
    server: ImportServer, spooled: Start, metrics: Metrics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [Answer(400, (), b"cannot parse"), Answer(400), Answer(204)]
    writer = spooled()
    for k in range(3):
        writer.submit(numbered(k))
    assert writer.drain(10)
    assert server.values() == [0, 1, 2]
    kept = (tmp_path / "spool" / "refused.jsonl").read_bytes()
    assert kept == b"".join(request.body for request in server.requests[:2])
    assert sample(metrics, "vmanomaly_writer_datapoints_dropped_total", reason="refused") == 2
    assert [line for line in lines(caplog) if "are set aside" in line and "cannot parse" in line] == lines(caplog)


def test_what_waits_is_shown_by_the_writer_that_has_it_alone(
    server: ImportServer, spooled: Start, metrics: Metrics, tmp_path: Path
) -> None:
    server.stop()
    first = spooled()
    first.submit(numbered(0))
    until(lambda: sample(metrics, "vmanomaly_writer_spool_oldest_seconds") > 0, "it waits")
    settings = VmWriterSettings(datasource_url="http://127.0.0.1:1", timeout=Duration(500))
    second = VmWriter(settings, metrics, tmp_path / "spool", spool=first.hand_over(5))
    gauges = [s for family in metrics.registry.collect() for s in family.samples if s.name in GAUGES]
    assert {s.labels["url"] for s in gauges} == {"http://127.0.0.1:1/api/v1/import"}
    assert len(gauges) == len(GAUGES)
    second.close(0.1)
    assert not [s for family in metrics.registry.collect() for s in family.samples if s.name in GAUGES]
    server.start()


def test_bounds_are_those_of_the_configuration(
    server: ImportServer, spooled: Start, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.spool.segment._FULL_BYTES", 1)
    server.stop()
    writer = spooled(spool=SpoolSettings(max_bytes=Size(4 << 10)))
    for k in range(40):
        writer.submit(numbered(k))
    until(lambda: sample(metrics, "vmanomaly_writer_datapoints_dropped_total", reason="queue_full") > 20, "drops")
    assert sample(metrics, "vmanomaly_writer_spool_bytes") <= 4 << 10
    server.start()
    assert writer.drain(15)
    n_dropped = int(sample(metrics, "vmanomaly_writer_datapoints_dropped_total"))
    assert len(set(server.values())) == 40 - n_dropped
    assert set(range(n_dropped + 1, 40)) <= set(server.values())
