"""The reader's logic over a transport in memory: what it asks, how it cuts, what it does about each answer."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import msgspec
import numpy as np
import pytest

from engine.errors import ReadError
from engine.frame import Query, Samples, Window, pack
from engine.metrics import Metrics
from engine.reader import query_range
from engine.reader.settings import VmReaderSettings
from engine.reader.vm import VmReader
from engine.settings import decode_hook

START = 1_700_000_040_000  # a multiple of a minute
MINUTE = 60_000

Handler = Callable[[dict[str, list[str]], httpx.Request], httpx.Response]


def settings_of(**keys: Any) -> VmReaderSettings:
    given = {
        "class": "vm",
        "datasource_url": "http://db:8428/",
        "sampling_period": "1m",
        "queries": {"q": {"expr": "m"}},
    }
    return msgspec.convert(given | keys, VmReaderSettings, dec_hook=decode_hook)


class Server:
    """Answers query_range like a server with `n_series` series whose value is their number plus the time."""

    def __init__(self, n_series: int = 2, fault: Handler | None = None) -> None:
        self.n_series = n_series
        self.fault = fault
        self.requests: list[httpx.Request] = []
        self.asked: list[dict[str, list[str]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        params = parse_qs(request.content.decode() if request.method == "POST" else request.url.query.decode())
        self.requests.append(request)
        self.asked.append(params)
        try:
            return self._answer(params, request)
        except KeyError:
            return httpx.Response(404)

    def _answer(self, params: dict[str, list[str]], request: httpx.Request) -> httpx.Response:
        if self.fault is not None:
            return self.fault(params, request)
        return self.matrix(params)

    def matrix(self, params: dict[str, list[str]]) -> httpx.Response:
        start, end, step = (float(params[key][0]) for key in ("start", "end", "step"))
        times = [start + k * step for k in range(round((end - start) / step) + 1)]
        result = [
            {"metric": {"n": str(n)}, "values": [[int(t) if t == int(t) else t, str(n + t)] for t in times]}
            for n in range(self.n_series)
        ]
        body = {"status": "success", "data": {"resultType": "matrix", "result": result}}
        return httpx.Response(200, json=body)


def n_steps(params: dict[str, list[str]]) -> int:
    return round((float(params["end"][0]) - float(params["start"][0])) / float(params["step"][0])) + 1


def reader_of(server: Server, metrics: Metrics | None = None, **keys: Any) -> VmReader:
    return VmReader(settings_of(**keys), metrics or Metrics(), "default", httpx.MockTransport(server))


def minutes(n: int) -> Window:
    return Window(START, START + (n - 1) * MINUTE, MINUTE)


QUERY = Query("q", "m", MINUTE)


def read(reader: VmReader, window: Window, query: Query = QUERY) -> list[tuple[Window, Samples]]:
    try:
        return list(reader.read(query, window, "s"))
    finally:
        reader.close()


def whole(pieces: list[tuple[Window, Samples]]) -> Any:
    """All pieces' frames, one beside the other."""
    return np.concatenate([pack(samples, window).values for window, samples in pieces], axis=1)


def expected(n_series: int, window: Window) -> Any:
    return np.arange(n_series)[:, None] + window.timestamps_ms() / 1000


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    url = labels.pop("url", "http://db:8428/api/v1/query_range")
    names = {"url": url, "query_key": "q", "scheduler_alias": "s", "preset": "default"}
    return metrics.registry.get_sample_value(name, names | labels)


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
    assert "gzip" in server.requests[0].headers["Accept-Encoding"]


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


def refuse(text: str, above: int, server: Server, status: int = 422) -> Handler:
    def handle(params: dict[str, list[str]], request: httpx.Request) -> httpx.Response:
        if n_steps(params) > above:
            return httpx.Response(status, json={"status": "error", "errorType": "422", "error": text})
        return server.matrix(params)

    return handle


