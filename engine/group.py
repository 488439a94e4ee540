"""One group: a model on a query in a scheduler, its fitted state, and what it has seen."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine import score
from engine.errors import ModelError
from engine.frame import F64, I64, Batch, Frame, Output, Prediction, Query, State
from engine.metrics import Metrics
from engine.models.base import Model, align, infer
from engine.pool import Pool
from engine.score import Policy
from engine.series import SeriesTable

log = logging.getLogger("model")

NEVER = np.iinfo(np.int64).min


class SeenTimes:
    """By series number the data time up to which a series was scored; grows as series appear."""

    def __init__(self) -> None:
        self._times = np.full(0, NEVER, dtype=np.int64)

    def get(self, series: I64) -> I64:
        """(S,) times, `NEVER` for series not seen."""
        self._grow(series)
        return self._times[series]

    def raise_to(self, series: I64, times: I64 | int) -> None:
        """Remember the later of the known and the given times."""
        self._grow(series)
        self._times[series] = np.maximum(self._times[series], times)

    def newest_ms(self) -> int:
        """The latest time of all series, `NEVER` when nothing was seen."""
        return int(self._times.max(initial=NEVER))

    def slowest_ms(self, lag_ms: int) -> int | None:
        """The earliest time among series at most `lag_ms` behind the newest; None when nothing was seen."""
        times = self._times  # a fit that ends may replace it
        newest = int(times.max(initial=NEVER))
        return None if newest == NEVER else int(times[times >= newest - lag_ms].min())

    def n_before(self, time_ms: int) -> int:
        """How many series were last seen before a time."""
        times = self._times
        return int(np.count_nonzero((times < time_ms) & (times != NEVER)))

    def known(self) -> I64:
        """Series that were seen, in order."""
        return np.flatnonzero(self._times != NEVER)

    def copy(self) -> SeenTimes:
        """These times as they are now."""
        copied = SeenTimes()
        copied._times = self._times.copy()
        return copied

    def _grow(self, series: I64) -> None:
        size = int(series.max()) + 1 if series.size else 0
        if size > self._times.size:
            grown = np.full(max(size, 2 * self._times.size), NEVER, dtype=np.int64)
            grown[: self._times.size] = self._times
            self._times = grown


class Group:
    """Fitted state of one (scheduler, model, query) and its inference.

    Parameters
    ----------
    names : model_alias, scheduler_alias, preset and query_key, as metrics label them.
    writes_aliases : false for the oldest configs, whose outputs carry only the `for` label.
    """

    def __init__(
        self,
        model: Model,
        query: Query,
        policy: Policy,
        names: Mapping[str, str],
        pool: Pool,
        metrics: Metrics,
        *,
        writes_aliases: bool = True,
    ) -> None:
        self.model = model
        self.query = query
        self.policy = policy
        self.names = dict(names)
        self.state: State | None = None
        self.seen = SeenTimes()
        self._pool = pool
        self._metrics = metrics
        self._writes_aliases = writes_aliases
        self._lock = threading.Lock()
        self._meanwhile: list[Frame] | None = None
        self.fitted_to_ms = NEVER
        self.keeps_consumed = False
        self._consumed: list[Frame] = []
        metrics.models_active.labels(**self.names).set(0)

    def begin_fit(self) -> SeenTimes:
        """From now on frames that are inferred are kept for the state that is being fitted.

        Returns
        -------
        What was seen until now: points up to there are not among the frames that are kept.
        """
        with self._lock:
            self._meanwhile = [] if self.model.is_online else None
            return self.seen.copy()

    def end_fit(self) -> None:
        """Keep no more frames. Without a state that was adopted the old one goes on."""
        with self._lock:
            self._meanwhile = None

    def adopt(self, state: State, learned_to_ms: int) -> None:
        """Serve a new state. Points later than `learned_to_ms` that came during the fit are replayed into it."""
        with self._lock:
            for frame in self._meanwhile or []:
                later = frame.timestamps_ms > learned_to_ms
                if later.any():
                    values = np.ascontiguousarray(frame.values[:, later])
                    piece = replace(frame, timestamps_ms=frame.timestamps_ms[later], values=values)
                    state = infer(self.model, *align(self.model, state, piece), self._pool)[1]
            self._meanwhile = None
            if self.state is None:
                self.seen.raise_to(state.series, learned_to_ms)
            self.state = state
            self.fitted_to_ms = learned_to_ms
            self._metrics.models_active.labels(**self.names).set(state.n_models)

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[list[Frame]]:
        """Nothing changes in here; gives the frames that were consumed since the last time, if they are kept."""
        with self._lock:
            consumed, self._consumed = self._consumed, []
            yield consumed

    def is_fitted(self, state: State) -> NDArray[np.bool_]:
        """(S,) rows that the last fit made; others began since."""
        return np.ones(state.series.size, dtype=np.bool_)

    def restore(self, state: State, is_fitted: NDArray[np.bool_], seen: I64, times_ms: I64, fitted_to_ms: int) -> None:
        """Serve a state as it was in another process, with what it had seen."""
        with self._lock:
            self.state = state
            self.fitted_to_ms = fitted_to_ms
            self.seen.raise_to(seen, times_ms)
            self._metrics.models_active.labels(**self.names).set(state.n_models)

    def replay(self, frame: Frame, table: SeriesTable) -> None:
        """Consume a frame as `infer` did in another process."""
        with self._lock, contextlib.suppress(ModelError):  # it failed then, too
            self._advance(self.arrange(frame), table)

    def forget(self) -> None:
        """Begin anew."""
        with self._lock:
            self.state, self.seen, self.fitted_to_ms = None, SeenTimes(), NEVER

    def arrange(self, frame: Frame) -> Frame:
        """The frame as the model wants its rows."""
        return frame

    def cut(self, series: I64) -> list[I64] | None:
        """Series in blocks that a fit by rows may take one after the other; None is any blocks."""
        return None

    def infer(self, frame: Frame, table: SeriesTable) -> list[Batch]:
        """Scores of the frame's unseen points; none where there is no model, no unseen point or no result.

        Raises
        ------
        ModelError : the model failed and the points count as seen; a row has learned them or is as before.
        """
        labels = {"stage": "infer", **self.names}
        with self._lock:
            frame = self._unseen(self.arrange(frame))
            if self.state is None or not np.isfinite(frame.values).any():
                log.debug("Skipping run for stage infer: %s", "no unseen data" if self.state else "no model yet")
                return []
            started = time.perf_counter()
            if self.keeps_consumed:
                self._consumed.append(frame)
            frame, batches = self._advance(frame, table)
            produced = sum(batch.output.n_points for batch in batches)
            if produced == 0:
                log.debug("Skipping run for stage infer: no valid datapoints produced")
                return []
            self._metrics.run_seconds.labels(**labels).observe(time.perf_counter() - started)
            self._metrics.runs.labels(**labels).inc()
            self._metrics.accepted.labels(**labels).inc(int(np.count_nonzero(np.isfinite(frame.values))))
            self._metrics.produced.labels(**labels).inc(produced)
        return batches

    def _advance(self, frame: Frame, table: SeriesTable) -> tuple[Frame, list[Batch]]:
        """What counts as seen of a frame, and its scores; the state goes on."""
        assert self.state is not None
        try:
            state, aligned, frame = self._align(self.state, frame)
            return frame, self._run(state, aligned, frame, table)
        except Exception as err:  # whatever one model does, the others go on
            raise ModelError(f"model {self.names['model_alias']!r} on {self.query.alias!r}: {reason(err)}") from err
        finally:
            self._mark_seen(frame)

    def _align(self, state: State, frame: Frame) -> tuple[State, Frame, Frame]:
        """State and frame with the same rows, and the frame with what counts as seen after this run."""
        unknown = np.setdiff1d(frame.series, state.series, assume_unique=True)
        if unknown.size and not self.model.is_online:
            self._metrics.series_skipped.labels(stage="infer", reason="unknown", **self.names).inc(unknown.size)
        return *align(self.model, state, frame), frame

    def _run(self, state: State, aligned: Frame, frame: Frame, table: SeriesTable) -> list[Batch]:
        """Predict, score, and keep the new state."""
        is_learned = aligned.timestamps_ms <= self.fitted_to_ms
        given = replace(state, is_given=self.model.is_online)
        if self.model.is_online and is_learned.any():
            # The fit had these points before they could be scored: they are not learned twice.
            columns, _ = self._predict(state, aligned)
            values = np.where(is_learned, np.nan, aligned.values)
            later, new = self._predict(given, replace(aligned, values=values))
            columns = {name: np.where(is_learned, column, later[name]) for name, column in columns.items()}
        else:
            columns, new = self._predict(given, aligned)
        self.state = state = new
        if self._meanwhile is not None:
            self._meanwhile.append(frame)
        self._metrics.models_active.labels(**self.names).set(state.n_models)
        return self._batches(aligned, columns, table)

    def _predict(self, state: State, frame: Frame) -> tuple[dict[str, F64], State]:
        prediction, state = self._infer(state, frame)
        return dict(score.apply(self.policy, self.model.warm_up, prediction, frame)), state

    def _infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        """What the model says, and the state after it; rows that failed are counted."""
        prediction, state = infer(self.model, state, frame, self._pool)
        if prediction.failed is not None and prediction.failed.any():
            skipped = self._metrics.series_skipped.labels(stage="infer", reason="failed", **self.names)
            skipped.inc(int(np.count_nonzero(prediction.failed)))
        return prediction, state

    def _batches(self, frame: Frame, columns: dict[str, F64], table: SeriesTable) -> list[Batch]:
        """What is written of the columns."""
        return [self._batch(frame.series, frame.timestamps_ms, columns, table, self.query.alias)]

    def _batch(
        self, series: I64, timestamps_ms: I64, columns: Mapping[str, F64], table: SeriesTable, query_key: str
    ) -> Batch:
        names = self.names
        output = Output(series, timestamps_ms, score.select(self.model, columns))
        io_names = {name: names[name] for name in ("query_key", "scheduler_alias", "preset")}
        aliases = ("model_alias", "scheduler_alias", "preset")
        written = {name: names[name] if self._writes_aliases else "" for name in aliases}
        return Batch(output, table, query_key=query_key, metric_labels=io_names, **written)

    def _unseen(self, frame: Frame) -> Frame:
        """The frame with points that were scored before set to missing."""
        seen = self._seen_by_row(frame)
        if frame.timestamps_ms.size == 0 or not (seen >= frame.timestamps_ms[0]).any():
            return frame
        return replace(frame, values=np.where(frame.timestamps_ms > seen[:, None], frame.values, np.nan))

    def _seen_by_row(self, frame: Frame) -> I64:
        return self.seen.get(frame.series)

    def _mark_seen(self, frame: Frame) -> None:
        """Each row is seen up to its last finite point."""
        rows, times = last_points(frame)
        self.seen.raise_to(frame.series[rows], times)


def last_points(frame: Frame) -> tuple[I64, I64]:
    """Rows that have a finite point, and when their last one is."""
    finite = np.isfinite(frame.values)
    rows = np.flatnonzero(finite.any(axis=1))
    last = frame.timestamps_ms.size - 1 - np.argmax(finite[rows, ::-1], axis=1)
    return rows, frame.timestamps_ms[last]


def reason(error: Exception) -> str:
    """A model's failure in words; one that is not its own kind of error by its name, too."""
    return str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
