"""The reader over a transport in memory: what it does about answers that are not good."""

from __future__ import annotations

import logging
import time
from typing import Any

import httpx
import numpy as np
import pytest

from engine.errors import ReadError
from engine.frame import Query
from engine.metrics import Metrics
from engine.reader import query_range
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
    refuse,
    sample,
    whole,
)


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


def test_a_limit_that_the_server_named_is_kept_to() -> None:
    server = Server()
    text = "too many points for the given step=60: 99; cannot exceed -search.maxPointsPerTimeseries=50"
    server.fault = refuse(text, 50, server)
    reader = reader_of(server, max_points_per_query=1000)
    list(reader.read(QUERY, minutes(100), "s"))
    assert max(n_steps(a) for a in server.asked) > 50
    server.asked.clear()
    read(reader, minutes(100))
    assert [n_steps(a) for a in server.asked] == [40, 40, 20]


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


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(400, text='cannot authorize "Basic dTpzM2NyM3Q=" or s3cr3t-of-mine'),
        httpx.Response(400, text=f"{'x' * 245}s3cr3t-of-mine{'x' * 400}"),
        httpx.Response(302, headers={"Location": "http://x/s3cr3t-of-mine"}),
        httpx.Response(200, html="<html>s3cr3t-of-mine is nobody</html>"),
        httpx.Response(200, json={"status": "error", "error": "s3cr3t-of-mine is nobody"}),
    ],
)
def test_no_secret_is_in_an_error(answer: httpx.Response) -> None:
    with pytest.raises(ReadError) as caught:
        read(reader_of(Server(fault=lambda *_: answer), user="u", password="s3cr3t-of-mine"), minutes(1))
    assert "s3cr3" not in str(caught.value)
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
        (ValueError("label empty"), "io_error"),
    ],
)
def test_failures_without_an_answer_have_their_codes(
    error: Exception, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_range, "_FIRST_DELAY_S", 0.001)

    def handle(*_: Any) -> httpx.Response:
        raise error

    metrics = Metrics()
    with pytest.raises(ReadError) as caught:
        read(reader_of(Server(fault=handle), metrics), minutes(1))
    assert caught.value.code == code
    assert sample(metrics, "vmanomaly_reader_responses_total", code=code) >= 1


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


def test_the_counter_of_good_answers_exists_before_the_first() -> None:
    metrics = Metrics()
    with pytest.raises(ReadError):
        read(reader_of(Server(fault=lambda *_: httpx.Response(400)), metrics), minutes(1))
    assert sample(metrics, "vmanomaly_reader_responses_total", code="200") == 0


def test_partial_answers_are_one_warning_a_query_in_ten_minutes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"status": "success", "isPartial": True, "data": {"resultType": "matrix", "result": []}}
    reader = reader_of(Server(fault=lambda *_: httpx.Response(200, json=body)), max_points_per_query=10)
    clock = time.monotonic
    for _ in range(3):
        for alias in ("q", "r"):
            assert len(list(reader.read(Query(alias, "m", MINUTE), minutes(40), "s"))) == 4
    told = [record.getMessage() for record in caplog.records if "partial" in record.getMessage()]
    assert [text.partition(":")[0] for text in told] == ["query 'q'", "query 'r'"]
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 601)
    read(reader, minutes(40))
    assert sum("partial" in record.getMessage() for record in caplog.records) == 3


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


def test_a_probe_of_a_reader_that_was_closed_meanwhile_ends() -> None:
    server = Server()
    reader = reader_of(server)

    def close(params: dict[str, list[str]], request: httpx.Request) -> httpx.Response:
        reader.close()  # between the probe's query and its look at the flags
        return server.matrix(params)

    server.fault = close
    reader.probe()
    assert [a["query"] for a in server.asked] == [["_vmanomaly_healthcheck"]]


def test_a_body_over_the_bound_is_asked_for_in_smaller_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    monkeypatch.setattr(query_range, "MAX_BODY_BYTES", len(server.matrix(
        {"start": ["1700000040"], "end": ["1700000340"], "step": ["60"]}).content))  # fmt: skip
    pieces = read(reader_of(server), minutes(16))
    assert np.array_equal(whole(pieces), expected(2, minutes(16)))
    assert [n_steps(a) for a in server.asked] == [16, 8, 4, 4, 4, 4]