@pytest.mark.parametrize(
    "text",
    [
        "cannot select more than -search.maxSamplesPerQuery=100 samples",
        "timeout exceeded during query execution: 30.000 seconds",
        "too many points for the given step=60: 16; cannot exceed -search.maxPointsPerTimeseries=13",
    ],
)
def test_a_piece_too_large_for_the_server_is_cut_with_one_warning(text: str, caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.fault = refuse(text, 3, server)
    window = minutes(64)
    with caplog.at_level(logging.WARNING, "reader.vm"):
        pieces = read(reader_of(server), window)
    assert np.array_equal(whole(pieces), expected(2, window))
    assert np.array_equal(np.concatenate([p.timestamps_ms() for p, _ in pieces]), window.timestamps_ms())
    assert len([r for r in caplog.records if "smaller pieces" in r.message]) == 1


def test_one_step_that_is_too_much_is_an_error() -> None:
    server = Server()
    server.fault = refuse("cannot select more than -search.maxSamplesPerQuery=1 samples", 0, server)
    metrics = Metrics()
    with pytest.raises(ReadError, match="cannot select more than") as caught:
        read(reader_of(server, metrics), minutes(16))
    assert caught.value.code == "422"
    assert [n_steps(a) for a in server.asked] == [16, 8, 4, 2, 1]
    assert sample(metrics, "vmanomaly_reader_responses_total", code="422") == 5


def test_pieces_before_a_failure_are_good() -> None:
    server = Server()

    def handle(params: dict[str, list[str]], request: httpx.Request) -> httpx.Response:
        if float(params["start"][0]) * 1000 > START:
            return httpx.Response(400, text="no")
        return server.matrix(params)

    server.fault = handle
    reader = reader_of(server)
    got = []
    with pytest.raises(ReadError, match="status 400: no"):
        got.extend(iter(reader.read(QUERY, minutes(30), "s")))
    reader.close()
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_may_pass_is_tried_again(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_range, "_FIRST_DELAY_S", 0.001)
    server = Server()
    server.fault = lambda params, _: httpx.Response(status) if len(server.asked) < 4 else server.matrix(params)
    metrics = Metrics()
    pieces = read(reader_of(server, metrics), minutes(2))
    assert np.array_equal(whole(pieces), expected(2, minutes(2)))
    assert sample(metrics, "vmanomaly_reader_responses_total", code=str(status)) == 3
    assert sample(metrics, "vmanomaly_reader_responses_total", code="200") == 1
    assert sample(metrics, "vmanomaly_reader_request_duration_seconds_count") == 4


def test_retries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_range, "_FIRST_DELAY_S", 0.001)
    server = Server(fault=lambda *_: httpx.Response(503, text="busy"))
    with pytest.raises(ReadError, match=r"status 503: busy \(after 6 attempts\)"):
        read(reader_of(server), minutes(2))
    assert len(server.asked) == 6


def test_a_wait_longer_than_the_budget_is_not_begun() -> None:
    server = Server(fault=lambda *_: httpx.Response(429, headers={"Retry-After": "20"}))
    with pytest.raises(ReadError, match="after 1 attempts"):
        read(reader_of(server, fetch_timeout="5s"), minutes(2))


@pytest.mark.parametrize(
    ("status", "text"), [(400, "unsupported path requested"), (401, ""), (404, "x"), (422, "unknown func")]
)
def test_other_refusals_fail_at_once(status: int, text: str) -> None:
    server = Server(fault=lambda *_: httpx.Response(status, text=text))
    with pytest.raises(
        ReadError, match=f"Error querying http://db:8428/api/v1/query_range for 'q' with .*{text}"
    ) as caught:
        read(reader_of(server), minutes(2))
    assert caught.value.code == str(status)
    assert len(server.asked) == 1


def test_no_secret_is_in_an_error() -> None:
    body = 'cannot authorize "Basic dTpzM2NyM3Q=" or s3cr3t'
    server = Server(fault=lambda *_: httpx.Response(400, text=body))
    with pytest.raises(ReadError) as caught:
        read(reader_of(server, user="u", password="s3cr3t"), minutes(1))
    assert "s3cr3t" not in str(caught.value)
    assert "dTpzM2NyM3Q" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(200, html="<html>Sign in</html>"), "text/html"),
        (httpx.Response(200, text=""), "expected JSON"),
        (httpx.Response(200, json={"status": "error", "error": "odd"}), "odd"),
        (httpx.Response(200, json={"status": "success", "data": {"resultType": "vector", "result": []}}), "vector"),
        (httpx.Response(200, text='{"status":"success","data":{"resultType":"matrix"'), "not an answer"),
        (httpx.Response(302, headers={"Location": "http://a:b@x/"}), r"redirect to http://\*\*\*@x/"),
    ],
)
def test_answers_that_are_no_matrix_are_errors_and_nothing_is_counted_as_received(
    answer: httpx.Response, words: str
) -> None:
    metrics = Metrics()
    with pytest.raises(ReadError, match=words):
        read(reader_of(Server(fault=lambda *_: answer), metrics), minutes(1))
    assert sample(metrics, "vmanomaly_reader_responses_total", code=str(answer.status_code)) == 1
    assert sample(metrics, "vmanomaly_reader_timeseries_received_total") == 0
    assert sample(metrics, "vmanomaly_reader_datapoints_received_total") == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpx.ConnectError("[Errno 111] Connection refused"), "connection_error"),
        (httpx.RemoteProtocolError("Server disconnected"), "connection_error"),
        (httpx.ConnectTimeout(""), "timeout"),
        (httpx.DecodingError("incorrect header check"), "io_error"),
    ],
)
def test_failures_without_an_answer_have_their_codes(
    error: httpx.HTTPError, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_range, "_FIRST_DELAY_S", 0.001)

    def handle(*_: Any) -> httpx.Response:
        raise error

    metrics = Metrics()
    with pytest.raises(ReadError) as caught:
        read(reader_of(Server(fault=handle), metrics), minutes(1))
    assert caught.value.code == code
    assert sample(metrics, "vmanomaly_reader_responses_total", code=code) >= 1  # type: ignore[operator]


