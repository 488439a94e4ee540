"""Mistakes that vmanomaly's changelog tells of, in fits and inferences; docs/compatibility.md lists them."""

from __future__ import annotations

import gc
import json
import logging
import math
from pathlib import Path

import httpx
import numpy as np
import pytest

from engine.errors import ReadError
from engine.fitting import WindowStore
from engine.frame import Query
from engine.group import Group
from engine.metrics import Metrics
from engine.models.base import Model
from engine.models.prophet import Prophet
from engine.models.zscore import OnlineZscore
from engine.pipeline import Limits, Unit
from engine.pool import Pool
from engine.scheduler.periodic import Task, replay, run_job
from engine.scheduler.plan import Job, Pace, Schedule
from engine.score import resolve
from engine.settings import Range
from tests.engine.reader.memory_server import Server, reader_of
from tests.engine.unit_bench import QUERY, T0, Bench, H, M
from tests.fakes import CountingModel, MemoryWriter, StaticModel
from tests.models.test_contract import VARIANTS
from tests.strategies import frame_of


def total(metrics: Metrics, name: str, **labels: str) -> float:
    samples = [s for family in metrics.registry.collect() for s in family.samples if s.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


def group_of(
    model: Model, alias: str, parts: tuple[Pool, Metrics], query: Query = QUERY, scheduler: str = "s"
) -> Group:
    names = {"query_key": query.alias, "model_alias": alias, "scheduler_alias": scheduler, "preset": "default"}
    return Group(model, query, resolve(model, query, 1.01), names, *parts)


def test_a_series_first_seen_at_inference_has_all_policies() -> None:
    model = OnlineZscore(min_n_samples_seen=1, data_range=Range((0.0, 5.0)), clip_predictions=True)
    bench = Bench(model)
    bench.feed("a", -10, 20)
    bench.unit.fit(T0)
    bench.feed("new", 1, 3, value=9.0)
    bench.unit.infer(T0 + 3 * M)
    scores = [v for name, _, v in bench.writer.written("anomaly_score") if name == "new"]
    assert len(scores) == 3
    assert min(scores) == pytest.approx(1.01)  # the fixed score, until the band is learned and clipped below the value
    bounds = [v for name, _, v in bench.writer.written("yhat_upper") if name == "new"]
    assert max(bounds) <= 5


def test_a_fit_leaves_no_file_and_no_window_behind(tmp_path: Path) -> None:
    bench = Bench(StaticModel(), memory_budget_bytes=0, data_folder=str(tmp_path))
    bench.feed("a", -10, 5)
    for minute in range(3):
        assert bench.unit.fit(T0 + minute * M).is_fitted
        assert list(tmp_path.iterdir()) == []
    gc.collect()
    assert [o for o in gc.get_objects() if type(o) is WindowStore] == []


def test_a_refit_forgets_what_was_learned_before_it() -> None:
    once, twice = Bench(OnlineZscore(decay=0.9)), Bench(OnlineZscore(decay=0.9))
    for bench in (once, twice):
        bench.reader.points["a"] = {T0 + k * M: math.sin(k) for k in range(-40, 1)}
    twice.unit.fit(T0 - 20 * M)
    twice.unit.infer(T0 - M)
    for bench in (once, twice):
        bench.unit.fit(T0 - M)
    first, second = once.groups[0].state, twice.groups[0].state
    assert first is not None
    assert second is not None
    assert first.columns["seen"].tolist() == [10]  # the newest interval is scored before it is learned
    assert second.columns["seen"].tolist() == [11]
    for bench in (once, twice):
        bench.unit.fit(T0)
    first, second = once.groups[0].state, twice.groups[0].state
    assert first is not None
    assert second is not None
    assert all(np.array_equal(first.columns[name], second.columns[name]) for name in first.columns)


def test_a_series_that_is_gone_leaves_the_state_at_the_next_fit() -> None:
    bench = Bench(CountingModel(), StaticModel())
    bench.feed("a", -10, 60)
    bench.feed("gone", -10, 0)
    bench.unit.fit(T0)
    assert [group.state.series.size for group in bench.groups if group.state] == [2, 2]
    bench.unit.fit(T0 + 30 * M)
    assert [group.state.series.size for group in bench.groups if group.state] == [1, 1]
    assert bench.count("vmanomaly_models_active") == 1


def test_a_fit_that_a_stop_cuts_short_changes_no_state() -> None:
    bench = Bench(StaticModel(), CountingModel())
    bench.feed("a", -10, 20)
    bench.unit.fit(T0)
    before = [group.state for group in bench.groups]
    bench.unit._is_stopping = lambda: True
    with pytest.raises(ReadError, match="stopped"):
        bench.unit.fit(T0 + 5 * M)
    assert [group.state for group in bench.groups] == before
    assert bench.writer.batches == []


def test_points_that_were_seen_or_are_invalid_are_skips_and_not_counted_as_accepted() -> None:
    bench = Bench(CountingModel())
    bench.reader.points["a"] = {T0 + k * M: math.nan if k % 3 == 0 else 1.0 for k in range(-10, 7)}
    n_fit = sum(math.isfinite(v) for t, v in bench.reader.points["a"].items() if t <= T0)
    bench.unit.fit(T0)
    accepted = "vmanomaly_model_datapoints_accepted_total"
    assert bench.count(accepted, stage="fit") == n_fit
    for minute in (5, 5, 5, 6):
        bench.unit.infer(T0 + minute * M)
    assert bench.count(accepted, stage="infer") == len(bench.writer.written("y")) == 4
    assert bench.count("vmanomaly_model_runs_total", stage="infer") == 1
    assert bench.count("vmanomaly_model_runs_skipped_total", stage="infer") == 1  # minute 6; the rest asked for nothing
    assert bench.count("vmanomaly_model_run_errors_total", stage="infer") == 0


def test_counters_of_queries_and_schedulers_do_not_mix() -> None:
    metrics, server = Metrics(), Server(n_series=3)
    reader, pool = reader_of(server, metrics), Pool(1)
    writer = MemoryWriter()
    for scheduler, alias, n_runs in (("s", "q", 1), ("s", "r", 2), ("t", "q", 3)):
        query = Query(alias, "m", M)
        group = group_of(CountingModel(), "m", (pool, metrics), query, scheduler)
        unit = Unit(scheduler, query, [group], Limits(10 * M, M, 30 * M), reader, writer, pool, metrics)
        unit.fit(T0)
        for k in range(n_runs):
            unit.infer(T0 + k * M)
        labels = {"query_key": alias, "scheduler_alias": scheduler, "preset": "default"}
        assert total(metrics, "vmanomaly_model_runs_total", stage="infer", model_alias="m", **labels) == n_runs
        assert total(metrics, "vmanomaly_model_datapoints_accepted_total", stage="infer", **labels) == 3 * n_runs
        assert total(metrics, "vmanomaly_model_datapoints_produced_total", stage="infer", **labels) == 15 * n_runs
        assert total(metrics, "vmanomaly_reader_responses_total", code="200", **labels) == n_runs + 1
    reader.close()


@pytest.mark.parametrize("model", VARIANTS)
def test_the_score_out_of_range_of_the_settings_reaches_every_class(model: Model) -> None:
    query = Query("q", "up", M, data_range=Range((0.0, 1.0)))
    assert resolve(model, query, 4.5).outside_score == 4.5


def test_a_fit_at_every_inference_has_its_whole_window() -> None:
    bench = Bench(StaticModel())
    bench.feed("a", -30, 30)
    replay(Schedule(10 * M, M, M, T0), [Task(bench.unit, Pace(M, 5_000))], T0, T0 + 5 * M + 10_000)
    fits = [w for w in bench.reader.windows if w.n_steps == 11]
    assert [(w.end_ms - T0) // M for w in fits] == [0, 1, 2, 3, 4, 5]
    assert bench.minutes() == [0, 1, 2, 3, 4, 5]


def test_a_failed_read_is_one_line_and_says_nothing_of_no_data(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench(CountingModel())
    bench.feed("a", -10, 5)
    bench.unit.fit(T0)
    caplog.clear()
    bench.reader.failures = 1
    run_job(Task(bench.unit, Pace(M, 5_000)), Job("infer", T0 + M, T0 + M), clock=lambda: T0)
    (record,) = caplog.records
    assert "the database is away" in record.getMessage()
    assert record.exc_info is None or not record.exc_info


def test_sundays_have_their_own_expectation() -> None:
    day = 24 * H
    start = 4 * day + 2_800 * 7 * day - 7 * day * 40  # the epoch's fifth day was a Monday
    values = np.array([[50.0 if (k // 24) % 7 == 6 else 10.0 for k in range(24 * 56)]])
    model = Prophet()
    state = model.fit_rows(frame_of(values, start, H))
    later, _ = model.infer(state, frame_of(np.zeros((1, 24 * 7)), start + 56 * day, H))
    assert later.yhat is not None
    by_day = later.yhat[0].reshape(7, 24)[:, 6:18].mean(axis=1)
    assert int(np.argmax(by_day)) == 6
    assert by_day[6] > by_day[:6].max() + 20


def test_answers_of_numbers_beyond_doubles_are_missing_and_not_wrong() -> None:
    body = {"status": "success", "data": {"resultType": "matrix", "result": [
        {"metric": {"n": "0"}, "values": [[T0 / 1000, "1" + "0" * 310], [T0 / 1000 + 60, "2"]]}]}}  # fmt: skip
    server = Server(fault=lambda params, request: httpx.Response(200, content=json.dumps(body)))
    bench = Bench(CountingModel())
    bench.unit._reader = reader_of(server)
    bench.unit.fit(T0 + M)
    state = bench.groups[0].state
    assert state is None or state.columns["n"].tolist() == [0]
    bench.unit.infer(T0 + M)
    assert [v for batch in bench.writer.batches for v in batch.output.columns["y"].ravel() if math.isfinite(v)] == [2]
    bench.unit._reader.close()
