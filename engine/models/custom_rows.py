"""Rows of a frame as pandas frames, and what a custom model makes of them as rows again."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import ModelError
from engine.frame import F64, I64, Frame
from engine.models.custom_load import where

log = logging.getLogger("model")


class Past(NamedTuple):
    """An object of a class without a fit, and the last points of its series, at most `n_points`."""

    model: Any
    n_points: int
    times_ms: I64
    values: F64

    def with_points(self, times_ms: I64, values: F64) -> Past:
        """With points that follow."""
        times, after = np.concatenate([self.times_ms, times_ms]), np.concatenate([self.values, values])
        return self._replace(times_ms=times, values=after)

    def cut(self) -> Past:
        """Only the last points."""
        return self._replace(times_ms=self.times_ms[-self.n_points :], values=self.values[-self.n_points :])


class Failures:
    """Exceptions of single series, or groups of them by their first: counted, and told in one line."""

    def __init__(self, file: Path | None, stage: str, what: str = "series") -> None:
        self.series: list[int] = []
        self.first = ""
        self._file = str(file)
        self._stage = stage
        self._what = what

    @contextlib.contextmanager
    def of(self, series: int) -> Iterator[None]:
        """Whatever is raised inside is this series' failure."""
        try:
            yield
        except Exception as err:  # noqa: BLE001 - the operator's code may raise anything
            self.series.append(series)
            self.first = self.first or f"{where(err, self._file)} (series {series})"

    def report(self, n_in_all: int) -> None:
        """One line for all of them."""
        if self.series:
            n_failed = len(self.series)
            what = self._stage, n_failed, n_in_all, self._what, self.first
            log.warning("%s failed for %d of %d %s, first: %s", *what)


def make(kind: type[Any], arguments: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
    """An object of the operator's class.

    Its own arguments come by name and together as `args`; of those and the common ones a constructor without
    `**kwargs` gets the ones that it names.
    """
    given = {**arguments, **own, "args": dict(own)}
    parameters = inspect.signature(kind.__init__).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        names = {p.name for p in parameters}
        given = {name: value for name, value in given.items() if name in names}
    return kind(**given)


class RowFrames:
    """The rows of a frame as pandas frames: `timestamp` and `y`, only the points that are there.

    Timestamps are UTC without a zone; where the query has a zone they are in that zone.
    """

    def __init__(self, frame: Frame) -> None:
        import pandas

        self._pandas = pandas
        self._values = frame.values
        self._tz = frame.tz
        self._times_ms = frame.timestamps_ms
        self._times = self._stamps(frame.timestamps_ms)

    def points(self, row: int) -> I64:
        """Steps at which a row has a finite value."""
        found: I64 = np.flatnonzero(np.isfinite(self._values[row]))
        return found

    def raw(self, row: int, steps: I64) -> tuple[I64, F64]:
        """(n,) times and values of some steps of a row."""
        return self._times_ms[steps], self._values[row, steps]

    def take(self, row: int, steps: I64) -> Any:
        """A pandas frame of some steps of a row."""
        return self._pandas.DataFrame({"timestamp": self._times[steps], "y": self._values[row, steps]})

    def joined(self, rows: Mapping[str, int], steps: I64) -> Any:
        """A pandas frame of some steps of several rows: `timestamp`, then a column for each name."""
        columns = {name: self._values[row, steps] for name, row in rows.items()}
        return self._pandas.DataFrame({"timestamp": self._times[steps], **columns})

    def table(self, times_ms: I64, values: F64) -> Any:
        """A pandas frame of any points."""
        return self._pandas.DataFrame({"timestamp": self._stamps(times_ms), "y": values})

    def _stamps(self, times_ms: I64) -> Any:
        stamps = self._pandas.to_datetime(times_ms, unit="ms").astype("datetime64[ns]")
        return stamps if self._tz == "UTC" else stamps.tz_localize("UTC").tz_convert(self._tz)

    def place(self, result: Any, steps: I64, names: Sequence[str]) -> dict[str, F64]:
        """By name, (n,) columns of a result at the steps that were asked for; NaN where it has none.

        Raises
        ------
        ModelError : the result is no frame with a row for each time, or has no `anomaly_score`.
        """
        if not isinstance(result, self._pandas.DataFrame):
            raise ModelError(f"infer returned {type(result).__name__}, expected a pandas DataFrame")
        if "anomaly_score" not in result.columns and "anomaly_score" in names:
            raise ModelError(f"infer returned columns {list(result.columns)}, expected anomaly_score among them")
        rows = self._rows(result, steps)
        found = {}
        for name in names:
            column = np.full(steps.size, np.nan)
            if name in result.columns:
                values = self._pandas.to_numeric(result[name], errors="coerce").to_numpy(dtype=np.float64)
                column[rows >= 0] = values[rows[rows >= 0]]
            found[name] = column
        return found

    def _rows(self, result: Any, steps: I64) -> I64:
        """(n,) the row of the result for each step, -1 for none: by time, without times by position."""
        if "timestamp" in result.columns and self._pandas.api.types.is_datetime64_any_dtype(result["timestamp"]):
            stamps = self._pandas.to_datetime(result["timestamp"], utc=self._times.tz is not None)
            times_ms: NDArray[Any] = stamps.to_numpy(dtype="datetime64[ms]").astype(np.int64)
            order = np.argsort(times_ms, kind="stable")
            wanted = self._times_ms[steps]
            at = np.minimum(np.searchsorted(times_ms, wanted, sorter=order), max(0, times_ms.size - 1))
            if times_ms.size == 0:
                return np.full(steps.size, -1, dtype=np.int64)
            return np.where(times_ms[order[at]] == wanted, order[at], -1)
        if len(result) != steps.size:
            raise ModelError(f"infer returned {len(result)} rows without timestamp, expected {steps.size}")
        return np.arange(steps.size)
