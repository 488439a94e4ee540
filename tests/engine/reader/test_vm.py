"""The reader over a transport in memory: what it asks, how it cuts, what it makes of good answers."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from engine.build import make_reader
from engine.config.schema import load_config
from engine.errors import ReadError
from engine.frame import Query, Window
from engine.metrics import Metrics
from engine.reader.vm import VmReader
from tests.engine.reader.memory_server import (
    MINUTE,
    QUERY,
    START,
    Server,
    expected,
    minutes,
    n_steps,
    read,
    reader_of,
    sample,
    whole,
)
from tests.engine.scripted import ScriptedVm


def test_a_request_has_all_parameters() -> None:
    server = Server()
    filters = ['{env="a"}', 'env="b"']
    reader = reader_of(server, extra_filters=filters, latency_offset="2ms", fetch_timeout="7s")
    pieces = read(reader, minutes(3))
    assert np.array_equal(whole(pieces), expected(2, minutes(3)))
    assert server.asked == [{
        "query": ["m"], "start": ["1700000040"], "end": ["1700000160"], "step": ["60"], "latency_offset": ["2ms"],
        "extra_filters[]": ['{env="a"}', '{env="b"}'], "timeout": ["7s"],
    }]  # fmt: skip
    assert server.requests[0].method == "GET"
    assert server.requests[0].headers["Accept-Encoding"] == "gzip"


def test_answers_from_the_same_machine_are_not_compressed() -> None:
    server = Server()
    read(reader_of(server, datasource_url="http://127.0.0.1:8428"), minutes(1))
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


def test_arguments_of_the_base_url_are_sent_and_not_shown() -> None:
    server = Server()
    metrics = Metrics()
    read(reader_of(server, metrics, datasource_url="http://db:8428?authKey=s3cr3t&extra_label=a=b"), minutes(1))
    assert server.asked[0]["authKey"] == ["s3cr3t"]
    assert server.asked[0]["extra_label"] == ["a=b"]
    assert sample(metrics, "vmanomaly_reader_responses_total", code="200") == 1


def test_steps_below_a_second_are_asked_exactly() -> None:
    server = Server()
    window = Window(1_700_000_000_250, 1_700_000_001_000, 250)
    pieces = read(reader_of(server), window, Query("q", "m", 250))
    assert (server.asked[0]["start"], server.asked[0]["step"]) == (["1700000000.25"], ["0.25"])
    assert np.allclose(whole(pieces), expected(2, window))


def test_a_long_query_goes_into_a_form() -> None:
    server = Server()
    expr = "m + " * 2000 + "m"
    read(reader_of(server), minutes(1), Query("q", expr, MINUTE))
    assert server.requests[0].method == "POST"
    assert server.asked[0]["query"] == [expr]
    assert server.requests[0].url.query == b""


@pytest.mark.parametrize(
    ("base", "tenant", "path", "url"),
    [
        ("http://db:8428", "", None, "http://db:8428/api/v1/query_range"),
        ("http://db:8428/prefix/", "", "/api/v1/query_range", "http://db:8428/prefix/api/v1/query_range"),
        ("http://db:8481", "1", None, "http://db:8481/select/1/prometheus/api/v1/query_range"),
        ("http://db:8481/", "1:2", None, "http://db:8481/select/1:2/prometheus/api/v1/query_range"),
        ("http://db:8481", "multitenant", None, "http://db:8481/select/multitenant/prometheus/api/v1/query_range"),
        ("http://db/select/7/prometheus", "7", None, "http://db/select/7/prometheus/api/v1/query_range"),
        ("http://u:p@db:1", "", None, "http://db:1/api/v1/query_range"),
    ],
)
def test_the_url_follows_tenant_and_base(base: str, tenant: str, path: str | None, url: str) -> None:
    server = Server()
    keys = {"datasource_url": base} | ({"query_range_path": path} if path else {})
    metrics = Metrics()
    read(reader_of(server, metrics, **keys), minutes(1), Query("q", "m", MINUTE, tenant_id=tenant))
    assert str(server.requests[0].url).split("?")[0] == url
    assert sample(metrics, "vmanomaly_reader_responses_total", code="200", url=url) == 1
    assert server.requests[0].headers.get("Authorization") == ("Basic dTpw" if "u:p" in base else None)


def test_a_window_over_the_limit_is_cut_without_gap_or_double(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    window = minutes(250)
    with caplog.at_level(logging.WARNING, "reader.vm"):
        pieces = read(reader_of(server, max_points_per_query=100), window)
    assert [p.n_steps for p, _ in pieces] == [16, 100, 100, 34]
    assert np.array_equal(whole(pieces), expected(2, window))
    stamps = np.concatenate([p.timestamps_ms() for p, _ in pieces])
    assert np.array_equal(stamps, window.timestamps_ms())
    assert sum("may exceed max datapoints per timeseries (100)" in m for m in caplog.messages) == 1


def test_the_next_piece_is_asked_for_while_an_answer_arrives() -> None:
    asked, in_time = [threading.Event() for _ in range(5)], []

    def slow(params: dict[str, list[str]], request: httpx.Request) -> httpx.Response:
        number, body = len(server.asked), server.matrix(params).content
        asked[number].set()

        def parts() -> Iterator[bytes]:
            yield body[: len(body) // 2]
            if number in (2, 3):  # the first piece says how large the others are, the last one has none behind
                in_time.append(asked[number + 1].wait(5))
            yield body[len(body) // 2 :]

        return httpx.Response(200, content=parts())

    server = Server(fault=slow)
    pieces = read(reader_of(server, max_points_per_query=100), minutes(250))
    assert in_time == [True, True]
    assert np.array_equal(whole(pieces), expected(2, minutes(250)))


def test_one_worker_asks_for_one_piece_at_a_time() -> None:
    asked, too_early = [threading.Event() for _ in range(6)], []

    def halting(params: dict[str, list[str]], request: httpx.Request) -> httpx.Response:
        number, body = len(server.asked), server.matrix(params).content
        asked[number].set()

        def parts() -> Iterator[bytes]:
            yield body[: len(body) // 2]
            too_early.append(asked[number + 1].wait(0.1))
            yield body[len(body) // 2 :]

        return httpx.Response(200, content=parts())

    server = Server(fault=halting)
    pieces = read(reader_of(server, max_points_per_query=100, workers=1), minutes(250))
    assert too_early == [False] * 4
    assert np.array_equal(whole(pieces), expected(2, minutes(250)))


def test_an_answer_that_grows_too_large_is_asked_for_again_with_what_was_asked_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.reader.query_range.MAX_BODY_BYTES", 4_000)
    server, metrics = Server(), Metrics()
    reader = reader_of(server, metrics, max_points_per_query=100)
    pieces = list(reader.read(QUERY, minutes(250), "s"))
    reader._executor.shutdown(wait=True)
    assert n_steps(server.asked[1]) == 100
    assert max(p.n_steps for p, _ in pieces) < 100
    assert np.array_equal(whole(pieces), expected(2, minutes(250)))
    assert sample(metrics, "vmanomaly_reader_processing_tasks_queued") == 0
    reader.close()


def test_the_querys_limit_comes_before_the_readers() -> None:
    server = Server()
    query = Query("q", "m", MINUTE, max_points_per_query=5)
    read(reader_of(server, max_points_per_query=100), minutes(10), query)
    assert [n_steps(a) for a in server.asked] == [5, 5]


def test_many_series_make_small_pieces_also_on_the_next_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.reader.pieces.POINTS_PER_PIECE", 200)
    server = Server(n_series=10)
    reader = reader_of(server)
    list(reader.read(QUERY, minutes(40), "s"))
    assert [n_steps(a) for a in server.asked] == [16, 20, 4]
    server.asked.clear()
    read(reader, minutes(40))
    assert [n_steps(a) for a in server.asked] == [20, 20]


def test_success_counts_what_came() -> None:
    metrics = Metrics()
    server = Server()
    read(reader_of(server, metrics), minutes(3))
    assert sample(metrics, "vmanomaly_reader_timeseries_received_total") == 2
    assert sample(metrics, "vmanomaly_reader_datapoints_received_total") == 6
    assert sample(metrics, "vmanomaly_reader_received_bytes_total") == len(server.matrix(server.asked[0]).content)
    assert sample(metrics, "vmanomaly_reader_response_parsing_seconds_count", step="json") == 1
    assert sample(metrics, "vmanomaly_reader_processing_tasks_queued") == 0
    assert sample(metrics, "vmanomaly_reader_duplicate_series_total") == 0


def test_series_that_come_twice_are_counted() -> None:
    server = Server()
    twice = [{"metric": {"a": "1"}, "values": [[START // 1000, "1"]]}] * 2
    body = {"status": "success", "data": {"resultType": "matrix", "result": twice}}
    server.fault = lambda *_: httpx.Response(200, json=body)
    metrics = Metrics()
    pieces = read(reader_of(server, metrics), minutes(1))
    assert whole(pieces).tolist() == [[1]]
    assert sample(metrics, "vmanomaly_reader_duplicate_series_total") == 1


def test_an_empty_answer_is_no_error() -> None:
    pieces = read(reader_of(Server(n_series=0)), minutes(2))
    assert [s.n_points for _, s in pieces] == [0]


def test_an_empty_window_asks_nothing() -> None:
    server = Server()
    assert read(reader_of(server), Window(START, START - MINUTE, MINUTE)) == []
    assert server.asked == []


TENANTS = {"queries": {"q": {"expr": "m"}, "r": {"expr": "m", "tenant_id": "3:4"}}, "tenant_id": "1"}


@pytest.mark.parametrize(
    ("keys", "tenant", "labels"),
    [
        (TENANTS, "3:4", {"vm_account_id": "3", "vm_project_id": "4"}),
        (TENANTS, "1", {"vm_account_id": "1", "vm_project_id": "0"}),
        (TENANTS | {"tenant_id": "multitenant"}, "multitenant", {}),
        ({"tenant_id": "1"}, "1", {}),
        ({"tenant_id": "0", "queries": {"r": {"expr": "m", "tenant_id": "0:0"}}}, "0:0", {}),
        ({}, "", {}),
    ],
)
def test_series_of_several_tenants_carry_theirs(keys: dict[str, Any], tenant: str, labels: dict[str, str]) -> None:
    reader = reader_of(Server(n_series=1), **keys)
    query = Query("r", "m", MINUTE, tenant_id=tenant)
    read(reader, minutes(1), query)
    assert reader.table(query).labels(0) == {"n": "0"} | labels


@pytest.mark.parametrize(
    ("tenant", "labels"), [("7:2", {"vm_account_id": "7", "vm_project_id": "2"}), ("multitenant", {}), ("", {})]
)
def test_a_writer_of_many_tenants_is_told_also_the_only_one(
    tmp_path: Path, tenant: str, labels: dict[str, str]
) -> None:
    vm, own = ScriptedVm(n_series=1), f", tenant_id: {tenant!r}" if tenant else ""
    (tmp_path / "config.yml").write_text(f"""
