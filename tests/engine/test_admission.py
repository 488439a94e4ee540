"""Bounds on series, and queries that would feed on what this service writes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from engine.admission import Admission, Room
from engine.build import make_tasks
from engine.config.schema import load_config
from engine.errors import ReadError
from engine.frame import Frame
from engine.metrics import Metrics
from engine.pool import Pool
from engine.series import SeriesTable
from tests.fakes import MemoryReader, MemoryWriter

M = 60_000
T0 = 28_333_320 * M
BASE = """
schedulers: {s: {class: periodic, infer_every: 1m, fit_window: 3h, fit_every: 2h}}
models: {z: {class: zscore_online, provide_series: [anomaly_score, yhat]}}
reader: {datasource_url: "http://vm", sampling_period: 1m, queries: {a: {expr: u}}}
writer: {datasource_url: "http://vm"}
"""


def frame(*series: int) -> Frame:
    return Frame(np.array(series, dtype=np.int64), np.array([T0]), np.array(series, dtype=np.float64)[:, None], M)


def admission(most: int | None, room: Room, n: int = 10) -> Admission:
    table = SeriesTable()
    for k in range(n):
        table.intern({"i": str(k)})
    return Admission("q", table, most, room, lambda labels: labels["i"] == "9")


def test_the_first_series_are_taken_and_stay(caplog: pytest.LogCaptureFixture) -> None:
    one = admission(3, Room(None))
    whole = frame(0, 1)
    assert one.admit(whole) is whole
    taken = one.admit(frame(0, 2, 5))
    assert taken.series.tolist() == [0, 2]
    assert taken.values.tolist() == [[0.0], [2.0]]
    assert one.admit(frame(5, 6)).series.tolist() == []
    assert one.admit(frame(1)).series.tolist() == [1]
    assert one.n_refused == 2
    messages = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert messages == ["query 'q': 1 series are not taken, 3 are (settings.max_series.per_query)"]


def test_all_queries_together_have_one_bound() -> None:
    room = Room(4)
    one, other = admission(None, room), admission(3, room)
    assert one.admit(frame(0, 1)).series.size == 2
    assert other.admit(frame(0, 1, 2, 3)).series.tolist() == [0, 1]
    assert one.admit(frame(2)).series.size == 0


def test_series_with_labels_beyond_all_bounds_are_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    table = SeriesTable()
    for labels in ({"a": "x" * (11 << 20)}, {str(k): "" for k in range(257)}, {"a": "x" * (1 << 20)}):
        table.intern(labels)
    one = Admission("q", table, None, Room(None), lambda _: False)
    assert one.admit(frame(0, 1, 2)).series.tolist() == [2]
    assert one.n_refused == 2
    assert "2 series have labels beyond all bounds" in caplog.text


def test_no_rows_are_no_rows() -> None:
    assert admission(1, Room(0)).admit(frame()).series.size == 0


def run(tmp_path: Path, text: str, labels: dict[str, str]) -> MemoryWriter:
    """One fit and one inference on a series with these labels."""
    (tmp_path / "c.yml").write_text(text)
    reader, writer = MemoryReader(), MemoryWriter()
    reader.points["x"] = {T0 + k * M: float(k % 7) for k in range(-200, 10)}
    reader._table.intern = lambda _: SeriesTable.intern(reader._table, labels)
    config = load_config([tmp_path / "c.yml"], {})
    (task,) = make_tasks(config, next(iter(config.schedulers)), reader, writer, Pool(1), Metrics())
    task.unit.fit(T0)
    task.unit.infer(T0 + M)
    return writer


OURS = {"__name__": "yhat", "for": "a", "model_alias": "z", "scheduler_alias": "s", "preset": "default", "job": "x"}


def test_a_query_that_reads_our_own_outputs_is_stopped_with_a_clear_line(tmp_path: Path) -> None:
    with pytest.raises(
        ReadError, match=r"query 'a' reads what this service writes.*'model_alias': 'z'.*feed on itself"
    ):
        run(tmp_path, BASE, OURS)


@pytest.mark.parametrize(
    "labels",
    [
        {"__name__": "up", "job": "x"},
        {**OURS, "model_alias": "of_another_service"},
        {**OURS, "for": "b"},
        {**OURS, "__name__": "total"},
        {k: v for k, v in OURS.items() if k != "__name__"},
    ],
)
def test_what_only_looks_like_ours_is_read(tmp_path: Path, labels: dict[str, str]) -> None:
    assert run(tmp_path, BASE, labels).batches


def test_the_oldest_style_writes_no_aliases_and_is_known_by_its_names(tmp_path: Path) -> None:
    text = """
scheduler: {infer_every: 1m, fit_window: 3h, fit_every: 2h}
model: {class: "model.zscore.ZscoreModel"}
reader: {datasource_url: "http://vm", queries: {a: u}}
writer: {datasource_url: "http://vm", metric_format: {__name__: "vm_$VAR", for: "$QUERY_KEY"}}
"""
    with pytest.raises(ReadError, match="feed on itself"):
        run(tmp_path, text, {"__name__": "vm_anomaly_score", "for": "a", "job": "x"})
    assert run(tmp_path, text, {"__name__": "anomaly_score", "for": "a"}).batches


def test_bounds_of_the_configuration_reach_fits_and_inferences(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(BASE + "settings: {max_series: {per_query: 2, total: 100}}\n")
    reader, writer, metrics = MemoryReader(), MemoryWriter(), Metrics()
    for name in "uvwxy":
        reader.points[name] = {T0 + k * M: float(k % 7) for k in range(-200, 10)}
    (task,) = make_tasks(load_config([tmp_path / "c.yml"], {}), "s", reader, writer, Pool(1), metrics)
    task.unit.fit(T0)
    task.unit.infer(T0 + M)
    assert {name for name, _, _ in writer.written()} == {"u", "v"}
    value = metrics.registry.get_sample_value
    labels = {"query_key": "a", "scheduler_alias": "s", "preset": "default"}
    assert value("vmanomaly_series_not_taken", labels) == 3
