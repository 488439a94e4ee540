"""The live loop of one scheduler: wait, ask the plan, run jobs beside each other, survive what they do."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from engine.disk.codec import Record
from engine.errors import EngineError
from engine.metrics import Metrics
from engine.pipeline import Unit
from engine.scheduler.plan import Job, Pace, Progress, Schedule, due, next_wake_ms

log = logging.getLogger("scheduler")

# The loop looks at the clock at least this often, so that a clock that is set does not make it oversleep.
_POLL_S = 1.0
# How long the first fit of all waits for the first scores of the models that are ready.
_FIRST_SCORES_S = 3.0
_RETRY_FIRST_MS = 5_000
_RETRY_LAST_MS = 60_000
# A loop that fails is begun again so many times, after pauses that double; then it stays dead and is reported so.
_RESTARTS = 5
_RESTART_S = 1.0
# A job that runs longer than this, and than some intervals, is told with the place where it is.
_STUCK_S = {"infer": 60.0, "fit": 600.0}
_STUCK_INTERVALS = {"infer": 3, "fit": 10}
# A fit that is stopped has no result to wait for: it is given the time to see the stop between two pieces.
_FIT_STOP_S = 0.5
# History is thin while less than this share of the fit window holds points, or too little for one of the models:
# then it is fitted again each time its points have doubled.
_THIN = 0.1


def now_ms() -> int:
    """Wall clock in Unix milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass
class Task:
    """One unit on its way through time; `n_fitted` and `n_new` count points of its fullest series."""

    unit: Unit
    pace: Pace
    progress: Progress = field(default_factory=Progress)
    n_fitted: int = 0
    n_new: int = 0
    is_thin: bool = False
    n_failures: dict[str, int] = field(default_factory=lambda: {"fit": 0, "infer": 0})


def go_on(task: Task) -> None:
    """Book a unit that goes on from the state of another process, or of another configuration."""
    n_points, n_steps = task.unit.fullness()
    task.n_fitted, task.is_thin = n_points, n_points < _THIN * n_steps


