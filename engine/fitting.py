"""One fit: the window's pieces as they arrive, folded or gathered as each model asks, with memory bounded."""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import ModelError
from engine.frame import F64, I64, Frame, State, Window, align_down, find
from engine.group import NEVER, Group, reason
from engine.metrics import Metrics
from engine.models.base import Model, align, fit_rows, infer, learn
from engine.pool import Pool

log = logging.getLogger("model")

# Rows that are gathered into one contiguous block at a time.
_BLOCK_ROWS = 1024


class Tally:
    """By series number: how many finite points a window had, and when the last one was."""

    def __init__(self) -> None:
        self.series: I64 = np.empty(0, dtype=np.int64)
        self.counts: I64 = np.empty(0, dtype=np.int64)
        self.last_ms: I64 = np.empty(0, dtype=np.int64)

    def add(self, frame: Frame) -> None:
        """Count a piece that is later than all before."""
        new = np.setdiff1d(frame.series, self.series, assume_unique=True)
        if new.size:
            self.series = np.concatenate([self.series, new])
            self.counts = np.concatenate([self.counts, np.zeros(new.size, dtype=np.int64)])
            self.last_ms = np.concatenate([self.last_ms, np.zeros(new.size, dtype=np.int64)])
        finite = np.isfinite(frame.values)
        rows = find(self.series, frame.series)
        if finite.all():  # as most pieces are
            self.counts[rows] += frame.timestamps_ms.size
            self.last_ms[rows] = frame.timestamps_ms[-1]
            return
        self.counts[rows] += finite.sum(axis=1)
        last = frame.timestamps_ms.size - 1 - np.argmax(finite[:, ::-1], axis=1)
        present = finite.any(axis=1)
        self.last_ms[rows[present]] = frame.timestamps_ms[last[present]]


class WindowStore:
    """The whole window of all series, for models that fit by rows.

    Series that appear in later pieces get further segments of rows, so nothing is copied. Above the memory budget
    segments live in a temporary file that has no name: it goes with the process, however that ends.

    Parameters
    ----------
    folder : where the temporary file is made; None is the system's.
    """

    def __init__(self, window: Window, tz: str, budget_bytes: int, folder: str | None = None) -> None:
        self._window = window
        self._tz = tz
        self._budget_bytes = budget_bytes
        self._folder = folder
        self._segments: list[tuple[I64, F64]] = []
        self._error: str | None = None

    def add(self, frame: Frame) -> None:
        """Place a piece of the window. Where there is no room, `blocks` says so."""
        if self._error is None:
            try:
                self._place(frame)
            except (OSError, MemoryError) as err:
                self._segments.clear()
                self._error = f"no room for the fit window: {err}"

    def _place(self, frame: Frame) -> None:
        known = [series for series, _ in self._segments]
        new = np.setdiff1d(frame.series, np.concatenate([np.empty(0, np.int64), *known]), assume_unique=True)
        if new.size:
            self._segments.append((new, self._allocate(new.size)))
        first = int(frame.timestamps_ms[0] - self._window.start_ms) // self._window.step_ms
        for series, values in self._segments:
            rows = find(frame.series, series)
            values[rows >= 0, first : first + frame.timestamps_ms.size] = frame.values[rows[rows >= 0]]

    def blocks(self, keep: I64, until_ms: int) -> Iterator[Frame]:
        """Frames of distinct rows, the kept series only, up to `until_ms`.

        Raises
        ------
        ModelError : neither memory nor disk had room for the window.
        """
        if self._error is not None:
            raise ModelError(self._error)
        timestamps_ms = self._window.timestamps_ms()
        n_steps = int(np.searchsorted(timestamps_ms, until_ms, side="right"))
        for series, values in self._segments:
            rows = np.flatnonzero(np.isin(series, keep))
            for block in np.array_split(rows, max(1, math.ceil(rows.size / _BLOCK_ROWS))):
                if block.size:
                    tile = np.ascontiguousarray(values[block, :n_steps])
                    yield Frame(series[block], timestamps_ms[:n_steps], tile, self._window.step_ms, self._tz)

    def gather(self, series: I64, until_ms: int) -> Frame:
        """One frame of some series, in any order, up to `until_ms`.

        Raises
        ------
        ModelError : neither memory nor disk had room for the window.
        """
        blocks = list(self.blocks(series, until_ms))
        values = blocks[0].values if len(blocks) == 1 else np.concatenate([block.values for block in blocks])
        return replace(blocks[0], series=np.concatenate([block.series for block in blocks]), values=values)

    def _allocate(self, n_rows: int) -> F64:
        shape = (n_rows, self._window.n_steps)
        used = sum(values.nbytes for _, values in self._segments)
        if used + 8 * math.prod(shape) <= self._budget_bytes:
            return np.full(shape, np.nan)
        log.info("fit window of %d series goes to a temporary file: settings.memory_budget is reached", n_rows)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            # A mapped page that finds the disk full would end the process.
            os.posix_fallocate(file.fileno(), 0, 8 * math.prod(shape))
            mapped: NDArray[Any] = np.memmap(file, dtype=np.float64, mode="w+", shape=shape)
        mapped[:] = np.nan
        return mapped


