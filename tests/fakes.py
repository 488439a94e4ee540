"""Readers, writers and models that live in memory, for tests of what stands between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from engine.errors import ReadError
from engine.frame import F64, I64, Batch, Frame, Prediction, Query, Samples, State, Window
from engine.models.base import Model
from engine.series import SeriesTable


@dataclass
class MemoryReader:
    """Answers from points put in by hand: ``points[name][time_ms] = value``; then calls `after_read`."""

    points: dict[str, dict[int, float]] = field(default_factory=dict)
    steps_a_piece: int = 1_000_000
    failures: int = 0
    after_read: Callable[[], object] = lambda: None
    windows: list[Window] = field(default_factory=list)
    _table: SeriesTable = field(default_factory=SeriesTable)

    def table(self, query: Query) -> SeriesTable:
        return self._table

    def read(self, query: Query, window: Window, scheduler_alias: str) -> Iterator[tuple[Window, Samples]]:
        self.windows.append(window)
        if self.failures:
            self.failures -= 1
            raise ReadError("the database is away", "connection_error")
        for piece in window.split(self.steps_a_piece):
            found = {
                name: sorted((t, v) for t, v in points.items() if piece.start_ms <= t <= piece.end_ms)
                for name, points in self.points.items()
            }
            found = {name: points for name, points in found.items() if points}
            series = np.array([self._table.intern({"name": name}) for name in found], dtype=np.int64)
            indptr = np.cumsum([0, *(len(points) for points in found.values())], dtype=np.int64)
            flat = [point for points in found.values() for point in points]
            times = np.array([t for t, _ in flat], dtype=np.int64)
            yield piece, Samples(series, indptr, times, np.array([v for _, v in flat], dtype=np.float64))
        self.after_read()

    def placed(self, query: Query, scheduler_alias: str, seconds: float) -> None:
        return

    def close(self) -> None:
        return


@dataclass
class MemoryWriter:
    """Keeps what it is given."""

    batches: list[Batch] = field(default_factory=list)

    def submit(self, batch: Batch) -> None:
        self.batches.append(batch)

    def position(self) -> int:
        return len(self.batches)

    def is_safe(self) -> bool:
        return True

    def has_lost(self, start: int, end: int) -> bool:
        return False

    def drain(self, timeout_s: float) -> bool:
        return True

    def close(self, timeout_s: float) -> None:
        return

    def written(self, column: str = "anomaly_score") -> list[tuple[str, int, float]]:
        """(series name, time, value) of every finite cell, in the order written."""
        cells = []
        for batch in self.batches:
            values = batch.output.columns[column]
            for i, t in zip(*np.nonzero(np.isfinite(values)), strict=True):
                name = batch.table.labels(int(batch.output.series[i]))["name"]
                cells.append((name, int(batch.output.timestamps_ms[t]), float(values[i, t])))
        return cells


class CountingModel(Model, frozen=True, kw_only=True, tag_field="class", tag="counting"):
    """Expects as many as it has learned points: yhat shows what a state has seen. Online."""

    fit_by: ClassVar[Literal["time", "rows"]] = "time"
    is_online: ClassVar[bool] = True
    fails: ClassVar[bool] = False

    def fresh(self, series: I64, frame: Frame) -> State:
        return State(series, {"n": np.zeros(series.size)})

    def learn(self, state: State, frame: Frame) -> State:
        return state.updated(n=state.columns["n"] + np.isfinite(frame.values).sum(axis=1))

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        finite = np.isfinite(frame.values)
        before = state.columns["n"][:, None] + np.cumsum(finite, axis=1) - finite
        return Prediction(before, before - 1, before + 1), self.learn(state, frame)


class StaticModel(Model, frozen=True, kw_only=True, tag_field="class", tag="static"):
    """Expects the mean of the fit window. Offline, by rows."""

    fit_by: ClassVar[Literal["time", "rows"]] = "rows"

    def fit_rows(self, frame: Frame) -> State:
        return State(frame.series, {"mean": np.nanmean(frame.values, axis=1)})

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        yhat = np.broadcast_to(state.columns["mean"][:, None], frame.shape).copy()
        return Prediction(yhat, yhat - 1, yhat + 1), state


class BrokenModel(StaticModel, frozen=True, kw_only=True, tag_field="class", tag="broken"):
    """Fits unless told otherwise, then fails at every inference, in a way that nobody thought of."""

    fits: bool = True

    def fit_rows(self, frame: Frame) -> State:
        return super().fit_rows(frame) if self.fits else {}["cannot"]

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        raise KeyError("cannot")


class JointModel(Model, frozen=True, kw_only=True, tag_field="class", tag="joint"):
    """Expects of each channel the mean of what it has learned; a group is as anomalous as its worst channel. Online."""

    fit_by: ClassVar[Literal["time", "rows"]] = "rows"
    is_online: ClassVar[bool] = True
    is_multivariate: ClassVar[bool] = True
    provides: ClassVar[tuple[str, ...]] = (
        "anomaly_score", "contribution", "y", "yhat", "yhat_lower", "yhat_upper",
    )  # fmt: skip
    default_series: ClassVar[tuple[str, ...]] = ("anomaly_score",)

    half_width: float = 15.0

    def fresh(self, series: I64, frame: Frame) -> State:
        columns = {"n": np.zeros(series.size), "total": np.zeros(series.size)}
        return State(series, columns, {}, frame.groups, {"times": np.zeros(frame.indptr.size - 1)})

    def fit_rows(self, frame: Frame) -> State:
        return self.infer(self.fresh(frame.series, frame), frame)[1]

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        finite = np.isfinite(frame.values)
        values = np.where(finite, frame.values, 0.0)
        # Added up one by one, so that points one by one are the same as all at once.
        n = np.cumsum(np.concatenate([state.columns["n"][:, None], finite], axis=1), axis=1)
        total = np.cumsum(np.concatenate([state.columns["total"][:, None], values], axis=1), axis=1)
        yhat = np.where(n > 0, total / np.maximum(n, 1), 0.0)[:, :-1]
        first = frame.indptr[:-1]
        times = np.logical_and.reduceat(finite, first, axis=0).sum(axis=1) if first.size else np.zeros(0)
        new = state.updated(n=n[:, -1], total=total[:, -1], times=state.group_columns["times"] + times)
        band = yhat, yhat - self.half_width, yhat + self.half_width
        return Prediction(*band, seen=state.columns["n"].astype(np.int64)), new

    def joint(self, scores: F64, prediction: Prediction, frame: Frame) -> tuple[F64, F64]:
        return np.maximum.reduceat(scores, frame.indptr[:-1], axis=0), scores**2


def fill(folder: Path, n_bytes: int = 1 << 40) -> Path:
    """A file of so many bytes, or as many as there is room for."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(n_bytes // 4096):
            file.write(bytes(4096))
    return filler
