"""Writer `local`: what is read back from the file is what was submitted."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from engine.frame import Batch, Output
from engine.metrics import Metrics
from engine.series import SeriesTable
from engine.writer import local
from engine.writer.local import LocalWriter
from engine.writer.settings import LocalWriterSettings
from tests.fakes import fill

START = 1_700_000_040_000
STEP = 60_000
CODES = {"query_key": "q", "scheduler_alias": "s", "preset": "default"}


def batch(
    table: SeriesTable, labels: list[dict[str, str]], aliases: tuple[str, str, str] = ("", "", ""), **columns: Any
) -> Batch:
    arrays = {name: np.atleast_2d(np.asarray(values, dtype=float)) for name, values in columns.items()}
    n_steps = next(iter(arrays.values())).shape[1]
    series = np.array([table.intern(each) for each in labels], dtype=np.int64)
    times = START + STEP * np.arange(n_steps, dtype=np.int64)
    return Batch(Output(series, times, arrays), table, "q", *aliases, metric_labels=CODES)


def write(path: Path, *batches: Batch, metrics: Metrics | None = None, **more: Any) -> None:
    writer = LocalWriter(LocalWriterSettings(path=str(path), **more), metrics or Metrics())
    for each in batches:
        writer.submit(each)
    assert writer.drain(20)
    writer.close(5)


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_one_row_for_each_series_and_time_that_has_anything_finite(tmp_path: Path) -> None:
    path = tmp_path / "out.db"
    labels = [{"cpu": "0", "mode": "idle"}, {}]
    score = [[0.5, math.nan, math.inf], [math.nan, math.nan, 2.0]]
    yhat = [[1.0, 2.0, math.nan], [math.nan, math.nan, 4.0]]
    write(path, batch(SeriesTable(), labels, anomaly_score=score, yhat=yhat))
    found = rows(path, 'SELECT epoch_ms(timestamp), "for", labels, anomaly_score, yhat FROM anomaly ORDER BY 1, 5')
    assert found == [
        (START, "q", {"cpu": "0", "mode": "idle"}, 0.5, 1.0),
        (START + STEP, "q", {"cpu": "0", "mode": "idle"}, None, 2.0),
        (START + 2 * STEP, "q", {}, 2.0, 4.0),
    ]
    assert rows(path, "SELECT count(*) FROM anomaly WHERE labels['mode'] = 'idle' AND model_alias IS NULL") == [(2,)]


def test_a_repeated_key_replaces_its_row_and_no_other(tmp_path: Path) -> None:
    path, table = tmp_path / "out.db", SeriesTable()
    labels = [{"cpu": "0"}, {"cpu": "1"}]
    write(path, batch(table, labels, y=[[1, 2], [3, 4]]), batch(table, labels, ("m", "s", "p"), y=[[5, 6], [7, 8]]))
    write(path, batch(table, labels[1:], y=[[30]]), batch(table, labels[:1], ("m", "s", "p"), y=[[50]]))
    found = rows(path, "SELECT model_alias, labels['cpu'], list(y ORDER BY timestamp) FROM anomaly GROUP BY ALL")
    assert sorted(found, key=str) == sorted(
        [(None, "0", [1, 2]), (None, "1", [30, 4]), ("m", "0", [50, 6]), ("m", "1", [7, 8])], key=str
    )


def test_new_outputs_become_new_columns(tmp_path: Path) -> None:
    path, table = tmp_path / "out.db", SeriesTable()
    write(path, batch(table, [{"cpu": "0"}], y=[[1]]), batch(table, [{"cpu": "1"}], y=[[2]], **{"yhat_1h": [[3]]}))
    assert rows(path, "SELECT y, yhat_1h FROM anomaly ORDER BY y") == [(1.0, None), (2.0, 3.0)]


def test_metric_format_names_columns_and_adds_labels(tmp_path: Path) -> None:
    path = tmp_path / "out.db"
    metric_format = {"__name__": "cpu_$VAR", "for": "key_$QUERY_KEY", "team": "infra", "cpu": "any"}
    write(path, batch(SeriesTable(), [{"cpu": "0", "a": '"'}], y=[[1]]), metric_format=metric_format, table="t")
    expected = [("key_q", {"a": '"', "cpu": "any", "team": "infra"}, 1.0)]
    assert rows(path, 'SELECT "for", labels, cpu_y FROM t') == expected


def test_series_that_appear_later_get_their_own_labels(tmp_path: Path) -> None:
    path, table = tmp_path / "out.db", SeriesTable()
    first, second = batch(table, [{"cpu": "0"}], y=[[1]]), batch(table, [{"cpu": "1"}, {"cpu": "0"}], yhat=[[2], [3]])
    write(path, first, second)
    assert rows(path, "SELECT labels['cpu'], y, yhat FROM anomaly ORDER BY 1") == [("0", None, 3.0), ("1", None, 2.0)]


def test_writes_are_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    write(tmp_path / "o.db", batch(SeriesTable(), [{"a": "1"}], y=[[1, 2]], yhat=[[3, math.nan]]), metrics=metrics)
    labels = {"url": str(tmp_path / "o.db"), **CODES}
    value = metrics.registry.get_sample_value
    assert value("vmanomaly_writer_responses_total", labels | {"code": "200"}) == 1
    assert value("vmanomaly_writer_datapoints_sent_total", labels) == 3
    assert value("vmanomaly_writer_timeseries_sent_total", labels) == 2
    assert value("vmanomaly_writer_queue_bytes", {"url": labels["url"]}) == 0


def test_batches_wait_while_another_process_has_the_file(tmp_path: Path) -> None:
    path, table, metrics = tmp_path / "out.db", SeriesTable(), Metrics()
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.readline()"
    command = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        writer = LocalWriter(LocalWriterSettings(path=str(path)), metrics)
        for k in range(3):
            writer.submit(batch(table, [{"n": str(k)}], y=[[k]]))
        assert not writer.drain(0.3)
        holder.stdin.write(b"\n")
        holder.stdin.close()
    assert writer.drain(30)
    writer.close(5)
    assert rows(path, "SELECT y FROM anomaly ORDER BY y") == [(0.0,), (1.0,), (2.0,)]


def test_a_batch_that_can_never_be_written_does_not_hold_up_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, table, metrics = tmp_path / "out.db", SeriesTable(), Metrics()
    write(path, batch(table, [{}], **{"LABELS": [[1]]}), batch(table, [{}], y=[[2]]), metrics=metrics)
    assert rows(path, "SELECT y FROM anomaly") == [(2.0,)]
    labels = {"url": str(path), **CODES, "reason": "refused"}
    assert metrics.registry.get_sample_value("vmanomaly_writer_datapoints_dropped_total", labels) == 1
    assert "1 points of query 'q' are lost" in caplog.text


def test_a_batch_that_fails_unexpectedly_does_not_hold_up_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, table, metrics = tmp_path / "out.db", SeriesTable(), Metrics()
    points, failures = local._points, iter([ValueError("odd")])

    def fails_once(*args: Any) -> dict[str, Any]:
        if error := next(failures, None):
            raise error
        return points(*args)

    monkeypatch.setattr(local, "_points", fails_once)
    write(path, batch(table, [{}], y=[[1]]), batch(table, [{}], y=[[2]]), metrics=metrics)
    assert rows(path, "SELECT y FROM anomaly") == [(2.0,)]
    labels = {"url": str(path), **CODES, "reason": "failed"}
    assert metrics.registry.get_sample_value("vmanomaly_writer_datapoints_dropped_total", labels) == 1


def test_a_file_that_fails_when_all_is_written_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, failures = local.DuckFile.open, iter([ValueError("odd")])

    @contextlib.contextmanager
    def fails_once(self: Any, **options: Any) -> Iterator[Any]:
        with opened(self, **options) as connection:
            yield connection
        if error := next(failures, None):
            raise error

    monkeypatch.setattr(local.DuckFile, "open", fails_once)
    table, metrics = SeriesTable(), Metrics()
    writer = LocalWriter(LocalWriterSettings(path=str(tmp_path / "out.db")), metrics)
    for k in (1, 2):
        writer.submit(batch(table, [{"n": str(k)}], y=[[k]]))
        assert writer.drain(20)
    writer.close(5)
    assert rows(tmp_path / "out.db", "SELECT y FROM anomaly ORDER BY y") == [(1.0,), (2.0,)]


def test_a_full_queue_gives_up_its_oldest_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "QUEUE_BYTES", 100)
    foreign = tmp_path / "foreign.db"
    foreign.write_text("not a database " * 500)
    metrics, table = Metrics(), SeriesTable()
    writer = LocalWriter(LocalWriterSettings(path=str(foreign)), metrics)
    labels = {"url": str(foreign), **CODES, "reason": "queue_full"}
    for k in range(40):
        writer.submit(batch(table, [{"n": str(k)}], y=[range(10)]))
    assert not writer.drain(0.1)
    writer.close(0.1)
    lost = metrics.registry.get_sample_value("vmanomaly_writer_datapoints_dropped_total", labels)
    assert lost is not None
    assert lost >= 10 * (40 - local.AT_ONCE - 1)


def test_what_is_left_at_a_stop_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    foreign = tmp_path / "foreign.db"
    foreign.write_text("not a database " * 500)
    metrics, table = Metrics(), SeriesTable()
    writer = LocalWriter(LocalWriterSettings(path=str(foreign)), metrics)
    for k in range(3):
        writer.submit(batch(table, [{"n": str(k)}], y=[range(10)]))
    assert not writer.drain(0.5)
    writer.close(0.1)
    writer.submit(batch(table, [{"n": "late"}], y=[range(10)]))
    labels = {"url": str(foreign), **CODES, "reason": "shutdown"}
    assert metrics.registry.get_sample_value("vmanomaly_writer_datapoints_dropped_total", labels) == 40
    assert caplog.text.count("are lost: the service stops") == 4


def test_a_full_disk_is_waited_out(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, table, labels = small_disk / "out.db", SeriesTable(), [{"n": str(n)} for n in range(2_000)]
    filler = fill(small_disk, (8 << 20) - (720 << 10))
    writer = LocalWriter(LocalWriterSettings(path=str(path)), Metrics())
    for k in range(5):
        values = np.random.default_rng(k).random((2_000, 1))
        writer.submit(batch(table, labels, y=values))
        writer.drain(0.5)
    assert "No space left" in caplog.text
    filler.unlink()
    assert writer.drain(30)
    writer.close(5)
    assert [y for (y,) in rows(path, "SELECT y FROM anomaly ORDER BY y")] == sorted(values.ravel())