class GroupFit:
    """A new state of one group in the making.

    A group without a state learns up to one interval before the window's end if its model is online (half the window
    if that is shorter): the newest interval is then scored before it is learned, as it would have been live. Offline
    models learn it all. Whatever a model does is its own failure; other models of the query are fitted.
    """

    def __init__(self, group: Group, window: Window, infer_every_ms: int, pool: Pool, metrics: Metrics) -> None:
        self.group = group
        is_first = group.state is None
        held_back_ms = min(infer_every_ms, (window.end_ms - window.start_ms) // 2) if is_first else 0
        self._seen_to_ms = align_down(window.end_ms - held_back_ms, window.step_ms)
        self._learn_to_ms = self._seen_to_ms if group.model.is_online else window.end_ms
        self._pool = pool
        self._metrics = metrics
        self._labels = {"stage": "fit", **group.names}
        self._state: State | None = None
        self._error: str | None = None
        self._seconds = 0.0
        self._seen = group.begin_fit()

    @property
    def model(self) -> Model:
        return self.group.model

    @property
    def learned_later_ms(self) -> int:
        """Up to when the old state learned before this fit began, `NEVER` for none; `make_up` wants points to there."""
        return self._seen.newest_ms() if self.model.is_online and self.group.state is not None else NEVER

    def add(self, frame: Frame) -> None:
        """Fold a piece into the state, for models that fit by time."""
        if self.model.fit_by != "time":
            return
        n_steps = int(np.searchsorted(frame.timestamps_ms, self._learn_to_ms, side="right"))
        if n_steps == 0:
            return
        if n_steps < frame.timestamps_ms.size:
            values = np.ascontiguousarray(frame.values[:, :n_steps])
            frame = Frame(frame.series, frame.timestamps_ms[:n_steps], values, frame.step_ms, frame.tz)
        state = self._state and replace(self._state, is_given=True)
        self._run(lambda: learn(self.model, state, frame, self._pool))

    def finish(self, keep: I64, store: WindowStore | None) -> None:
        """End the fit with the series to keep."""
        self._run(lambda: self._result(keep, store))

    def make_up(self, frame: Frame) -> None:
        """Learn points after the window that the old state learned before this fit began."""
        state = self._state
        if self.model.is_online and state is not None:
            seen = self._seen.get(frame.series)
            values = np.where(frame.timestamps_ms <= seen[:, None], frame.values, np.nan)
            frame = self.group.arrange(replace(frame, values=values))
            self._run(lambda: infer(self.model, *align(self.model, state, frame), self._pool)[1])

    def _run(self, step: Callable[[], State | None]) -> None:
        if self._error is not None:
            return
        started = time.perf_counter()
        try:
            self._state = step()
        except Exception as err:  # noqa: BLE001 - reported by `hand_over`
            self._state, self._error = None, reason(err)
        self._seconds += time.perf_counter() - started

    def hand_over(self, n_valid: int, n_points: int) -> bool:
        """Give the state to the group; false where there is none, which is logged and counted."""
        self._run(self._adopted)
        state = self._state
        if state is None:
            self._give_up()
            return False
        names = [self._labels[name] for name in ("model_alias", "query_key")]
        log.info(
            "[Scheduler %s] Fitting on %d/%d valid datapoints: model %r, query %r, %d series in %.2f s",
            *(self._labels["scheduler_alias"], n_valid, n_points, *names, state.series.size, self._seconds),
        )
        self._metrics.runs.labels(**self._labels).inc()
        self._metrics.run_seconds.labels(**self._labels).observe(self._seconds)
        self._metrics.accepted.labels(**self._labels).inc(n_valid)
        return True

    def _adopted(self) -> State | None:
        if self._state is not None:
            self.group.adopt(self._state, self._seen_to_ms)
        return self._state

    def _result(self, keep: I64, store: WindowStore | None) -> State | None:
        if self.model.fit_by == "time":
            if self._state is None:
                return None
            rows = np.flatnonzero(np.isin(self._state.series, keep))
            state = self.model.finish(self._state if rows.size == self._state.series.size else self._state.take(rows))
        elif store is None:
            return None
        else:
            state = fit_rows(self.model, self._blocks(keep, store), self._pool, keep.size)
            unfit = self._metrics.series_skipped.labels(reason="unfit", **self._labels)
            unfit.inc(max(0, keep.size - state.series.size))
        return state if state.series.size else None

    def _blocks(self, keep: I64, store: WindowStore) -> Iterator[Frame]:
        parts = self.group.cut(keep)
        if parts is None:
            return store.blocks(keep, self._learn_to_ms)
        return (self.group.arrange(store.gather(part, self._learn_to_ms)) for part in parts)

    def _give_up(self) -> None:
        """A failed fit leaves the old state in service."""
        names = [self._labels[name] for name in ("scheduler_alias", "model_alias", "query_key")]
        if self._error is None:
            self._metrics.skipped.labels(**self._labels).inc()
            log.warning("[Scheduler %s] Skipping run for stage fit: model %r, query %r: too few points", *names)
        else:
            self._metrics.run_errors.labels(**self._labels).inc()
            message = "[Scheduler %s] Error during stage fit: model %r, query %r: %s; the previous state goes on"
            log.error(message, *names, self._error)
