"""Isolation forest: how few random cuts part a value, alone or with its time of day, week or year, from the rest."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from engine.errors import ModelError
from engine.frame import F64, Frame, Prediction, State
from engine.models.args import InnerArgs, check_args, honoured
from engine.models.base import Model
from engine.models.civil import DAY_MS, civil_ms
from kernels.iforest import Forest, forest_zeros
from kernels.iforest_rows import rows_fit, rows_score
from kernels.iforest_steps import steps_fit, steps_score

Share = Annotated[float, Meta(gt=0, le=1)]
# Steps that are kept of a forest on values alone.
_N_STEPS = 511
_SCALARS = ("center", "scale", "low", "high")
# Sizes of samples are kept as 16 bits.
_LARGEST_SAMPLE = 32_767


class Contamination(float):
    """A share of outliers in (0, 0.5]; "auto" is 0 inside."""

    @classmethod
    def parse(cls, value: Any) -> Self:
        """The share that a configuration value says; numbers may be text.

        Raises
        ------
        ValueError : it says none.
        """
        if value == "auto":
            return cls(0.0)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 < number <= 0.5:
            raise ValueError('expected "auto" or a number > 0 and <= 0.5')
        return cls(number)

    def __str__(self) -> str:
        return float.__repr__(self) if self else "auto"


class ForestArgs(InnerArgs, frozen=True):
    """The arguments of scikit-learn's `IsolationForest` that are honoured; a whole number counts, a share divides."""

    neutral: ClassVar[frozenset[str]] = frozenset({"n_jobs", "verbose", "warm_start"})

    n_estimators: Annotated[int, Meta(ge=1, le=10_000)] = 100
    max_samples: Annotated[int, Meta(ge=1, le=_LARGEST_SAMPLE)] | Share | Literal["auto"] = "auto"
    max_features: Annotated[int, Meta(ge=1)] | Share = 1.0
    bootstrap: bool = False
    random_state: int | None = 42

    @property
    def seed(self) -> int:
        """The default one for null: the same window always gives the same forest."""
        return 42 if self.random_state is None else self.random_state % 2**32

    def sample(self, n_steps: int) -> tuple[int, float, int]:
        """Rows in a tree's sample, or their share of all if that is not 0; and how many they are at most."""
        if isinstance(self.max_samples, float):
            return _LARGEST_SAMPLE, self.max_samples, max(1, min(int(self.max_samples * n_steps), _LARGEST_SAMPLE))
        number = 256 if self.max_samples == "auto" else self.max_samples
        return number, 0.0, min(number, n_steps)

    def n_features(self, n_columns: int) -> int:
        """Columns that a tree may split by."""
        if isinstance(self.max_features, float):
            return max(1, int(self.max_features * n_columns))
        return min(self.max_features, n_columns)


