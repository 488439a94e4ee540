"""Fits of a unit over a reader in memory: what they learn, when they are done again, and what comes meanwhile."""

from __future__ import annotations

import gc
from itertools import pairwise

import pytest

from engine.errors import ModelError, ReadError
from engine.frame import Frame, Query, State, Window
from engine.scheduler.periodic import Task, replay
from engine.scheduler.plan import Pace, Schedule
from tests.engine.unit_bench import QUERY, T0, Bench, H, M
from tests.fakes import BrokenModel, CountingModel, StaticModel


def test_first_fit_of_an_offline_model_has_the_whole_window_and_scores_the_last_interval() -> None:
    bench = Bench(StaticModel())
    bench.feed("a", -30, -1, value=0.0)
    bench.feed("a", 0, 0, value=11.0)
    bench.unit.fit(T0)
    bench.unit.infer(T0)
    assert bench.writer.written("yhat") == [("a", T0, 1.0)]


def test_a_model_that_learns_as_it_reads_serves_before_the_others_are_fitted() -> None:
    bench = Bench(StaticModel(), CountingModel())
    bench.feed("a", -30, 0)
    served = []

    def on_ready() -> None:
        bench.unit.infer(T0)
        served.append([batch.model_alias for batch in bench.writer.batches])

    bench.unit.fit(T0, on_ready)
    assert served == [["m1"]]
    bench.unit.infer(T0)
    assert [batch.model_alias for batch in bench.writer.batches] == ["m1", "m0"]


def test_new_series_start_at_once_online_and_wait_for_the_next_fit_offline() -> None:
    bench = Bench(CountingModel(), StaticModel())
    bench.feed("a", -10, 20)
    bench.unit.fit(T0)
    bench.feed("new", 1, 20)
    bench.unit.infer(T0 + 2 * M)
    by_model = {b.model_alias: {b.table.labels(int(s))["name"] for s in b.output.series} for b in bench.writer.batches}
    assert by_model == {"m0": {"a", "new"}, "m1": {"a"}}
    skipped = "vmanomaly_model_series_skipped_total"
    assert bench.count(skipped, model_alias="m1", stage="infer", reason="unknown") == 1
    bench.unit.fit(T0 + 3 * M)
    bench.unit.infer(T0 + 4 * M)
    assert {b.table.labels(int(s))["name"] for b in bench.writer.batches[-2:] for s in b.output.series} == {"a", "new"}


def test_series_without_a_recent_point_are_not_fitted_and_counted() -> None:
    bench = Bench(StaticModel(), fit_window_ms=100 * M)
    bench.feed("a", -100, 0)
    bench.feed("old", -100, -11)
    bench.feed("recent", -100, -10)
    bench.unit.fit(T0)
    state = bench.groups[0].state
    assert state is not None
    names = {bench.reader.table(QUERY).labels(int(s))["name"] for s in state.series}
    assert names == {"a", "recent"}
    assert bench.count("vmanomaly_model_series_skipped_total", stage="fit", reason="stale") == 1


def test_points_that_come_during_a_fit_are_in_the_new_state() -> None:
    bench = Bench(CountingModel())
    bench.feed("a", -30, 30)
    bench.unit.fit(T0)
    bench.unit.infer(T0 + 5 * M)
    read = bench.reader.read

    def slow(query: Query, window: Window, scheduler_alias: str):
        yield from read(query, window, scheduler_alias)
        if window.end_ms == T0 + 5 * M:
            bench.unit.infer(T0 + 8 * M)

    bench.reader.read = slow
    bench.unit.fit(T0 + 5 * M)
    bench.unit.infer(T0 + 9 * M)
    # The window of 11 points to minute 5, then minutes 6, 7 and 8 replayed.
    assert bench.writer.written("yhat")[-1] == ("a", T0 + 9 * M, 14.0)
    assert bench.minutes() == list(range(0, 10))


def test_a_late_fit_learns_what_was_scored_before_it_began() -> None:
    bench = Bench(CountingModel(), StaticModel())
    bench.feed("a", -30, 30)
    bench.feed("late", -30, 6)
    bench.unit.fit(T0)
    bench.unit.infer(T0 + 8 * M)
    bench.feed("late", 7, 30)
    bench.unit.fit(T0 + 5 * M)
    bench.unit.infer(T0 + 9 * M)
    yhat = [cell for cell in bench.writer.written("yhat") if cell[0] == "a" and cell[2] != 1.0]
    # The window of 11 points to minute 5, then minutes 6, 7 and 8, as if the fit had been on time.
    assert yhat[-1] == ("a", T0 + 9 * M, 14.0)
    late = [cell for cell in bench.writer.written("yhat") if cell[0] == "late" and cell[2] != 1.0]
    assert late[-3:] == [("late", T0 + k * M, 5.0 + k) for k in (7, 8, 9)]
    assert sorted(bench.minutes("late")) == sorted(2 * list(range(10)))


def test_points_that_a_fit_had_before_they_were_scored_are_learned_once() -> None:
    bench = Bench(CountingModel())
    bench.feed("a", -30, 30)
    bench.unit.fit(T0)
    bench.unit.infer(T0)
    bench.unit.fit(T0 + 5 * M)
    bench.unit.infer(T0 + 7 * M)
    bench.unit.infer(T0 + 8 * M)
    assert bench.minutes() == list(range(0, 9))
    # The window's 11 points to minute 5 count once each.
    assert [v for _, t, v in bench.writer.written("yhat") if t > T0 + 5 * M] == [11.0, 12.0, 13.0]


