"""The writer against the real VictoriaMetrics: what was written is what can be read back."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from engine.frame import F64, Batch, Output
from engine.metrics import Metrics
from engine.series import SeriesTable
from engine.settings import Duration
from engine.writer.settings import VmWriterSettings
from engine.writer.vm import VmWriter
from tests.e2e.stack import Stack, needs_stack, until

pytestmark = [pytest.mark.e2e, needs_stack]

NAMES = {"query_key": "q", "scheduler_alias": "s", "preset": "default"}
MINUTE_MS = 60_000


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path / "stack", "--only", "victoriametrics")
    yield made
    made.down()


@contextmanager
def writing(url: str, metrics: Metrics | None = None, **keys: Any) -> Iterator[VmWriter]:
    keys.setdefault("timeout", Duration(5_000))
    writer = VmWriter(VmWriterSettings(datasource_url=url, **keys), metrics or Metrics())
    try:
        yield writer
    finally:
        writer.close(5)


def recent_ms(n_steps: int) -> int:
    """A start such that the last of so many minutes is two minutes ago."""
    return (int(time.time() * 1000) // MINUTE_MS - 1 - n_steps) * MINUTE_MS


def batch_of(table: SeriesTable, labels: list[dict[str, str]], columns: dict[str, F64], start_ms: int) -> Batch:
    series = np.array([table.intern(each) for each in labels], dtype=np.int64)
    n_steps = next(iter(columns.values())).shape[1]
    times = start_ms + MINUTE_MS * np.arange(n_steps, dtype=np.int64)
    return Batch(Output(series, times, columns), table, "q", "m", "s", "default", NAMES)


def read_back(stack: Stack, match: str) -> dict[tuple[str, str], dict[int, float]]:
    """(name, i) → time → value."""
    return {
        (row["metric"]["__name__"], row["metric"]["i"]): dict(zip(row["timestamps"], row["values"], strict=True))
        for row in stack.series(match)
    }


def test_values_read_back_equal(stack: Stack) -> None:
    rng = np.random.default_rng(3)
    n_series, n_steps = 50, 20
    columns = {
        "anomaly_score": rng.exponential(1.0, (n_series, n_steps)),
        "y": rng.normal(0.0, 10.0 ** rng.integers(-8, 9, (n_series, 1)), (n_series, n_steps)),
        "yhat_1h": np.round(rng.normal(0, 100, (n_series, n_steps)), 3),
        "yhat_lower": rng.integers(-(2**40), 2**40, (n_series, n_steps)).astype(float),
    }
    columns["y"][rng.random((n_series, n_steps)) < 0.2] = np.nan
    columns["y"][0], columns["y"][1, ::2] = np.inf, -np.inf
    labels = [{"i": str(i), "text": 'quote " slash \\ line\n tab\t ü 漢 \x01'} for i in range(n_series)]
    start_ms = recent_ms(n_steps)
    with writing(stack.vm) as writer:
        writer.submit(batch_of(SeriesTable(), labels, columns, start_ms))
        assert writer.drain(20)
    found = read_back(stack, '{for="q"}')
    rows = stack.series('{for="q"}')
    assert {row["metric"]["text"] for row in rows} == {labels[0]["text"]}
    assert all(row["metric"]["scheduler_alias"] == "s" and row["metric"]["model_alias"] == "m" for row in rows)
    for name, column in columns.items():
        for i, row in enumerate(column.tolist()):
            expected = {start_ms + MINUTE_MS * t: v for t, v in enumerate(row) if math.isfinite(v)}
            got = found.get((name, str(i)), {})
            assert got.keys() == expected.keys()
            # The database rounds to 12 digits, and to 18 of the largest value in a block.
            scale = max(map(abs, expected.values()), default=1.0)
            np.testing.assert_allclose(list(got.values()), list(expected.values()), rtol=1e-12, atol=1e-17 * scale)


def test_every_form_of_number_is_parsed(stack: Stack) -> None:
    values = [0.0, 1.0, -1.5, 0.1, 1e-5, 0.0001, 1e-7, 1.5e22, 1e15, 1e16, 123456789012345.6, 1e-300, 1e300, 2.5e-15]
    labels = [{"i": str(i)} for i in range(len(values))]
    with writing(stack.vm) as writer:
        writer.submit(batch_of(SeriesTable(), labels, {"y": np.array(values).reshape(-1, 1)}, recent_ms(1)))
        assert writer.drain(20)
    found = read_back(stack, "y")
    assert len(found) == len(values)
    for i, value in enumerate(values):
        assert next(iter(found["y", str(i)].values())) == pytest.approx(value, rel=1e-14)
    invalid = httpx.get(f"{stack.vm}/metrics").text
    assert 'vm_rows_invalid_total{type="vmimport"} 0' in invalid


def test_decimals_stay_beside_capped_scores(stack: Stack) -> None:
    scores = np.array([[0.123456789, 1e6, 1e-5, 1.000000001, 0.0, 999999.5]])
    start_ms = recent_ms(6)
    with writing(stack.vm) as writer:
        writer.submit(batch_of(SeriesTable(), [{"i": "0"}], {"anomaly_score": scores}, start_ms))
        assert writer.drain(20)
    (points,) = read_back(stack, "anomaly_score").values()
    np.testing.assert_allclose(list(points.values()), scores[0], rtol=0, atol=1e-11)


def test_generated_labels_survive_the_label_limit(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    labels = {"i": "0", **{f"label_{k:02}": "v" for k in range(35)}}
    with writing(stack.vm) as writer:
        writer.submit(batch_of(SeriesTable(), [labels], {"y": np.ones((1, 1))}, recent_ms(1)))
        assert writer.drain(20)
    (row,) = stack.series("y")
    generated = {"__name__": "y", "for": "q", "model_alias": "m", "scheduler_alias": "s", "preset": "default"}
    assert row["metric"].items() >= generated.items()
    assert len(row["metric"]) == 30
    (warning,) = [r.getMessage() for r in caplog.records if "labels" in r.getMessage()]
    named = warning.rpartition("drops ")[2].split(", ")
    assert set(named) == labels.keys() - row["metric"].keys()


def test_long_windows_and_many_series_are_cut_and_complete(stack: Stack) -> None:
    n_series, n_steps = 300, 400
    rng = np.random.default_rng(4)
    columns = {"y": np.round(rng.random((n_series, n_steps)), 6)}
    metrics = Metrics()
    with writing(stack.vm, metrics, batch_max_bytes=100_000, batch_max_series=50) as writer:
        labels = [{"i": str(i)} for i in range(n_series)]
        writer.submit(batch_of(SeriesTable(), labels, columns, recent_ms(n_steps)))
        assert writer.drain(30)
    found = read_back(stack, "y")
    assert len(found) == n_series
    for i, row in enumerate(columns["y"].tolist()):
        np.testing.assert_allclose(list(found["y", str(i)].values()), row, rtol=1e-12)
    assert responses(metrics, "204") > 300 * 400 * 15 / 100_000


def test_nothing_is_lost_when_the_database_is_killed_and_started_again(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    table, n_batches = SeriesTable(), 120
    start_ms = recent_ms(n_batches)
    with writing(stack.vm, timeout=Duration(1_000)) as writer:
        for k in range(n_batches):
            writer.submit(batch_of(table, [{"i": "0"}], {"y": np.full((1, 1), float(k))}, start_ms + k * MINUTE_MS))
            if k == 40:
                assert writer.drain(20)
                stack.kill("victoriametrics")
            if k == 80:
                time.sleep(1)  # the database is away for a while
                stack.up("--only", "victoriametrics")
        assert writer.drain(40)
    (points,) = read_back(stack, "y").values()
    assert points == {start_ms + k * MINUTE_MS: float(k) for k in range(n_batches)}
    assert "works again" in caplog.text


def test_a_database_that_hangs_gets_everything_when_it_goes_on(stack: Stack) -> None:
    table, start_ms = SeriesTable(), recent_ms(5)
    with writing(stack.vm, timeout=Duration(500)) as writer:
        stack.kill("victoriametrics", signal.SIGSTOP)
        for k in range(5):
            writer.submit(batch_of(table, [{"i": "0"}], {"y": np.full((1, 1), float(k))}, start_ms + k * MINUTE_MS))
        assert not writer.drain(1.5)
        stack.kill("victoriametrics", signal.SIGCONT)
        assert writer.drain(30)
    (points,) = read_back(stack, "y").values()
    assert points == {start_ms + k * MINUTE_MS: float(k) for k in range(5)}


def test_a_read_only_storage_is_waited_for(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "stack", "--only", "victoriametrics", "--vm-flag=-storage.minFreeDiskSpaceBytes=900000GiB")
    try:
        metrics = Metrics()
        with writing(stack.vm, metrics) as writer:
            writer.submit(batch_of(SeriesTable(), [{"i": "0"}], {"y": np.ones((1, 1))}, recent_ms(1)))
            until(lambda: responses(metrics, "503") >= 1, 20, "the database refuses for now")
            assert not writer.drain(0.1)
            assert responses(metrics, "204") == 0
    finally:
        stack.down()


def responses(metrics: Metrics, code: str) -> float:
    """Answers with a code."""
    samples = [s for family in metrics.registry.collect() for s in family.samples]
    return sum(s.value for s in samples if s.name == "vmanomaly_writer_responses_total" and s.labels["code"] == code)


def test_wrong_credentials_at_the_proxy_are_named_and_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stack = Stack(tmp_path / "stack", "--only", "victoriametrics", "--vmauth")
    try:
        proxy = stack.urls["vmauth"]
        with writing(proxy, user="someone", password="the-wrong-one") as writer:
            writer.submit(batch_of(SeriesTable(), [{"i": "0"}], {"y": np.ones((1, 1))}, recent_ms(1)))
            assert not writer.drain(3)
        assert "Cannot write now" in caplog.text
        assert "credentials are missing or wrong; query 'q' and later results wait" in caplog.text
        assert "the-wrong-one" not in caplog.text
        assert "c29tZW9uZTp0aGUtd3Jvbmctb25l" not in caplog.text
    finally:
        stack.down()