def test_our_own_time_out_asks_for_less(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()

    def handle(params: dict[str, list[str]], request: httpx.Request) -> httpx.Response:
        if n_steps(params) > 4:
            raise httpx.ReadTimeout("", request=request)
        return server.matrix(params)

    server.fault = handle
    pieces = read(reader_of(server), minutes(12))
    assert [n_steps(a) for a in server.asked] == [12, 3, 3, 3, 3]
    assert np.array_equal(whole(pieces), expected(2, minutes(12)))
    assert "no whole answer within 30 s" in caplog.text


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


def test_the_counter_of_good_answers_exists_before_the_first() -> None:
    metrics = Metrics()
    with pytest.raises(ReadError):
        read(reader_of(Server(fault=lambda *_: httpx.Response(400)), metrics), minutes(1))
    assert sample(metrics, "vmanomaly_reader_responses_total", code="200") == 0


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


def test_a_partial_answer_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    body = {"status": "success", "isPartial": True, "data": {"resultType": "matrix", "result": []}}
    read(reader_of(Server(fault=lambda *_: httpx.Response(200, json=body))), minutes(1))
    assert "partial" in caplog.text


TENANTS = {"queries": {"q": {"expr": "m"}, "r": {"expr": "m", "tenant_id": "3:4"}}, "tenant_id": "1"}


@pytest.mark.parametrize(
    ("keys", "tenant", "labels"),
    [
        (TENANTS, "3:4", {"vm_account_id": "3", "vm_project_id": "4"}),
        (TENANTS, "1", {"vm_account_id": "1", "vm_project_id": "0"}),
        (TENANTS | {"tenant_id": "multitenant"}, "multitenant", {}),
        ({"tenant_id": "1"}, "1", {}),
        ({}, "", {}),
    ],
)
def test_series_of_several_tenants_carry_theirs(keys: dict[str, Any], tenant: str, labels: dict[str, str]) -> None:
    reader = reader_of(Server(n_series=1), **keys)
    query = Query("r", "m", MINUTE, tenant_id=tenant)
    read(reader, minutes(1), query)
    assert reader.table(query).labels(0) == {"n": "0"} | labels


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
    reading.close()  # type: ignore[attr-defined]
    reader._executor.shutdown(wait=True)
    assert sample(metrics, "vmanomaly_reader_processing_tasks_queued") == 0
    reader.close()


def test_the_probe_learns_the_servers_limit() -> None:
    server = Server()

    def handle(params: dict[str, list[str]], request: httpx.Request) -> httpx.Response:
        if request.url.path == "/flags":
            return httpx.Response(200, text='-search.maxPointsPerTimeseries="50"\n')
        return server.matrix(params)

    server.fault = handle
    reader = reader_of(server)
    reader.probe()
    assert server.asked[0]["query"] == ["_vmanomaly_healthcheck"]
    server.asked.clear()
    read(reader, minutes(100))
    assert [n_steps(a) for a in server.asked] == [16, 40, 40, 4]


def test_a_failed_probe_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    reader = reader_of(Server(fault=lambda *_: httpx.Response(401, text="no")))
    reader.probe()
    reader.close()
    assert [r.levelname for r in caplog.records if r.name == "reader.vm"] == ["WARNING"]
    assert "does not answer queries: status 401: no" in caplog.text


def test_a_body_over_the_bound_is_asked_for_in_smaller_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    monkeypatch.setattr(query_range, "MAX_BODY_BYTES", len(server.matrix(
        {"start": ["1700000040"], "end": ["1700000340"], "step": ["60"]}).content))  # fmt: skip
    pieces = read(reader_of(server), minutes(16))
    assert np.array_equal(whole(pieces), expected(2, minutes(16)))
    assert [n_steps(a) for a in server.asked] == [16, 8, 4, 4, 4, 4]


def test_infinite_values_come_through() -> None:
    result = [{"metric": {}, "values": [[START // 1000, "+Inf"], [START // 1000 + 60, "-Inf"]]}]
    body = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    ((_, samples),) = read(reader_of(Server(fault=lambda *_: httpx.Response(200, text=json.dumps(body)))), minutes(2))
    assert samples.values.tolist() == [math.inf, -math.inf]