def run_job(
    task: Task,
    job: Job,
    clock: Callable[[], int] = now_ms,
    is_stopping: Callable[[], bool] = lambda: False,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Run one job to its end and book it; a failure is logged and booked, never raised.

    What a stop cut short is no failure.

    Parameters
    ----------
    on_ready : called whenever a fit has given a model its state and goes on with others.
    """
    progress, query = task.progress, task.unit.query
    try:
        if job.kind == "fit":
            _fit(task, job, on_ready)
            progress.fit_retry_ms = None
        else:
            task.n_new += task.unit.infer(job.at_ms)
            progress.wants_refit = task.is_thin and task.n_new >= task.n_fitted
            progress.infer_retry_ms = None
        task.n_failures[job.kind] = 0
    except Exception as err:  # the loop must outlive whatever a job does
        if is_stopping():
            return
        expected = isinstance(err, EngineError)
        backoff_ms = _RETRY_FIRST_MS << min(task.n_failures[job.kind], 6)
        wait_ms = min(backoff_ms, _RETRY_LAST_MS, task.unit.limits.infer_every_ms)
        task.n_failures[job.kind] += 1
        if job.kind == "fit":
            progress.fit_retry_ms = clock() + wait_ms
        else:
            progress.infer_retry_ms = clock() + wait_ms
        log.log(logging.WARNING if expected else logging.ERROR, "%s of query %r failed: %s; next try in %.0f s",
                job.kind, query.alias, err, wait_ms / 1000, exc_info=not expected)  # fmt: skip


def _fit(task: Task, job: Job, on_ready: Callable[[], None]) -> None:
    result = task.unit.fit(job.at_ms, on_ready)
    task.progress.lost_fit_at_ms = None
    if result.is_fitted:
        if not task.progress.is_fitted:  # models that became ready after the first one score at once, too
            task.progress.infer_tick_ms = None
        task.progress.is_fitted = True
        task.progress.fit_at_ms = job.at_ms if result.oldest_ms is None else result.oldest_ms
        task.n_fitted, task.n_new = result.n_points, 0
        task.is_thin = not result.is_complete or result.n_points < _THIN * result.n_steps
        task.progress.wants_refit = False
    elif all(group.state is not None for group in task.unit.groups):  # these go on; the same window says the same
        task.progress.fit_at_ms = job.at_ms
        task.n_fitted, task.n_new = task.n_fitted + task.n_new, 0
        task.progress.wants_refit = False


def start_job(task: Task, job: Job) -> None:
    """Book a job as running."""
    progress = task.progress
    if job.kind == "fit":
        progress.is_fitting, progress.fit_tick_ms, progress.fit_retry_ms = True, job.tick_ms, None
    else:
        progress.is_inferring, progress.infer_tick_ms, progress.infer_retry_ms = True, job.tick_ms, None


def end_job(task: Task, job: Job) -> None:
    """Book a job as ended."""
    if job.kind == "fit":
        task.progress.is_fitting = False
    else:
        task.progress.is_inferring = False


def replay(schedule: Schedule, tasks: Sequence[Task], start_ms: int, end_ms: int) -> None:
    """Run all jobs of a span of wall time one after the other, as fast as they go.

    The jobs are those that a live run would have had, each at the moment it was due.
    """
    now = start_ms
    while now <= end_ms:
        for task in tasks:
            for job in due(schedule, task.pace, task.progress, now):
                start_job(task, job)
                run_job(task, job, clock=lambda: now)  # noqa: B023 - called before `now` moves on
                end_job(task, job)
        now = min(next_wake_ms(schedule, task.pace, task.progress, now) for task in tasks)


class PeriodicScheduler:
    """Runs one scheduler's jobs on threads of its own until it is stopped.

    Inference runs up to `workers` queries beside each other, fits one after the other beside inference. A job
    that is late or fails holds up neither other queries nor other schedulers.
    """

    def __init__(
        self,
        alias: str,
        preset: str,
        schedule: Schedule,
        tasks: Sequence[Task],
        workers: int,
        metrics: Metrics,
        clock: Callable[[], int] = now_ms,
        after_job: Callable[[], None] = lambda: None,
    ) -> None:
        self.alias = alias
        self._schedule = schedule
        self._tasks = tuple(tasks)
        self._clock = clock
        self._after_job = after_job
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._has_served = False
        self._alive = metrics.scheduler_alive.labels(alias, preset)
        self._alive.set(0)
        self._restarts = {s: metrics.scheduler_restarts.labels(alias, preset, s) for s in ("success", "failure")}
        self._running: dict[str, set[Future[None]]] = {"fit": set(), "infer": set()}
        # By thread what it does, since when, and how long that may take; the loop's own entry begins anew at each look.
        self._busy: dict[int, tuple[str, float, float]] = {}
        self._longest = metrics.longest_job.labels(alias, preset)
        self._infers = ThreadPoolExecutor(max(1, workers), thread_name_prefix=f"infer-{alias}")
        self._fits = ThreadPoolExecutor(1, thread_name_prefix=f"fit-{alias}")
        self._thread = threading.Thread(target=self._run, name=f"scheduler-{alias}", daemon=True)

    def start(self) -> None:
        """Begin; the first fit follows at once unless `start_from` says later."""
        self._thread.start()

    def stop(self) -> None:
        """Start no more jobs; those that wait are dropped, those that run see it at their next piece."""
        self._stopping.set()
        self._wake.set()
        self._infers.shutdown(wait=False, cancel_futures=True)
        self._fits.shutdown(wait=False, cancel_futures=True)

    def carry(self, ttl_ms: int | None = None) -> dict[str, Record]:
        """The state of all groups by identity; what is still under way has no effect any more.

        Parameters
        ----------
        ttl_ms : series without a point for so long are left out.
        """
        return {identity: record for task in self._tasks for identity, record in task.unit.carry(ttl_ms).items()}

    def is_fitting(self) -> bool:
        """Whether a fit runs or waits to."""
        return any(task.progress.is_fitting for task in self._tasks)

    def n_stale(self, ttl_ms: int) -> int:
        """Series that `carry` would leave out."""
        return sum(task.unit.n_stale(ttl_ms) for task in self._tasks)

    def join(self, timeout_s: float) -> bool:
        """Wait until the loop and all jobs have ended, for a fit only a moment; false when the time was over first."""
        deadline = time.monotonic() + timeout_s
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        left = [wait(set(self._running["infer"]), max(0.0, deadline - time.monotonic())).not_done]
        left += [wait(set(self._running["fit"]), min(_FIT_STOP_S, max(0.0, deadline - time.monotonic()))).not_done]
        return not any(left)

    def stuck(self) -> list[str]:
        """What takes much longer than it should, each with the place where its thread is; each is told once."""
        now, found = time.monotonic(), []
        busy = list(self._busy.items())
        self._longest.set(max((now - since for _, (_, since, _) in busy), default=0.0))
        for thread, (what, since, limit_s) in busy:
            frame = sys._current_frames().get(thread)
            if now - since > limit_s and frame is not None and thread in self._busy:
                self._busy[thread] = what, since, float("inf")
                place = "".join(traceback.format_stack(frame)[-4:]).rstrip()
                found.append(f"[Scheduler {self.alias}] {what} has been running for {now - since:.0f} s:\n{place}")
        return found

    def _run(self) -> None:
        for n_failures in range(_RESTARTS + 1):
            self._alive.set(1)
            try:
                self._loop()
                return
            except Exception as err:
                if self._stopping.is_set():  # the executors refuse jobs from then on
                    return
                log.error("[Scheduler %s] the loop failed: %s", self.alias, err, exc_info=True)
            finally:
                self._alive.set(0)
            if n_failures < _RESTARTS and self._stopping.wait(_RESTART_S * 2**n_failures):
                return
            self._restarts["success" if n_failures < _RESTARTS else "failure"].inc()
        log.critical("[Scheduler %s] given up after %d restarts: it runs no more", self.alias, _RESTARTS)

    def _loop(self) -> None:
        own = threading.get_ident()
        while not self._stopping.is_set():
            self._busy[own] = "the loop", time.monotonic(), _STUCK_S["infer"]
            now = self._clock()
            for task in self._tasks:
                for job in due(self._schedule, task.pace, task.progress, now):
                    self._submit(task, job)
            self._busy.pop(own, None)
            wake = min(next_wake_ms(self._schedule, t.pace, t.progress, now) for t in self._tasks)
            self._wake.wait(min(_POLL_S, max(0.001, (wake - self._clock()) / 1000)))
            self._wake.clear()

    def _submit(self, task: Task, job: Job) -> None:
        start_job(task, job)
        try:
            future = (self._fits if job.kind == "fit" else self._infers).submit(self._job, task, job)
        except RuntimeError:  # stopping, or the system has no more threads
            end_job(task, job)
            raise
        self._running[job.kind].add(future)
        future.add_done_callback(self._running[job.kind].discard)

    def _serve(self, task: Task) -> None:
        """Let a model that is ready score while others of its query are still fitted.

        The first of all scores before the next one is fitted: without compiled kernels that fit may compile for many
        seconds, and numba compiles one kernel at a time, so what a first score needs would come after all of it.
        """
        progress = task.progress
        if progress.is_fitted or progress.is_serving:
            return
        progress.is_serving = True
        self._wake.set()
        deadline = time.monotonic() + (0.0 if self._has_served else _FIRST_SCORES_S)
        self._has_served = True
        while (progress.is_inferring or progress.infer_tick_ms is None) and time.monotonic() < deadline:
            if self._stopping.wait(0.01):
                return

    def _job(self, task: Task, job: Job) -> None:
        own, limit_s = threading.get_ident(), _STUCK_INTERVALS[job.kind] * self._schedule.infer_every_ms / 1000
        what = f"{job.kind} of query {task.unit.query.alias!r}"
        self._busy[own] = what, time.monotonic(), max(_STUCK_S[job.kind], limit_s)
        try:
            if not self._stopping.is_set():
                run_job(task, job, self._clock, self._stopping.is_set, lambda: self._serve(task))
        finally:
            self._busy.pop(own, None)
            end_job(task, job)
        self._after_job()
        if job.kind == "fit":  # the first inference follows at once; all else the loop sees at its next look
            self._wake.set()
