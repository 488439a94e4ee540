"""The reader against the real VictoriaMetrics and vmauth: what it yields is what was stored."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from engine.errors import ReadError
from engine.frame import F64, Query, Window, align_down, pack
from engine.metrics import Metrics
from engine.reader.decode import Decoder
from engine.reader.vm import VmReader
from engine.series import SeriesTable
from tests.e2e.stack import Stack, needs_stack, until
from tests.engine.reader.memory_server import settings_of

pytestmark = [pytest.mark.e2e, needs_stack]

MINUTE = 60_000
DAY = 1440 * MINUTE


@contextmanager
def stack_of(folder: Path, *options: str) -> Iterator[Stack]:
    stack = Stack(folder / "stack", *(options or ("--only", "victoriametrics")))
    try:
        yield stack
    finally:
        stack.down()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack_of(tmp_path_factory.mktemp("reader")) as made:
        yield made


def yesterday() -> int:
    """The start of the last whole UTC day."""
    return align_down(int(time.time() * 1000), DAY) - DAY


def store(stack: Stack, name: str, values: F64, start_ms: int, step_ms: int = MINUTE) -> None:
    """Rows of values as series `name{n="0"}`, …; NaN is a missing sample."""
    lines = []
    for n, row in enumerate(values):
        kept = np.flatnonzero(~np.isnan(row))
        lines.append({
            "metric": {"__name__": name, "n": str(n)},
            "values": row[kept].tolist(),
            "timestamps": (start_ms + kept * step_ms).tolist(),
        })  # fmt: skip
    stack.add(lines)
    stack.flush()


def read(url: str, expr: str, window: Window, metrics: Metrics | None = None, **keys: Any) -> dict[str, F64]:
    """Rows by the label `n` (or all labels as text), from all pieces."""
    reader = VmReader(settings_of(datasource_url=url, **keys), metrics or Metrics(), "default")
    query = Query("q", expr, window.step_ms)
    rows: dict[str, F64] = {}
    column = 0
    try:
        for piece, samples in reader.read(query, window, "s"):
            frame = pack(samples, piece)
            for series, values in zip(frame.series.tolist(), frame.values, strict=True):
                labels = reader.table(query).labels(series)
                row = rows.setdefault(labels.get("n", json.dumps(labels)), np.full(window.n_steps, np.nan))
                row[column : column + piece.n_steps] = values
            column += piece.n_steps
    finally:
        reader.close()
    assert column == window.n_steps
    return rows


def count_of(metrics: Metrics, code: str) -> float:
    """Answers with that code, of all queries."""
    return sum(
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "vmanomaly_reader_responses_total" and sample.labels["code"] == code
    )


def test_real_answers_are_decoded_as_json_loads_does(stack: Stack) -> None:
    rng = np.random.default_rng(3)
    start = yesterday()
    values = rng.normal(size=(40, 120)) * 10.0 ** rng.integers(-9, 12, size=(40, 1))
    values[:, 50:60] = np.nan
    store(stack, "decoded", values, start)
    exprs = [
        "decoded",
        "rate(decoded[5m])",
        "decoded / 0",
        "-decoded / 0",
        "decoded * 1e300",
        "sum(decoded) by (n) > 0",
    ]
    for expr in exprs:
        params = {"query": expr, "start": start // 1000, "end": start // 1000 + 7140, "step": 60}
        body = httpx.get(f"{stack.vm}/api/v1/query_range", params=params, timeout=30).content
        table = SeriesTable()
        samples = Decoder(table).decode(body).samples
        result = json.loads(body)["data"]["result"]
        assert [table.labels(k) for k in samples.series.tolist()] == [one["metric"] for one in result]
        assert samples.timestamps_ms.tolist() == [round(t * 1000) for one in result for t, _ in one["values"]]
        want = np.array([float(v) for one in result for _, v in one["values"]])
        assert want.size > 100
        assert samples.values.tobytes() == want.tobytes()


@pytest.mark.parametrize("n_steps", [1, 2, 16, 17, 49, 50, 51, 200, 1440])
def test_any_length_of_window_reads_what_was_stored(stack: Stack, n_steps: int) -> None:
    start = yesterday()
    values = np.random.default_rng(4).integers(0, 1000, size=(3, 1440)).astype(float)
    store(stack, f"stored_{n_steps}", values, start)
    offset = 7
    window = Window(start + offset * MINUTE, start + (offset + n_steps - 1) * MINUTE, MINUTE)
    if window.end_ms > start + 1439 * MINUTE:
        window = Window(start, start + (n_steps - 1) * MINUTE, MINUTE)
        offset = 0
    for keys in ({}, {"max_points_per_query": 7}):
        rows = read(stack.vm, f"stored_{n_steps}", window, **keys)
        for n in range(3):
            assert np.array_equal(rows[str(n)], values[n, offset : offset + n_steps])


def test_gaps_stay_gaps(stack: Stack) -> None:
    start = yesterday()
    values = np.arange(240.0).reshape(2, 120)
    values[0, 30:60] = np.nan
    store(stack, "gaps", values, start)
    rows = read(stack.vm, "gaps", Window(start, start + 119 * MINUTE, MINUTE))
    # The window of a point reaches a little over one step back: the last value before a gap is repeated once.
    assert np.isnan(rows["0"][31:60]).all()
    assert np.array_equal(rows["0"][60:], values[0, 60:])
    assert np.array_equal(rows["1"], values[1])


def test_more_points_than_the_server_allows_come_in_pieces(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    step = 30_000
    n_steps = 40_320  # 14 days
    start = yesterday() - 13 * DAY
    values = np.random.default_rng(5).integers(0, 10**6, size=(1, n_steps)).astype(float)
    store(stack, "long", values, start, step)
    window = Window(start, start + (n_steps - 1) * step, step)
    metrics = Metrics()
    rows = read(stack.vm, "long", window, metrics)
    assert np.array_equal(rows["0"], values[0])
    assert count_of(metrics, "422") == 0
    assert "may exceed max datapoints per timeseries (29990)" in caplog.text
    metrics = Metrics()
    rows = read(stack.vm, "long", window, metrics, max_points_per_query=100_000)
    assert np.array_equal(rows["0"], values[0])
    assert count_of(metrics, "422") == 1
    assert caplog.text.count("smaller pieces") == 1


def test_infinite_values_empty_results_and_bad_queries(stack: Stack) -> None:
    start = yesterday()
    store(stack, "plain", np.array([[1.0, -1.0, 2.0]]), start)
    window = Window(start, start + 2 * MINUTE, MINUTE)
    (row,) = read(stack.vm, "plain / 0", window).values()
    assert np.isnan(row).all()  # placed values are finite or missing
    reader = VmReader(settings_of(datasource_url=stack.vm), Metrics(), "default")
    ((_, samples),) = reader.read(Query("q", "plain / 0", MINUTE), window, "s")
    assert samples.values.tolist() == [math.inf, -math.inf, math.inf]
    reader.close()
    assert read(stack.vm, "no_such_metric", window) == {}
    for expr, words in (
        ("rat(plain)", "unknown func"),
        ("plain{", "unexpected token"),
        ("x" * 20_000, "too long query"),
    ):
        with pytest.raises(ReadError, match=words) as caught:
            read(stack.vm, expr, window)
        assert caught.value.code == "422"
        assert len(str(caught.value)) < 900
    with pytest.raises(ReadError, match="unsupported path") as caught:
        read(f"{stack.vm}/select/0/prometheus", "plain", window)
    assert caught.value.code == "400"


def test_compressed_answers_are_the_same(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    start = yesterday()
    values = np.random.default_rng(8).normal(size=(20, 60))
    store(stack, "packed", values, start)
    window = Window(start, start + 59 * MINUTE, MINUTE)
    plain = read(stack.vm, "packed", window)
    monkeypatch.setattr("engine.reader.query_range.is_loopback", lambda host: False)
    packed = read(stack.vm, "packed", window)
    assert len(plain) == 20
    assert all(np.array_equal(packed[n], plain[n]) for n in plain)


def test_extra_filters_narrow_every_selector(stack: Stack) -> None:
    start = yesterday()
    store(stack, "filtered", np.arange(30.0).reshape(3, 10), start)
    window = Window(start + 2 * MINUTE, start + 5 * MINUTE, MINUTE)
    assert set(read(stack.vm, "filtered", window, extra_filters=['n="1"'])) == {"1"}
    assert set(read(stack.vm, "filtered", window, extra_filters=['{n="0"}', '{n="2"}'])) == {"0", "2"}


def test_settled_points_at_short_steps_are_those_that_were_stored(stack: Stack) -> None:
    """Newer points than 30 s are made up by this server; older ones are not."""
    step = 10_000
    now = align_down(int(time.time() * 1000), step)
    start = now - 60 * step
    values = np.random.default_rng(6).integers(0, 1000, size=(1, 61)).astype(float)
    store(stack, "fresh", values, start, step)
    settled = align_down(int(time.time() * 1000) - 30_000, step)
    window = Window(start, settled, step)
    row = read(stack.vm, "fresh", window)["0"]
    assert np.array_equal(row, values[0, : window.n_steps])
    newest = read(stack.vm, "fresh", Window(start, now, step))["0"]
    assert newest[-1] != values[0, -1] or newest[-2] != values[0, -2]


def test_connections_that_the_server_closed_are_replaced(tmp_path: Path) -> None:
    options = "--only", "victoriametrics", "--vm-flag=-http.idleConnTimeout=100ms"
    with stack_of(tmp_path, *options) as own:
        metrics = Metrics()
        reader = VmReader(settings_of(datasource_url=own.vm), metrics, "default")
        start = yesterday()
        for _ in range(4):
            assert [s.n_points for _, s in reader.read(Query("q", "m", MINUTE), Window(start, start, MINUTE), "s")] == [
                0
            ]
            time.sleep(0.3)  # long enough for the server to close
        reader.close()
        assert count_of(metrics, "200") == 4


def test_a_limit_on_samples_is_met_by_smaller_pieces(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # The server counts whole blocks of up to 8,192 samples.
    options = "--only", "victoriametrics", "--vm-flag=-search.maxSamplesPerQuery=60000"
    with stack_of(tmp_path, *options) as own:
        n_steps = 28 * 1440
        start = yesterday() - 27 * DAY
        values = np.random.default_rng(7).integers(0, 1000, size=(3, n_steps)).astype(float)
        store(own, "many", values, start)
        metrics = Metrics()
        end = start + (n_steps - 1) * MINUTE
        rows = read(own.vm, "many", Window(start, end, MINUTE), metrics)
        assert all(np.array_equal(rows[str(n)], values[n]) for n in range(3))
        assert count_of(metrics, "422") >= 1
        assert caplog.text.count("smaller pieces") == 1
        with pytest.raises(ReadError, match="cannot select more than"):
            read(own.vm, "sum_over_time(many[28d])", Window(end, end, MINUTE))


def test_a_killed_database_is_read_again_when_it_is_back(tmp_path: Path) -> None:
    with stack_of(tmp_path) as own:
        start = yesterday()
        store(own, "kept", np.array([[1.0, 2.0]]), start)
        own.flush()
        window = Window(start, start + MINUTE, MINUTE)
        metrics = Metrics()
        reader = VmReader(settings_of(datasource_url=own.vm, fetch_timeout="1s"), metrics, "default")
        query = Query("q", "kept", MINUTE)
        list(reader.read(query, window, "s"))
        own.kill("victoriametrics")
        with pytest.raises(ReadError) as caught:
            list(reader.read(query, window, "s"))
        assert caught.value.code == "connection_error"
        own.up()
        until(lambda: len(list(reader.read(query, window, "s"))) == 1, 20, "the reader reads again")
        reader.close()


def test_vmauth_over_tls_knows_user_and_token_and_leaks_neither(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with stack_of(tmp_path, "--only", "victoriametrics,vmauth", "--vmauth-tls") as own:
        start = yesterday()
        store(own, "secured", np.array([[1.0, 2.0]]), start)
        window = Window(start, start + MINUTE, MINUTE)
        url, auth, ca = own.urls["vmauth"], own.reply["auth"], own.reply["ca_file"]
        user, password, token = auth["username"], auth["password"], auth["bearer_token"]
        token_file = tmp_path / "token"
        token_file.write_text(f"{token}\n")
        for keys in (
            {"user": user, "password": password},
            {"bearer_token": token},
            {"bearer_token_file": str(token_file)},
        ):
            assert read(url, "secured", window, verify_tls=ca, **keys)["0"].tolist() == [1, 2]
        assert read(url, "secured", window, verify_tls=False, bearer_token=token)["0"].tolist() == [1, 2]
        with_user = url.replace("://", f"://{user}:{password}@")
        assert read(with_user, "secured", window, verify_tls=ca)["0"].tolist() == [1, 2]
        for keys, code, words in (
            ({"user": user, "password": "wr0ng-secret", "verify_tls": ca}, "400", "status 400"),
            ({"bearer_token": "wr0ng-secret", "verify_tls": ca}, "400", "status 400"),
            ({"verify_tls": ca}, "401", "missing"),
            ({"bearer_token": token}, "ssl_error", "verify_tls"),
        ):
            with pytest.raises(ReadError, match=words) as caught:
                read(url, "secured", window, **keys)
            assert caught.value.code == code
            assert "wr0ng-secret" not in str(caught.value)
            assert "d3JpdGVyOndyMG5nLXNlY3JldA" not in str(caught.value)
        with pytest.raises(ReadError) as caught:
            read(url.replace("https", "http"), "secured", window, fetch_timeout="1s")
        assert caught.value.code == "connection_error"
        assert all(secret not in caplog.text for secret in (password, token, "wr0ng-secret"))