schedulers: {{s: {{class: periodic, infer_every: 1m, fit_window: 1d}}}}
models: {{z: {{class: zscore_online}}}}
reader: {{datasource_url: "{vm.url}", sampling_period: 1m, queries: {{q: {{expr: m}}}}{own}}}
writer: {{datasource_url: "{vm.url}", tenant_id: multitenant}}
""")
    config = load_config([tmp_path / "config.yml"], {})
    reader, query = make_reader(config, Metrics()), config.queries["q"]
    assert isinstance(reader, VmReader)
    read(reader, minutes(1), query)
    assert reader.table(query).labels(0) == {"series": "0"} | labels
    vm.stop()


def test_tenant_labels_that_the_query_drops_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    reader = reader_of(Server(), tenant_id="multitenant")
    query = Query("q", "m", MINUTE, tenant_id="multitenant")
    list(reader.read(query, minutes(20), "s"))
    read(reader, minutes(2), query)
    assert caplog.text.count("The label vm_account_id was not found") == 1


def test_a_table_lives_as_long_as_its_reader() -> None:
    reader = reader_of(Server(n_series=3))
    table = reader.table(QUERY)
    list(reader.read(QUERY, minutes(1), "a"))
    (_, samples), *_ = list(reader.read(QUERY, minutes(1), "b"))
    reader.close()
    assert reader.table(QUERY) is table
    assert [table.labels(k)["n"] for k in samples.series.tolist()] == ["0", "1", "2"]


def test_a_closed_reader_reads_no_more() -> None:
    reader = reader_of(Server())
    reading = reader.read(QUERY, minutes(40), "s")
    next(reading)
    reader.close()
    with pytest.raises(ReadError, match="closed"):
        list(reading)
    with pytest.raises(ReadError, match="closed"):
        list(reader.read(QUERY, minutes(1), "s"))


def test_a_reading_given_up_half_way_leaves_nothing_waiting() -> None:
    metrics = Metrics()
    reader = reader_of(Server(), metrics)
    reading = reader.read(QUERY, minutes(40), "s")
    next(reading)
    reading.close()
    reader._executor.shutdown(wait=True)
    assert sample(metrics, "vmanomaly_reader_processing_tasks_queued") == 0
    reader.close()


def test_infinite_values_come_through() -> None:
    result = [{"metric": {}, "values": [[START // 1000, "+Inf"], [START // 1000 + 60, "-Inf"]]}]
    body = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    ((_, samples),) = read(reader_of(Server(fault=lambda *_: httpx.Response(200, text=json.dumps(body)))), minutes(2))
    assert samples.values.tolist() == [math.inf, -math.inf]
