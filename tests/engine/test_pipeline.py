"""Units over a reader and a writer in memory: what is read, learned and written, and when."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import ReadError
from engine.frame import Query
from tests.engine.unit_bench import T0, Bench, H, M
from tests.fakes import BrokenModel, CountingModel, StaticModel


def test_each_point_is_scored_once_and_in_order() -> None:
    bench = Bench(CountingModel())
    bench.feed("a", -10, 20)
    bench.unit.fit(T0)
    for minute in (1, 2, 2, 5, 4, 6):
        bench.unit.infer(T0 + minute * M)
    assert bench.minutes() == [0, 1, 2, 3, 4, 5, 6]


def test_online_model_predicts_from_all_points_before_and_none_after() -> None:
    bench = Bench(CountingModel())
    bench.feed("a", -30, 20)
    bench.unit.fit(T0)
    bench.unit.infer(T0 + 7 * M)
    # 10 of the 11 points of the window are learned by the fit, the newest interval is scored first.
    assert [v for _, _, v in bench.writer.written("yhat")] == [10.0 + k for k in range(8)]


def test_a_read_that_fails_is_made_up_later() -> None:
    bench = Bench(CountingModel())
    bench.feed("a", -10, 20)
    bench.unit.fit(T0)
    bench.reader.failures = 2
    for minute in (1, 2):
        with pytest.raises(ReadError):
            bench.unit.infer(T0 + minute * M)
    bench.unit.infer(T0 + 3 * M)
    assert bench.minutes() == [0, 1, 2, 3]


def test_missed_points_are_made_up_only_within_the_lookback(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(CountingModel(), max_lookback_ms=15 * M)
    bench.feed("a", -10, 60)
    bench.unit.fit(T0)
    bench.unit.infer(T0 + 60 * M)
    assert bench.minutes() == list(range(46, 61))
    assert "too old to be made up" in caplog.text


def test_without_catching_up_one_interval_is_read() -> None:
    bench = Bench(CountingModel(), catches_up=False)
    bench.feed("a", -10, 60)
    bench.unit.fit(T0)
    bench.unit.infer(T0 + 5 * M)
    assert bench.minutes() == [5]


def test_a_series_that_arrives_late_is_scored_when_it_comes() -> None:
    bench = Bench(CountingModel())
    bench.feed("a", -10, 20)
    bench.feed("late", -10, 0)
    bench.unit.fit(T0)
    for minute in range(1, 10):
        bench.feed("late", minute - 3, minute - 3)
        assert bench.unit.infer(T0 + minute * M) == (2 if minute == 1 else 1), "new points, however wide the read"
    assert bench.minutes("a") == list(range(0, 10))
    assert bench.minutes("late") == list(range(0, 7))


def test_a_series_that_is_gone_does_not_widen_reads_for_long() -> None:
    bench = Bench(CountingModel())
    bench.feed("a", -10, 30)
    bench.feed("gone", -10, 0)
    bench.unit.fit(T0)
    for minute in range(1, 20):
        bench.unit.infer(T0 + minute * M)
    assert max(window.n_steps for window in bench.reader.windows[1:]) == 6
    assert bench.reader.windows[-1].n_steps == 1


def test_a_late_series_is_waited_for_until_it_is_stale_where_that_is_asked_for() -> None:
    bench = Bench(CountingModel(), fit_window_ms=5 * H, max_lookback_ms=24 * H, waits_for_late=True)
    bench.feed("a", -300, 600)
    bench.feed("late", -300, 0)
    bench.feed("gone", -300, 0)
    bench.unit.fit(T0)
    for minute in range(1, 601):
        if minute == 25:
            bench.feed("late", 1, 600)
        bench.unit.infer(T0 + minute * M)
    assert bench.minutes("late")[-600:] == list(range(1, 601))
    # After a tenth of the fit window without a point a series would not be fitted either.
    assert [w.n_steps for w in bench.reader.windows[1:]] == [2, *range(2, 32), *[1] * 569]


def test_a_new_state_that_cannot_be_brought_up_to_date_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(CountingModel(), CountingModel())
    bench.feed("a", -10, 20)
    bench.unit.fit(T0)
    before = bench.groups[0].state

    def fail(*_: object) -> None:
        raise MemoryError("full")

    monkeypatch.setattr(bench.groups[0], "adopt", fail)
    bench.unit.fit(T0 + 5 * M)
    assert bench.groups[0].state is before
    bench.unit.infer(T0 + 6 * M)
    yhat = {b.model_alias: b.output.columns["yhat"][0, -1] for b in bench.writer.batches}
    assert yhat == {"m0": 16.0, "m1": 11.0}
    assert bench.count("vmanomaly_model_run_errors_total", stage="fit") == 1


@pytest.mark.parametrize("stage", ["fit", "infer"])
def test_what_a_stop_cuts_short_is_no_error_of_a_model(stage: str, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(StaticModel(), CountingModel())
    for k in range(200):
        bench.feed(f"s{k}", -10, 20)
    if stage == "infer":
        bench.unit.fit(T0)
    bench.pool.close()  # as the service does while jobs may still run
    run = bench.unit.fit if stage == "fit" else bench.unit.infer
    bench.is_stopping = stage == "infer"
    bench.reader.after_read = lambda: setattr(bench, "is_stopping", True)
    with pytest.raises(ReadError):
        run(T0)
    assert bench.count("vmanomaly_model_run_errors_total", stage=stage) == 0
    assert "Error" not in caplog.text


def test_a_full_disk_fails_only_the_models_that_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _start: int, _size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.fitting.os.posix_fallocate", full)
    bench = Bench(StaticModel(), CountingModel(), memory_budget_bytes=0)
    bench.feed("a", -10, 20)
    bench.unit.fit(T0)
    assert bench.groups[0].state is None
    assert bench.groups[1].state is not None
    assert bench.count("vmanomaly_model_run_errors_total", stage="fit") == 1


@pytest.mark.parametrize("catches_up", [True, False])
def test_ticks_without_a_new_grid_time_are_no_skips(catches_up: bool, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(CountingModel(), infer_every_ms=M // 6, catches_up=catches_up)
    bench.feed("a", -10, 20)
    bench.feed("late", -10, -1)
    bench.unit.fit(T0)
    for _ in range(6):
        bench.unit.infer(T0 + M)
    assert all(window.start_ms % M == 0 for window in bench.reader.windows)
    assert bench.count("vmanomaly_model_runs_skipped_total", stage="infer") == 0
    assert "No unseen data" not in caplog.text
    assert bench.minutes() == ([0, 1] if catches_up else [1])
    bench.feed("late", 1, 1)
    bench.unit.infer(T0 + M)
    assert bench.minutes("late") == [1]


def test_a_series_one_long_step_late_is_waited_for() -> None:
    bench = Bench(CountingModel(), infer_every_ms=10 * M, fit_window_ms=100 * M, max_lookback_ms=60 * M)
    query = Query("q", "up", 10 * M)
    bench.unit.query = bench.groups[0].query = query
    bench.feed("a", -100, 100)
    bench.feed("late", -100, 0)
    bench.unit.fit(T0)
    bench.unit.infer(T0 + 10 * M)
    bench.feed("late", 1, 20)
    bench.unit.infer(T0 + 20 * M)
    assert bench.minutes("late") == [0, 10, 20]


def test_an_offline_model_that_knows_none_of_the_series_has_a_skip_and_no_run() -> None:
    bench = Bench(StaticModel())
    bench.feed("a", -10, 0)
    bench.unit.fit(T0)
    bench.unit.infer(T0)
    bench.feed("b", 1, 1)
    bench.unit.infer(T0 + M)
    assert bench.count("vmanomaly_model_runs_total", stage="infer") == 1
    assert bench.count("vmanomaly_model_runs_skipped_total", stage="infer") == 1
    assert len(bench.writer.batches) == 1


def test_missed_points_are_reported_when_there_are_points_again(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(CountingModel(), max_lookback_ms=3 * M)
    bench.feed("a", -10, 0)
    bench.feed("a", 20, 30)
    bench.unit.fit(T0)
    for minute in range(0, 31):
        bench.unit.infer(T0 + minute * M)
    assert caplog.text.count("too old to be made up") == 1
    assert bench.minutes() == [0, *range(20, 31)]


def test_a_failing_model_does_not_stop_another() -> None:
    bench = Bench(BrokenModel(), StaticModel())
    bench.feed("a", -10, 20)
    bench.unit.fit(T0)
    bench.unit.infer(T0 + M)
    assert {batch.model_alias for batch in bench.writer.batches} == {"m1"}
    assert bench.count("vmanomaly_model_run_errors_total", stage="infer") == 1


@pytest.mark.parametrize("stage", ["fit", "infer"])
def test_empty_answers_are_skips_with_one_line(stage: str, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(StaticModel())
    if stage == "infer":
        bench.feed("a", -10, 0)
        bench.unit.fit(T0)
        bench.unit.infer(T0)
        caplog.clear()
        bench.unit.infer(T0 + M)
    else:
        assert not bench.unit.fit(T0).is_fitted
    assert caplog.text.count("No data for query_key q") + caplog.text.count("No data for query_key 'q'") == 1
    assert bench.count("vmanomaly_model_runs_skipped_total", stage=stage) == 1
    assert bench.count("vmanomaly_model_run_errors_total", stage=stage) == 0


@pytest.mark.parametrize("steps_a_piece", [1, 3, 1000])
@pytest.mark.parametrize("budget", [0, 1 << 20])
def test_pieces_and_memory_budget_change_nothing(steps_a_piece: int, budget: int) -> None:
    bench = Bench(StaticModel(), CountingModel(), memory_budget_bytes=budget)
    bench.reader.steps_a_piece = steps_a_piece
    rng = np.random.default_rng(3)
    for name in ("a", "b", "c"):
        kept = rng.choice(np.arange(-10, 0), 6, replace=False)
        bench.reader.points[name] = {T0 + int(k) * M: float(k) for k in [*kept, 0]}
    bench.unit.fit(T0)
    bench.unit.infer(T0 + M)
    expected = {name: np.mean(list(points.values())) for name, points in bench.reader.points.items()}
    assert {n: v for n, _, v in bench.writer.written("yhat")[:3]} == pytest.approx(expected)
