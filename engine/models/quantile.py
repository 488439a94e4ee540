"""Online seasonal quantiles: three quantiles of the points of each part of a season."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import Meta, field
from numpy.typing import NDArray

from engine.frame import I64, Frame, Prediction, State
from engine.models.base import Model
from engine.models.civil import civil_ms
from engine.settings import Duration
from kernels.quantile import quantile_learn, quantile_predict_update

Share = Annotated[float, Meta(ge=0, le=1)]
# A sketch with fewer centroids than twice this says little: the smallest `compression` that counts.
_LEAST_COMPRESSION = 10
# A week of minutes.
_MOST_PARTS = 10_080
# Rows of centroids grow in steps of this.
_GROWTH = 256


_ROWS = ("mean", "weight")


class OnlineQuantile(Model, frozen=True, kw_only=True, tag_field="class", tag="quantile_online"):
    """``class: quantile_online``: yhat and its band are quantiles of the points in the same part of a season.

    Reproduces vmanomaly's seasonal quantiles. Results do not depend, bit for bit, on how rows and time are cut.
    Choices where the original's documentation is open:

    - The interquartile range of `iqr_threshold` is q75 - q25 of the same part, whatever `quantiles` are.
    - A part with fewer than four points is judged by all points; `min_n_samples_seen` counts all points.
    - Parts are cut on the wall clock of the query's zone: in the hour that a change of clocks repeats, the same part
      comes twice.
    - A decay counts the points of each sketch: a part of the week forgets by its own points, not by those of others.
    - With `use_transform` quantiles are mapped back before margins are added and parts are smoothed.
    - Without `min_subseason` the season has one part, which is the same as no season.
    """

    fit_by: ClassVar[Literal["time", "rows"]] = "time"
    is_online: ClassVar[bool] = True

    quantiles: list[Share] = field(default_factory=lambda: [0.01, 0.5, 0.99])
    iqr_threshold: Annotated[float, Meta(ge=0)] = 0.0
    seasonal_interval: Duration | None = None
    min_subseason: Duration | None = None
    season_starts_from: str = "1970-01-01"
    global_smoothing: Share = 0.0
    use_transform: bool = False
    compression: Annotated[int, Meta(ge=1, le=10_000)] = 100
    min_n_samples_seen: Annotated[int, Meta(ge=1)] = 16
    decay: Annotated[float, Meta(gt=0, le=1)] = 1.0
    history_strength: Annotated[float, Meta(gt=0)] = 1.0

    @property
    def warm_up(self) -> int:
        return self.min_n_samples_seen

    def check(self) -> list[str]:
        """Problems that single fields cannot show, each as key, value, what was expected."""
        problems = []
        if len(self.quantiles) != 3 or sorted(set(self.quantiles)) != self.quantiles:
            problems.append(f"quantiles: {self.quantiles}, expected three numbers in [0, 1], each above the one before")
        interval, part = self.seasonal_interval, self.min_subseason
        if part is not None and (interval is None or part >= interval or interval % part):
            problems.append(f"min_subseason: {part}, expected an exact divisor of seasonal_interval ({interval})")
        elif part is not None and interval is not None and interval // part > _MOST_PARTS:
            problems.append(f"min_subseason: {part}, expected at most {_MOST_PARTS} parts in a season")
        try:
            datetime.fromisoformat(self.season_starts_from)
        except ValueError:
            problems.append(f"season_starts_from: {self.season_starts_from}, expected a date like 1970-01-01")
        return problems

    def without_effect(self) -> dict[str, str]:
        found = super().without_effect()
        if self.seasonal_interval is not None and self.min_subseason is None:
            found["seasonal_interval"] = "a season without min_subseason has one part"
        return found

    @property
    def n_parts(self) -> int:
        """Parts of a season; 0 without one."""
        if self.seasonal_interval is None or self.min_subseason is None:
            return 0
        return self.seasonal_interval // self.min_subseason

    @property
    def n_columns(self) -> int:
        """Centroids of a sketch at most."""
        return 2 * max(self.compression, _LEAST_COMPRESSION)

    def fresh(self, series: I64, frame: Frame) -> State:
        shape = series.size, self.n_parts + 1
        columns: dict[str, NDArray[Any]] = {
            "mean": np.zeros((series.size, self._width(0))),
            "weight": np.zeros((series.size, self._width(0)), dtype=np.float32),
            "end": np.zeros(shape, dtype=np.int32),
            "unit": np.ones(shape),
            "count": np.zeros(shape, dtype=np.int64),
        }
        return State(series, columns)

    def learn(self, state: State, frame: Frame) -> State:
        new = self._roomy(state, frame)
        quantile_learn(
            frame.values, self.parts(frame), self.decay, self.use_transform, self.n_columns,
            new["mean"], new["weight"], new["end"], new["unit"], new["count"],
        )  # fmt: skip
        return state.updated(**self._trimmed(new))

    def finish(self, state: State) -> State:
        return state.updated(weight=state.columns["weight"] * np.float32(self.history_strength))

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        new = self._roomy(state, frame)
        yhat, lower, upper = (np.empty(frame.shape) for _ in range(3))
        quantile_predict_update(
            frame.values, self.parts(frame), self.decay, self.use_transform, self.n_columns,
            np.array([*self.quantiles, 0.25, 0.75]), self.iqr_threshold, self.global_smoothing,
            new["mean"], new["weight"], new["end"], new["unit"], new["count"], yhat, lower, upper,
        )  # fmt: skip
        prediction = Prediction(yhat, lower, upper, seen=state.columns["count"][:, -1].copy())
        return prediction, state.updated(**self._trimmed(new))

    def parts(self, frame: Frame) -> I64:
        """(T,) the part of the season that each step is in; -1 without a season."""
        if self.n_parts == 0:
            return np.full(frame.timestamps_ms.size, -1, dtype=np.int64)
        assert self.seasonal_interval is not None
        assert self.min_subseason is not None
        since_ms = civil_ms(frame.timestamps_ms, frame.tz) - _civil_start_ms(self.season_starts_from, frame.tz)
        found: I64 = since_ms % int(self.seasonal_interval) // int(self.min_subseason)
        return found

    def _roomy(self, state: State, frame: Frame) -> dict[str, NDArray[Any]]:
        """Copies of a state's columns, rows wide enough for whatever the frame may add."""
        used = int(state.columns["end"][:, -1].max(initial=0))
        width = min(used + 2 * frame.timestamps_ms.size, self._width(used + 2 * frame.timestamps_ms.size))
        return {name: _copied(column, width if name in _ROWS else 0) for name, column in state.columns.items()}

    def _trimmed(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Rows of centroids as wide as the longest one needs: the same width however points came."""
        width = self._width(int(columns["end"][:, -1].max(initial=0)))
        trimmed = {n: _copied(columns[n][:, :width], width) for n in _ROWS if columns[n].shape[1] != width}
        return {**columns, **trimmed}

    def _width(self, used: int) -> int:
        """Columns of rows that hold so many centroids."""
        return min(max(1, math.ceil(used / _GROWTH)) * _GROWTH, (self.n_parts + 1) * self.n_columns)


def _copied(column: NDArray[Any], width: int) -> NDArray[Any]:
    """A copy; a narrower one ends in zeros."""
    if column.shape[1] >= width:
        return column.copy()
    copy = np.zeros((column.shape[0], width), dtype=column.dtype)
    copy[:, : column.shape[1]] = column
    return copy


def _civil_start_ms(text: str, tz: str) -> int:
    """A date as milliseconds of the zone's wall clock; one with an offset is a moment that the clock shows."""
    start = datetime.fromisoformat(text)
    if start.tzinfo is not None:
        start = start.astimezone(ZoneInfo(tz)).replace(tzinfo=None)
    return round((start - datetime(1970, 1, 1)).total_seconds() * 1000)  # noqa: DTZ001 - the wall clock's epoch
