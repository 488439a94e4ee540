"""One job of one query: the straight line from fetch to write, and the one place that isolates failures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from engine.admission import Admission
from engine.disk.codec import Record
from engine.errors import ModelError, ReadError
from engine.fitting import GroupFit, Tally, WindowStore
from engine.frame import Frame, Query, Samples, Window, align_down, pack
from engine.group import NEVER, Group
from engine.metrics import Metrics
from engine.pool import Pool
from engine.reader.base import Reader
from engine.saving import Saver
from engine.series import SeriesTable
from engine.writer.base import Writer

log = logging.getLogger("scheduler")

# A series this far behind the newest is waited for; Prometheus, too, calls a series stale after five minutes.
_LAG_MS = 5 * 60_000
# A series without a point in the last one of so many parts of the fit window is stale.
_STALE_PART = 10
_PROGRESS_S = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one scheduler's jobs.

    Parameters
    ----------
    max_lookback_ms : how far back missed points are made up; `catches_up` false reads one interval only.
    waits_for_late : a late series is waited for until it would not be fitted any more, not just five minutes.
    """

    fit_window_ms: int
    infer_every_ms: int
    max_lookback_ms: int
    catches_up: bool = True
    waits_for_late: bool = False
    memory_budget_bytes: int = 1 << 30
    data_folder: str | None = None


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a fit went: some models, all models; `n_points` of the fullest series, of `n_steps` in the window.

    `oldest_ms` is the data time of the oldest fit that any model serves, None where all are of now.
    """

    is_fitted: bool
    is_complete: bool = False
    n_points: int = 0
    n_steps: int = 0
    oldest_ms: int | None = None


class Unit:
    """One (scheduler, query): each fetch serves all models on it.

    `fit` and `infer` take data times, so that live runs and replays of the past are the same code.
    """

    def __init__(
        self,
        scheduler_alias: str,
        query: Query,
        groups: Sequence[Group],
        limits: Limits,
        reader: Reader,
        writer: Writer,
        pool: Pool,
        metrics: Metrics,
        is_stopping: Callable[[], bool] = lambda: False,
        savers: Mapping[Group, Saver] | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.query = query
        self.groups = tuple(groups)
        self._savers = savers or {}
        self._admission = admission
        # What was scored is handed to the writer before state that has consumed it is committed.
        self._commits = threading.Lock()
        self._fitted_at_ms: dict[Group, int] = {}
        self._scheduler_alias = scheduler_alias
        self.limits = limits
        self._reader = reader
        self._writer = writer
        self._pool = pool
        self._metrics = metrics
        self._is_stopping = is_stopping
        self._inferred_to_ms: int | None = None
        self._is_carried = False
        self._n_points = 0, 0

    def restore(self, carried: Mapping[str, Record]) -> int | None:
        """Give groups their state, carried or from disk; data time of the oldest fit, None unless all have one.

        Parameters
        ----------
        carried : from the same process, by identity.
        """
        table = self._reader.table(self.query)
        for group, saver in self._savers.items():
            facts = saver.restore(table, carried.get(saver.identity))
            if facts is not None:
                self._fitted_at_ms[group] = facts["at_ms"]
                self._n_points = facts.get("n_points", 0), facts.get("n_steps", 0)
        return min(self._fitted_at_ms.values()) if len(self._fitted_at_ms) == len(self.groups) else None

    def carry(self, ttl_ms: int | None = None) -> dict[str, Record]:
        """The state of all groups by identity; nothing that is still under way changes or writes anything after.

        Parameters
        ----------
        ttl_ms : series whose last point is older than the newest one by more than this are left out.
        """
        with self._commits:
            self._is_carried = True
            records = {saver.identity: saver.carry(ttl_ms) for saver in self._savers.values()}
        return {identity: record for identity, record in records.items() if record is not None}

    def fullness(self) -> tuple[int, int]:
        """Points of the fullest series in the window of the last fit, and its steps."""
        return self._n_points

    def fits_ms(self) -> list[int]:
        """Data time of each group's fit, of those that have one."""
        return list(self._fitted_at_ms.values())

    def n_stale(self, ttl_ms: int) -> int:
        """Series of all groups that `carry` would leave out."""
        return sum(group.seen.n_before(group.seen.newest_ms() - ttl_ms) for group in self.groups)

    def lost_at_ms(self) -> int | None:
        """Data time of the oldest fit whose state was there and could not be used."""
        return min((s.lost_at_ms for s in self._savers.values() if s.lost_at_ms is not None), default=None)

    def fit(self, at_ms: int, on_ready: Callable[[], None] = lambda: None) -> FitResult:
        """Fit all models on the window that ends at `at_ms`; the old states serve until the new ones are ready.

        Where some models have a restored state, the first fit is that of the others alone.

        Parameters
        ----------
        on_ready : called whenever a model has its new state and others are still to be fitted.

        Raises
        ------
        ReadError : the window could not be read; nothing has changed.
        """
        step_ms = self.query.step_ms
        start_ms = -align_down(-(at_ms - self.limits.fit_window_ms), step_ms)
        window = Window(start_ms, at_ms, step_ms)
        groups = [group for group in self.groups if group not in self._fitted_at_ms] or self.groups
        try:
            return self._fit(window, groups, on_ready)
        finally:
            for group in groups:
                group.end_fit()

    def _fit(self, window: Window, groups: Sequence[Group], on_ready: Callable[[], None]) -> FitResult:
        fits = [GroupFit(g, window, self.limits.infer_every_ms, self._pool, self._metrics) for g in groups]
        # Those that have learned the window once it is read wait for no other.
        fits.sort(key=lambda each: each.model.fit_by == "rows")
        by_rows = [f for f in fits if f.model.fit_by == "rows"]
        budget = self.limits.memory_budget_bytes, self.limits.data_folder
        store = WindowStore(window, self.query.tz, *budget) if by_rows else None
        tally = Tally()
        for frame in self._gather(window):
            tally.add(frame)
            if store is not None:
                store.add(frame)
            for each in fits:
                each.add(frame)
        is_recent = tally.last_ms >= window.end_ms - self.limits.fit_window_ms // _STALE_PART
        keep = tally.series[is_recent]
        self._report_left_out(int(tally.series.size - keep.size))
        if keep.size == 0:
            self._report_empty("No data", window, "fit")
            return FitResult(is_fitted=False)
        n_valid, n_points = int(tally.counts[is_recent].sum()), int(tally.counts[is_recent].max())
        self._n_points = n_points, window.n_steps
        done = []

        def hand_over(each: GroupFit) -> None:
            done.append(self._hand_over(each, window, n_valid, keep.size * window.n_steps))
            if done[-1] and len(done) < len(fits):
                on_ready()

        late = [each for each in fits if each.learned_later_ms > window.end_ms]
        for each in fits:
            each.finish(keep, store)
            if each not in late:
                hand_over(each)
        if late:
            later_ms = max(each.learned_later_ms for each in late)
            for frame in self._gather(Window(window.end_ms + window.step_ms, later_ms, window.step_ms)):
                for each in late:
                    each.make_up(frame)
            for each in late:
                hand_over(each)
        return FitResult(any(done), all(done), n_points, window.n_steps, min(self._fitted_at_ms.values()))

    def _hand_over(self, fit: GroupFit, window: Window, n_valid: int, n_points: int) -> bool:
        with self._commits:
            self._leave_if_stopping()
            is_fitted = fit.hand_over(n_valid, n_points)
            self._fitted_at_ms[fit.group] = window.end_ms
            if is_fitted and fit.group in self._savers:
                n_points, n_steps = self._n_points
                self._savers[fit.group].save({"at_ms": window.end_ms, "n_points": n_points, "n_steps": n_steps})
        return is_fitted

    def _gather(self, window: Window) -> Iterator[Frame]:
        reported = time.monotonic()
        for piece, samples in self._reader.read(self.query, window, self._scheduler_alias):
            self._leave_if_stopping()
            frame = self._place(samples, piece)
            del samples  # the next piece needs its room
            yield frame
            del frame
            if time.monotonic() - reported > _PROGRESS_S:
                reported = time.monotonic()
                share = 100 * (piece.end_ms - window.start_ms) / max(1, window.end_ms - window.start_ms)
                log.info("[Scheduler %s] fit of query %r: %.0f %% of the window read",
                         self._scheduler_alias, self.query.alias, share)  # fmt: skip

    def infer(self, at_ms: int) -> int:
        """Score and write all points up to `at_ms` that were not scored before.

        Returns
        -------
        The most points that a series had after the newest that was known.

        Raises
        ------
        ReadError : the points could not be read; those read before were written, the rest is made up later.
        """
        newest_ms = max(group.seen.newest_ms() for group in self.groups)
        window = Window(self._unseen_from(at_ms), at_ms, self.query.step_ms)
        if window.n_steps == 0:
            return 0
        table = self._reader.table(self.query)
        idle = set(self.groups)
        n_points = n_new = 0
        for piece, samples in self._reader.read(self.query, window, self._scheduler_alias):
            frame = self._place(samples, piece)
            if frame.series.size == 0:
                continue
            finite = np.isfinite(frame.values)
            n_points += int(np.count_nonzero(finite))
            n_new += int(finite[:, frame.timestamps_ms > newest_ms].sum(axis=1).max())
            idle -= {group for group in self.groups if self._infer(group, frame, table)}
        if at_ms == self._inferred_to_ms:
            return n_new  # a tick within a step looks for late series: to find none is no skip
        if len(idle) == len(self.groups):
            self._report_empty("No unseen data" if n_points else "No data", window, "infer")
        else:
            for group in idle:
                self._metrics.skipped.labels(stage="infer", **group.names).inc()
        if n_points:
            self._inferred_to_ms = at_ms
            self._report_missed(newest_ms, window.start_ms)
        return n_new

    def _infer(self, group: Group, frame: Frame, table: SeriesTable) -> bool:
        """Score, write and commit a frame; false where there was nothing to do."""
        with self._commits:
            if self._is_carried:
                self._leave_if_stopping()
            is_done = True
            try:
                batches = group.infer(frame, table)
                is_done = bool(batches)
            except ModelError as err:
                self._leave_if_stopping()
                log.error("[Scheduler %s] Error during stage infer: %s", self._scheduler_alias, err)
                self._metrics.run_errors.labels(stage="infer", **group.names).inc()
                batches = []
            for batch in batches:
                self._writer.submit(batch)
            if group in self._savers:
                self._savers[group].commit()
        return is_done

    def _leave_if_stopping(self) -> None:
        """What a stop cuts short is no failure of a model."""
        if self._is_carried or self._is_stopping():
            raise ReadError("stopped", "io_error")

    def _place(self, samples: Samples, piece: Window) -> Frame:
        started = time.perf_counter()
        frame = pack(samples, piece, self.query.tz)
        self._reader.placed(self.query, self._scheduler_alias, time.perf_counter() - started)
        if self._admission is None:
            return frame
        frame = self._admission.admit(frame)
        names = {name: self.groups[0].names[name] for name in ("query_key", "scheduler_alias", "preset")}
        self._metrics.not_taken.labels(**names).set(self._admission.n_refused)
        return frame

    def _unseen_from(self, at_ms: int) -> int:
        """Data time from which an inference reads: after the last point of the slowest live series, within bounds."""
        step_ms, limits = self.query.step_ms, self.limits
        if not limits.catches_up:
            return align_down(at_ms - limits.infer_every_ms, step_ms) + step_ms
        lag_ms = max(_LAG_MS, step_ms, limits.fit_window_ms // _STALE_PART if limits.waits_for_late else 0)
        starts = [t for g in self.groups if (t := g.seen.slowest_ms(min(lag_ms, limits.max_lookback_ms))) is not None]
        start_ms = min(starts, default=align_down(at_ms - limits.infer_every_ms, step_ms)) + step_ms
        bound_ms = align_down(at_ms - max(limits.max_lookback_ms, limits.infer_every_ms, step_ms), step_ms) + step_ms
        return max(start_ms, bound_ms)

    def _report_missed(self, newest_ms: int, start_ms: int) -> None:
        if self.limits.catches_up and NEVER < newest_ms < start_ms - self.query.step_ms:
            log.warning(
                "[Scheduler %s] query %r: points from %s to %s were missed and are too old to be made up "
                "(reader.query_last_seen_max_lookback)",
                *(self._scheduler_alias, self.query.alias),
                *(_text(newest_ms + self.query.step_ms), _text(start_ms - self.query.step_ms)),
            )

    def _report_left_out(self, n_stale: int) -> None:
        if n_stale:
            message = "[Scheduler %s] query %r: %d series without a point in the last tenth of the fit window left out"
            log.info(message, self._scheduler_alias, self.query.alias, n_stale)
            for group in self.groups:
                self._metrics.series_skipped.labels(stage="fit", reason="stale", **group.names).inc(n_stale)

    def _report_empty(self, what: str, window: Window, stage: str) -> None:
        log.warning("[Scheduler %s] %s for query_key %r from %s to %s (%d to %d)", self._scheduler_alias, what,
                    self.query.alias, _text(window.start_ms), _text(window.end_ms),
                    window.start_ms // 1000, window.end_ms // 1000)  # fmt: skip
        for group in self.groups:
            self._metrics.skipped.labels(stage=stage, **group.names).inc()


def _text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()