class IsolationForest(Model, frozen=True, kw_only=True, tag_field="class", tag="isolation_forest_univariate"):
    """``class: isolation_forest_univariate``: a score without a band; 1 is the threshold that `contamination` sets.

    Reproduces vmanomaly's univariate isolation forest and, below it, scikit-learn's `IsolationForest`. Results do not
    depend, bit for bit, on how rows are cut or ordered: each series has a forest of the same seed.

    Deliberate differences and choices where the original's documentation is open:

    - The score is linear in the forest's raw score: 0 at the least anomalous sample of the fit, 1 at the threshold.
    - ``contamination: auto`` is scikit-learn's threshold, a raw score of 0.5, but at least 0.02 above the least raw
      score: where a series has few different values, all of them have more than 0.5.
    - A series (or further column) that never moved in the fit window is anomalous when it does; no tree can say so.
    - Without `seasonal_features` only 511 steps of the forest's some 6,000 are kept; raw scores differ by less than
      0.003, a quarter of what another seed makes.
    - `args` are merged with ``random_state: 42``. Clocks of `seasonal_features` are civil, of the query's zone.
    """

    fit_by: ClassVar[Literal["time", "rows"]] = "rows"
    provides: ClassVar[tuple[str, ...]] = ("anomaly_score", "y")
    default_series: ClassVar[tuple[str, ...]] = ("anomaly_score",)
    args_type: ClassVar[type[InnerArgs] | None] = ForestArgs
    layout: ClassVar[int] = 2

    contamination: Contamination = Contamination(0.0)
    seasonal_features: list[Literal["minute", "hod", "dow", "month"]] = []

    def check(self) -> list[str]:
        """Problems that single fields cannot show, each as key, value, what was expected."""
        problems = check_args(ForestArgs, self.args)
        if self.detection_direction != "both":
            problems.append(f"detection_direction: {self.detection_direction}, expected both: this class has no band")
        return problems

    def fit_rows(self, frame: Frame) -> State:
        """State of the rows with at least two values; others are left out.

        Raises
        ------
        ModelError : the window has no step.
        """
        if frame.timestamps_ms.size == 0:
            raise ModelError("isolation forest needs a fit window of at least one step")
        args = honoured(ForestArgs, self.args)
        state = self._fit_with_seasons(frame, args) if self.seasonal_features else self._fit_alone(frame, args)
        return state.take(np.flatnonzero(state.columns["used"] > 0))

    def _fit_alone(self, frame: Frame, args: ForestArgs) -> State:
        n_sample, share, most = args.sample(frame.timestamps_ms.size)
        columns: dict[str, NDArray[Any]] = {name: np.zeros(frame.series.size) for name in _SCALARS}
        columns["used"] = np.zeros(frame.series.size, dtype=np.int64)
        columns["cut"] = np.zeros((frame.series.size, _N_STEPS), dtype=np.float32)
        columns["level"] = np.zeros((frame.series.size, _N_STEPS + 1), dtype=np.int16)
        steps_fit(
            frame.values, args.seed, n_sample, share, args.bootstrap, self.contamination,
            forest_zeros(1, args.n_estimators, most), *columns.values(),
        )  # fmt: skip
        return State(frame.series, columns)

    def _fit_with_seasons(self, frame: Frame, args: ForestArgs) -> State:
        n_sample, share, most = args.sample(frame.timestamps_ms.size)
        shared = seasonal_columns(self.seasonal_features, frame)
        n_columns = 1 + shared.shape[1]
        empty = forest_zeros(n_columns, args.n_estimators, most)
        forests = Forest(*(np.zeros((frame.series.size, *part.shape), dtype=part.dtype) for part in empty))
        used, low, high = np.zeros(frame.series.size, dtype=np.int64), *np.zeros((2, frame.series.size))
        rows_fit(
            frame.values, shared, args.seed, n_sample, share, args.n_features(n_columns), args.bootstrap,
            self.contamination, forests, used, low, high,
        )  # fmt: skip
        return State(frame.series, {**forests._asdict(), "used": used, "low": low, "high": high})

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        score = np.empty(frame.shape)
        columns = state.columns
        if self.seasonal_features:
            forests = Forest(*(columns[name] for name in Forest._fields))
            shared = seasonal_columns(self.seasonal_features, frame)
            rows_score(frame.values, shared, forests, columns["used"], columns["low"], columns["high"], score)
        else:
            scale, limits = (columns["center"], columns["scale"]), (columns["low"], columns["high"])
            steps_score(frame.values, *scale, *limits, columns["cut"], columns["level"], score)
        return Prediction(score=score), state


# From 1970-01-01, a Thursday, back to Monday.
_WEEK_SHIFT_MS = 3 * DAY_MS


def seasonal_columns(features: list[Literal["minute", "hod", "dow", "month"]], frame: Frame) -> F64:
    """(T, 2 m) sine and cosine of each feature, on the wall clock of the frame's zone."""
    clock_ms = civil_ms(frame.timestamps_ms, frame.tz)
    parts = {
        "minute": lambda: clock_ms // 60_000 % 60 / 60,
        "hod": lambda: clock_ms // 3_600_000 % 24 / 24,
        "dow": lambda: (clock_ms + _WEEK_SHIFT_MS) // DAY_MS % 7 / 7,
        "month": lambda: clock_ms.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64) % 12 / 12,
    }
    angles = 2 * np.pi * np.array([parts[name]() for name in dict.fromkeys(features)])
    return np.ascontiguousarray(np.concatenate([np.sin(angles), np.cos(angles)]).T)
