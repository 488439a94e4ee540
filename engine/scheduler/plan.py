"""What is due now: pure functions of schedule, progress and time; no clock, no threads, no I/O.

Two kinds of time: *data time* is the timestamp of points, always a multiple of the query's step; *wall time* is
when work happens. Data time t may be read from wall time t + settle - offset on. A *tick* is a wall time without
settle and scatter: every query of a scheduler has the same ticks. A scattered job is late by its share of the interval
and reads up to its own time, not up to the tick: scores would be as old when they are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.frame import align_down


@dataclass(frozen=True, slots=True)
class Schedule:
    """One periodic scheduler. `start_ms` is the tick of the first fit; ticks follow every `infer_every_ms`, fits every
    `fit_every_ms` from there on.
    """

    fit_window_ms: int
    fit_every_ms: int
    infer_every_ms: int
    start_ms: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How far behind the wall clock one query is read, and how long its jobs wait within an interval (scatter)."""

    step_ms: int
    settle_ms: int
    offset_ms: int = 0
    delay_ms: int = 0

    def data_ms(self, tick_ms: int) -> int:
        """The newest data time that belongs to a tick."""
        return align_down(tick_ms + self.delay_ms + self.offset_ms, self.step_ms)

    def tick_ms(self, data_ms: int, infer_every_ms: int) -> int:
        """The first whole interval that a data time belongs to."""
        return -align_down(self.delay_ms + self.offset_ms - data_ms, infer_every_ms)


@dataclass(slots=True)
class Progress:
    """What one (scheduler, query) has done. `fit_at_ms` is the data time of the last fit: a good one, or one
    without a result after which older states serve on.

    `is_serving` is set once a model has its first state, while others may still be fitted, and `is_fitted` at the
    end of that fit. `wants_refit` is set while history is thin and has doubled since the last fit; `is_fitting` and
    `is_inferring` while such a job runs: there is at most one of each. A failed job is tried again at its
    retry time (wall time) or at the next tick, whichever is first.
    """

    fit_at_ms: int | None = None
    fit_tick_ms: int | None = None
    fit_retry_ms: int | None = None
    is_fitted: bool = False
    is_serving: bool = False
    is_fitting: bool = False
    wants_refit: bool = False
    # Data time of a fit that was done before and whose state is lost: it is done again, and nothing is left out.
    lost_fit_at_ms: int | None = None
    infer_tick_ms: int | None = None
    infer_retry_ms: int | None = None
    is_inferring: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """Work to do now: a fit on the window that ends at `at_ms`, or inference of all points up to it."""

    kind: Literal["fit", "infer"]
    at_ms: int
    tick_ms: int


def due(schedule: Schedule, pace: Pace, progress: Progress, now_ms: int) -> list[Job]:
    """Jobs of one query that should start now, inference before the fit.

    A fit belongs to data time: a late one has the window it would have had on time, and of several missed ones only
    the newest is done. An unfitted query tries at every tick. Missed ticks are one inference job.
    """
    tick = now_ms - pace.settle_ms - pace.delay_ms - _into_tick_ms(schedule, pace, now_ms)
    jobs = []
    may_infer = _is_new(tick, progress.infer_tick_ms, schedule) or _is_time(progress.infer_retry_ms, now_ms)
    if (progress.is_fitted or progress.is_serving) and not progress.is_inferring and may_infer:
        jobs.append(Job("infer", pace.data_ms(tick), tick))
    may_fit = _is_new(tick, progress.fit_tick_ms, schedule) or _is_time(progress.fit_retry_ms, now_ms)
    if not progress.is_fitting and may_fit and (at_ms := _fit_due(schedule, pace, progress, tick)) is not None:
        jobs.append(Job("fit", at_ms, tick))
    return jobs


def _into_tick_ms(schedule: Schedule, pace: Pace, now_ms: int) -> int:
    return (now_ms - pace.settle_ms - pace.delay_ms - schedule.start_ms) % schedule.infer_every_ms


def _is_new(tick_ms: int, last_ms: int | None, schedule: Schedule) -> bool:
    """A tick not yet done; one far in the future was done before the clock was set back."""
    return last_ms is None or tick_ms > last_ms or last_ms > tick_ms + 10 * schedule.infer_every_ms


def _is_time(retry_ms: int | None, now_ms: int) -> bool:
    return retry_ms is not None and now_ms >= retry_ms


def _fit_due(schedule: Schedule, pace: Pace, progress: Progress, tick_ms: int) -> int | None:
    """Data time of the fit that is due, None where none is."""
    if progress.lost_fit_at_ms is not None:
        return progress.lost_fit_at_ms
    if tick_ms < schedule.start_ms:
        return None
    if not progress.is_fitted or progress.wants_refit:
        return pace.data_ms(tick_ms)
    at_ms = pace.data_ms(schedule.start_ms + align_down(tick_ms - schedule.start_ms, schedule.fit_every_ms))
    return at_ms if progress.fit_at_ms is None or at_ms > progress.fit_at_ms else None


def next_wake_ms(schedule: Schedule, pace: Pace, progress: Progress, now_ms: int) -> int:
    """Wall time at which `due` may next have something to say that it did not say now."""
    into = _into_tick_ms(schedule, pace, now_ms)
    retries = (progress.fit_retry_ms, progress.infer_retry_ms)
    return min([now_ms + schedule.infer_every_ms - into, *(r for r in retries if r is not None and r > now_ms)])