def test_a_fit_that_breaks_down_keeps_no_frames() -> None:
    bench = Bench(CountingModel())
    bench.feed("a", -30, 30)
    bench.unit.fit(T0)
    bench.unit.infer(T0)
    read = bench.reader.read

    def broken(query: Query, window: Window, scheduler_alias: str):
        raise RuntimeError("nobody thought of this")

    bench.reader.read = broken
    with pytest.raises(RuntimeError):
        bench.unit.fit(T0)
    bench.reader.read = read
    gc.collect()
    before = sum(type(found) is Frame for found in gc.get_objects())
    for minute in range(1, 11):
        bench.unit.infer(T0 + minute * M)
    gc.collect()
    assert sum(type(found) is Frame for found in gc.get_objects()) <= before


def test_a_model_that_cannot_be_fitted_does_not_stop_another(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(BrokenModel(fits=False), StaticModel(), CountingModel())
    bench.feed("a", -10, 20)
    result = bench.unit.fit(T0)
    assert (result.is_fitted, result.is_complete) == (True, False)
    bench.unit.infer(T0 + M)
    assert {batch.model_alias for batch in bench.writer.batches} == {"m1", "m2"}
    assert bench.count("vmanomaly_model_run_errors_total", stage="fit") == 1
    assert "KeyError: 'cannot'" in caplog.text


def test_an_online_model_whose_interval_is_longer_than_its_window_is_fitted() -> None:
    bench = Bench(CountingModel(), infer_every_ms=60 * M, max_lookback_ms=60 * M)
    bench.feed("a", -60, 60)
    assert bench.unit.fit(T0).is_fitted
    bench.unit.infer(T0)
    assert bench.minutes() == list(range(-4, 1))


def test_a_fit_that_cannot_read_leaves_the_old_state() -> None:
    bench = Bench(StaticModel())
    bench.feed("a", -10, 20)
    bench.unit.fit(T0)
    before = bench.groups[0].state
    bench.reader.failures = 1
    with pytest.raises(ReadError):
        bench.unit.fit(T0 + 5 * M)
    assert bench.groups[0].state is before
    bench.unit.infer(T0 + 6 * M)
    assert bench.minutes() == list(range(0, 7))


def test_a_fresh_stack_is_refitted_as_its_points_double() -> None:
    bench = Bench(CountingModel(), fit_window_ms=24 * H)
    bench.feed("a", 1, 400)
    task = Task(bench.unit, Pace(M, 5_000))
    replay(Schedule(24 * H, 2 * H, M, T0), [task], T0, T0 + 100 * M)
    fits = [(w.end_ms - T0) // M for w in bench.reader.windows if w.n_steps > 1000]
    # Nothing at 0, the first try with a learnable point at 2, then at each doubling while below a tenth of a day.
    assert fits[:2] == [0, 1]
    doublings = [b / a for a, b in pairwise(fits[3:])]
    assert doublings
    assert all(1.5 <= ratio <= 2.5 for ratio in doublings)
    assert bench.minutes()[-1] == 99


def test_replay_fits_on_the_grid_and_scores_every_minute() -> None:
    bench = Bench(StaticModel())
    bench.feed("a", -600, 600)
    task = Task(bench.unit, Pace(M, 5_000))
    replay(Schedule(10 * M, H, M, T0), [task], T0, T0 + 5 * H + 10_000)
    fits = [(w.end_ms - T0) // M for w in bench.reader.windows if w.n_steps == 11]
    assert fits == [0, 60, 120, 180, 240, 300]
    assert bench.minutes() == list(range(0, 301))


def fits_read(bench: Bench, first: int, last: int) -> list[int]:
    """Minutes at which fits of a two-hour window read it, tried every hour and at every minute where none was."""
    task = Task(bench.unit, Pace(M, 5_000))
    replay(Schedule(120 * M, H, M, T0), [task], T0 + first * M, T0 + last * M + 10_000)
    return [(w.end_ms - T0) // M for w in bench.reader.windows if w.n_steps == 121]


def test_a_query_whose_series_are_gone_is_read_whole_once_an_interval_of_fits() -> None:
    bench = Bench(CountingModel(), fit_window_ms=120 * M)
    bench.feed("a", -120, 70)
    assert fits_read(bench, 0, 250) == [0, 60, 120, 180, 240]


def test_a_thin_query_whose_series_are_gone_is_not_read_whole_at_every_inference() -> None:
    bench = Bench(CountingModel(), fit_window_ms=120 * M)
    bench.feed("a", -3, 5)
    assert [minute for minute in fits_read(bench, 0, 200) if minute > 20] == [60, 120, 180]


def test_refits_that_fail_are_tried_once_an_interval_of_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(StaticModel(), fit_window_ms=120 * M)
    bench.feed("a", -120, 300)
    fit_rows = StaticModel.fit_rows

    def fails_later(model: StaticModel, frame: Frame) -> State:
        if frame.timestamps_ms[-1] > T0:
            raise ModelError("no")
        return fit_rows(model, frame)

    monkeypatch.setattr(StaticModel, "fit_rows", fails_later)
    assert fits_read(bench, 0, 190) == [0, 60, 120, 180]
    assert bench.minutes() == list(range(0, 191))


def test_first_fits_that_fail_are_tried_at_every_inference() -> None:
    bench = Bench(BrokenModel(fits=False), fit_window_ms=120 * M)
    bench.feed("a", -120, 300)
    assert fits_read(bench, 0, 4) == [0, 1, 2, 3, 4]
