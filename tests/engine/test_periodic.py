"""The live loop on real threads: what goes wrong in one place stays there, and metrics tell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.errors import ReadError
from engine.metrics import Metrics
from engine.pipeline import FitResult, Limits
from engine.scheduler import periodic
from engine.scheduler.periodic import PeriodicScheduler, Task, now_ms
from engine.scheduler.plan import Pace, Schedule
from tests.e2e.stack import until

S, H = 1_000, 3_600_000


class FakeUnit:
    """Counts its jobs; `fit_with` and `infer_with` are called in them."""

    def __init__(self, alias: str, fit_with: Callable[[], Any] = int, infer_with: Callable[[], Any] = int) -> None:
        self.query = type("Query", (), {"alias": alias})
        self.limits = Limits(fit_window_ms=H, infer_every_ms=S, max_lookback_ms=H)
        self.n_fits, self.inferred = 0, list[int]()
        self._fit_with, self._infer_with = fit_with, infer_with

    def fit(self, at_ms: int, on_ready: Callable[[], None]) -> FitResult:
        self.n_fits += 1
        self.on_ready = on_ready
        self._fit_with()
        return FitResult(is_fitted=True, is_complete=True, n_points=100, n_steps=100)

    def infer(self, at_ms: int) -> int:
        self.inferred.append(at_ms)
        self._infer_with()
        return 1


class Running:
    """Starts schedulers and ends them all."""

    def __init__(self) -> None:
        self.metrics, self._made = Metrics(), list[PeriodicScheduler]()

    def start(self, *units: FakeUnit, workers: int = 2, **options: Any) -> PeriodicScheduler:
        tasks = [Task(unit, Pace(S, 0)) for unit in units]
        schedule = Schedule(H, H, S, now_ms() // S * S)
        made = PeriodicScheduler("s", "default", schedule, tasks, workers, self.metrics, **options)
        self._made.append(made)
        made.start()
        return made

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"scheduler_alias": "s", "preset": "default", **labels})

    def stop(self) -> None:
        for made in self._made:
            made.stop()
            made.join(5)


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop()


def away() -> None:
    raise ReadError("the database is away", "connection_error")


def test_a_query_that_always_fails_does_not_stop_another(running: Running) -> None:
    bad, broken, good = FakeUnit("bad", away), FakeUnit("broken", infer_with=lambda: {}["x"]), FakeUnit("good")
    running.start(bad, broken, good)
    until(lambda: len(set(good.inferred)) >= 3 and len(broken.inferred) >= 2, 20, "the good one goes on")
    assert running.value("vmanomaly_scheduler_alive") == 1
    assert bad.inferred == []


def test_a_fetch_that_hangs_holds_up_neither_other_queries_nor_the_stop(running: Running) -> None:
    end = threading.Event()
    hanging, good = FakeUnit("hanging", infer_with=lambda: end.wait(60)), FakeUnit("good")
    made = running.start(hanging, good)
    until(lambda: hanging.inferred and len(good.inferred) >= 3, 20, "the good one goes on")
    assert len(hanging.inferred) == 1, "at most one at a time"
    made.stop()
    assert not made.join(0.1)
    end.set()
    assert made.join(10)


def test_a_job_that_ends_its_thread_does_not_keep_its_slot(running: Running) -> None:
    def leave() -> None:
        raise SystemExit(3)

    leaving = FakeUnit("leaving", infer_with=leave)
    running.start(leaving)
    until(lambda: len(leaving.inferred) >= 2, 20, "a second inference")


def test_hundreds_of_queries_are_all_served_in_one_interval(running: Running) -> None:
    units = [FakeUnit(f"q{k}") for k in range(500)]
    running.start(*units, workers=4)
    until(lambda: all(unit.inferred for unit in units), 30, "every query is inferred")
    assert [unit.n_fits for unit in units] == [1] * 500


def test_a_model_that_is_ready_scores_while_others_of_its_query_are_fitted(running: Running) -> None:
    inferred_before_the_next_fit = []

    def fit() -> None:
        unit.on_ready()
        inferred_before_the_next_fit.append(len(unit.inferred))
        until(lambda: len(unit.inferred) > 1, 20, "further inferences during the fit")

    unit = FakeUnit("q", fit_with=fit)
    running.start(unit)
    until(lambda: inferred_before_the_next_fit, 20, "the fit goes on")
    assert inferred_before_the_next_fit == [1]
    until(lambda: len(unit.inferred) > 2, 20, "inferences after it")


def test_an_inference_that_hangs_does_not_hold_up_the_rest_of_a_fit(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "_FIRST_SCORES_S", 0.2)
    release, fitted = threading.Event(), threading.Event()

    def fit() -> None:
        unit.on_ready()
        fitted.set()

    unit = FakeUnit("q", fit_with=fit, infer_with=lambda: release.wait(30))
    running.start(unit)
    until(fitted.is_set, 20, "the fit goes on")
    assert len(unit.inferred) == 1
    release.set()


def test_a_loop_that_fails_is_begun_again(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [RuntimeError("can't start new thread")]

    def due(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return plan_due(*args)

    plan_due = periodic.due
    monkeypatch.setattr(periodic, "due", due)
    monkeypatch.setattr(periodic, "_RESTART_S", 0.01)
    good = FakeUnit("good")
    running.start(good)
    until(lambda: good.inferred, 20, "an inference after the restart")
    assert running.value("vmanomaly_scheduler_restarts_total", status="success") == 1
    assert running.value("vmanomaly_scheduler_alive") == 1
    assert "can't start new thread" in caplog.text


def test_a_loop_that_fails_for_ever_is_reported_dead(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "due", lambda *_: {}["x"])
    monkeypatch.setattr(periodic, "_RESTART_S", 0.001)
    running.start(FakeUnit("any"))
    until(lambda: running.value("vmanomaly_scheduler_restarts_total", status="failure") == 1, 20, "it gives up")
    assert running.value("vmanomaly_scheduler_restarts_total", status="success") == 5
    assert running.value("vmanomaly_scheduler_alive") == 0


def test_a_job_that_no_thread_took_is_due_again(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "_RESTART_S", 0.01)
    refused = [True]
    start = threading.Thread.start

    def start_or_refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("fit-") and refused:
            refused.pop()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_refuse)
    unit = FakeUnit("q")
    running.start(unit)
    until(lambda: unit.inferred, 20, "it was fitted after all")


def test_a_job_that_is_stuck_is_told_once_with_its_place(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "_STUCK_S", {"infer": 0.5, "fit": 0.5})
    monkeypatch.setattr(periodic, "_STUCK_INTERVALS", {"infer": 0, "fit": 0})
    release = threading.Event()

    def hangs_here() -> None:
        release.wait(20)

    bad, good = FakeUnit("bad", infer_with=hangs_here), FakeUnit("good")
    scheduler = running.start(bad, good)
    (text,) = until(scheduler.stuck, 20, "it is noticed")
    assert text.startswith("[Scheduler s] infer of query 'bad' has been running for ")
    assert "hangs_here" in text
    assert (running.value("vmanomaly_scheduler_longest_job_seconds") or 0) > 0.5
    assert scheduler.stuck() == []
    release.set()
    until(lambda: len(bad.inferred) > 1, 10, "it goes on")
    assert scheduler.stuck() == []


def test_a_loop_that_is_stuck_is_told(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "_STUCK_S", {"infer": 0.3, "fit": 0.3})
    release = threading.Event()

    def clock_that_hangs() -> int:
        release.wait(20)
        return now_ms()

    scheduler = running.start(FakeUnit("q"), clock=clock_that_hangs)
    (text,) = until(scheduler.stuck, 20, "it is noticed")
    assert "the loop has been running" in text
    assert "clock_that_hangs" in text
    release.set()
