"""Prophet: piecewise trend, seasonalities and holidays, fitted for all series of a block by one kernel call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from engine.errors import ModelError
from engine.frame import F64, I64, Frame, Prediction, State
from engine.models.args import InnerArgs
from engine.models.base import Model
from engine.models.civil import DAY_MS
from engine.models.prophet_args import ProphetArgs, check_prophet_args, parse_args
from engine.models.prophet_check import Compression, check_model
from engine.models.prophet_compress import compress
from engine.models.prophet_design import (
    Design,
    Seasonality,
    clock_seasonalities,
    design,
    seasonalities,
    seen_holidays,
)
from kernels.changepoint import fit_changepoints
from kernels.changepoint_forecast import add_columns, forecast_band, forecast_trend, trend_half_width
from kernels.changepoint_row import FLAT, IS_FACTOR, LINEAR, LOGISTIC, N_POINTS, SCALE, SIGMA
from kernels.trend_noise import deviation_table, normal_quantile

_GROWTH = {"linear": LINEAR, "logistic": LOGISTIC, "flat": FLAT}
_N_SCALARS = N_POINTS + 1


@lru_cache(maxsize=16)
def _table(interval_width: float) -> F64:
    return deviation_table(interval_width)


class Prophet(Model, frozen=True, kw_only=True, tag_field="class", tag="prophet"):
    """``class: prophet``: the `prophet` package's model by the steps of its own optimiser, a thousand times faster.

    Reproduces vmanomaly's Prophet model and, below it, the package: scaling, changepoints placed by position among a
    series' own points, automatic seasonalities, priors. Each series has its own first and last point, so the fit is by
    rows. Results do not depend, bit for bit, on how rows are cut or ordered.

    Deliberate differences and choices where the original's documentation is open:

    - Series below 100 points are fitted by the same steps as longer ones; the package takes Newton's method for them.
    - Bounds are exact quantiles of noise and future bends of the trend, not those of 1,000 random paths; a point far
      from the fit gets its full width also when it is asked for alone. For logistic growth bends act through the
      trend's local slope.
    - Given `changepoints` outside a series' own span are left out, instead of an error. `uncertainty_samples: 0` is an
      error: without bounds there is no score.
    - `cap` and `floor` are arguments, as there are no data columns to hold them.
    - Holidays fall on the civil days of the query's zone, whether or not `tz_aware` is set. Those that do not occur in
      the fit window have no effect, as in the package.
    - `tz_seasonalities` are of the query's wall clock also without `tz_aware`. Without `tz_use_cyclical_encoding` each
      value of the clock has its own level, unless `fourier_order` is given. `hod`, `dow` and `month` replace the
      automatic daily, weekly and yearly seasonality. Orders are by default 4, 3 and 3, and 3 for `minute`.
    - `compression` gathers points in windows aligned to the epoch and places each at the middle of its grid steps;
      `adjust_boundaries` scales the noise by the residuals of the original points over those of the gathered ones.
    """

    fit_by: ClassVar[Literal["time", "rows"]] = "rows"
    forecasts: ClassVar[bool] = True
    # Names depend on the arguments: `check` knows them.
    provides: ClassVar[tuple[str, ...]] = ()
    default_series: ClassVar[tuple[str, ...]] = ("anomaly_score", "y", "yhat", "yhat_lower", "yhat_upper", "trend")
    args_type: ClassVar[type[InnerArgs] | None] = ProphetArgs

    seasonalities: list[dict[str, Any]] = []
    tz_aware: bool = False
    tz_seasonalities: list[str | dict[str, Any]] = []
    tz_use_cyclical_encoding: bool = False
    compression: Compression | None = None

    def check(self) -> list[str]:
        """Problems that single fields cannot show, each as key, value, what was expected."""
        return check_prophet_args(self.args) + check_model(
            self.args, self.seasonalities, self.tz_seasonalities, self.provide_series, self.forecast_at
        )

    def fit_rows(self, frame: Frame) -> State:
        """State of the rows with at least two points; others are left out.

        Raises
        ------
        ModelError : the window has fewer than two steps.
        """
        gathered = frame
        if self.compression is not None:
            gathered = compress(frame, self.compression.window, is_median=self.compression.agg_method == "median")
        if gathered.timestamps_ms.size < 2:
            raise ModelError("prophet needs a fit window of at least two steps")
        args = parse_args(self.args)
        span_ms = int(gathered.timestamps_ms[-1] - gathered.timestamps_ms[0])
        holidays = seen_holidays(args, gathered.timestamps_ms, frame.tz)
        shared = {
            "origin_ms": np.array([gathered.timestamps_ms[0]], dtype=np.int64),
            "span_ms": np.array([span_ms], dtype=np.int64),
            "holidays": np.array([name for name, _ in holidays], dtype=np.str_),
            "holiday_offsets": np.array([offset for _, offset in holidays], dtype=np.int64),
        }
        parts = design(self._parts(args, span_ms), holidays, args, gathered.timestamps_ms, frame.tz)
        state = _fit(gathered, parts, args, shared)
        if self.compression is not None and self.compression.adjust_boundaries:
            state = self._widen(state, gathered, frame)
        return state.take(np.flatnonzero(state.columns["scalars"][:, N_POINTS] >= 2))

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        """Predictions at the frame's times, whatever its values; the band of each is symmetric about yhat."""
        wanted = self.provide_series or self.default_series
        args = parse_args(self.args)
        now = _Forecast(self, args, state, frame.timestamps_ms, frame.tz)
        extra = {name: column for name in wanted if (column := now.component(name)) is not None}
        for offset in self.forecast_at:
            later = _Forecast(self, args, state, frame.timestamps_ms + int(offset), frame.tz)
            band = {"yhat": later.yhat, "yhat_lower": later.lower, "yhat_upper": later.upper}
            extra |= {f"{name}_{offset.as_configured}": column for name, column in band.items()}
        return Prediction(now.yhat, now.lower, now.upper, extra=extra), state

    def design_at(self, state: State, args: ProphetArgs, timestamps_ms: I64, tz: str) -> Design:
        """The fitted regressors at some times."""
        shared = state.shared
        holidays = [(str(n), int(o)) for n, o in zip(shared["holidays"], shared["holiday_offsets"], strict=True)]
        return design(self._parts(args, int(shared["span_ms"][0])), holidays, args, timestamps_ms, tz)

    def _parts(self, args: ProphetArgs, span_ms: int) -> Sequence[Seasonality]:
        clocks = clock_seasonalities(self.tz_seasonalities, self.tz_use_cyclical_encoding, args)
        return seasonalities(self.seasonalities, clocks, args, span_ms / DAY_MS, is_civil=self.tz_aware)

    def _widen(self, state: State, gathered: Frame, frame: Frame) -> State:
        """The noise of the original points, from that of the gathered ones."""
        spread = [
            _spread(part.values, _Forecast(self, parse_args(self.args), state, part.timestamps_ms, part.tz).yhat)
            for part in (frame, gathered)
        ]
        scalars = state.columns["scalars"].copy()
        usable = (spread[1] > 0) & np.isfinite(spread[0])
        scalars[usable, SIGMA] *= spread[0][usable] / spread[1][usable]
        return state.updated(scalars=scalars)


def _fit(frame: Frame, parts: Design, args: ProphetArgs, shared: dict[str, Any]) -> State:
    times = args.changepoints_ms
    origin_ms = int(frame.timestamps_ms[0])
    given = np.array([(t - origin_ms) / DAY_MS for t in times or []], dtype=np.float64)
    n_rows, n_changes = frame.shape[0], len(times) if times is not None else args.n_changepoints
    state = State(
        frame.series,
        {
            "scalars": np.zeros((n_rows, _N_SCALARS)),
            "changepoints": np.zeros((n_rows, n_changes)),
            "changes": np.zeros((n_rows, n_changes)),
            "coefficients": np.zeros((n_rows, len(parts.names))),
        },
        shared,
    )
    options = _options(args)
    time = _days(frame.timestamps_ms, origin_ms)
    columns = state.columns
    fit_changepoints(
        frame.values, time, parts.features, parts.rules, options, given, columns["scalars"], columns["changepoints"],
        columns["changes"], columns["coefficients"],
    )  # fmt: skip
    return state


def _options(args: ProphetArgs) -> F64:
    """What `fit_changepoints` wants to know, in its order. Given changepoints leave none to place."""
    n_changepoints = args.n_changepoints if args.changepoints is None else 0
    cap = np.nan if args.cap is None else args.cap
    floor = np.nan if args.floor is None else args.floor
    is_minmax = args.scaling == "minmax"
    values = (_GROWTH[args.growth], n_changepoints, args.changepoint_range, args.changepoint_prior_scale, is_minmax)
    return np.array([*values, cap, floor], dtype=np.float64)


def _days(timestamps_ms: I64, origin_ms: int) -> F64:
    return (timestamps_ms - origin_ms) / DAY_MS


def _spread(values: F64, yhat: F64) -> F64:
    """(S,) root mean square of the finite residuals, NaN where there is none."""
    finite = np.isfinite(values)
    squares = np.where(finite, values - yhat, 0.0) ** 2
    count = finite.sum(axis=1)
    return np.where(count > 0, np.sqrt(squares.sum(axis=1) / np.maximum(count, 1)), np.nan)


class _Forecast:
    """Predictions of all rows of a state at some times, and their components."""

    def __init__(self, model: Prophet, args: ProphetArgs, state: State, timestamps_ms: I64, tz: str) -> None:
        self._parts = model.design_at(state, args, timestamps_ms, tz)
        self._features = np.ascontiguousarray(self._parts.features.T)
        self._columns = columns = state.columns
        self._is_factor = self._parts.rules[IS_FACTOR] != 0.0
        self._time, self._options = _days(timestamps_ms, int(state.shared["origin_ms"][0])), _options(args)
        self._interval = normal_quantile(args.interval_width), _table(args.interval_width)
        shape = state.series.size, timestamps_ms.size
        self.trend, self.yhat, self.lower, self.upper = (np.empty(shape) for _ in range(4))
        scalars, changes = columns["scalars"], columns["changes"]
        forecast_trend(self._time, self._options, scalars, columns["changepoints"], changes, self.trend)
        forecast_band(
            self._time, self._options, scalars, changes, self._features, columns["coefficients"], self._is_factor,
            self.trend, *self._interval, self.yhat, self.lower, self.upper,
        )  # fmt: skip

    def component(self, name: str) -> F64 | None:
        """A named component, None where there is none of that name in this fit."""
        if name == "trend":
            return self.trend
        if name in ("trend_lower", "trend_upper"):
            half, columns = np.empty_like(self.trend), self._columns
            trend_half_width(
                self._time, self._options, columns["scalars"], columns["changes"], self.trend, *self._interval, half
            )
            return self.trend + (-half if name == "trend_lower" else half)
        name = name.removesuffix("_lower").removesuffix("_upper")
        if name == "multiplicative_terms":
            return self._sum(self._is_factor)
        if name == "additive_terms":
            return self._terms(~self._is_factor)
        chosen = np.array([own == name for own in self._parts.names], dtype=np.bool_)
        if name == "holidays":
            chosen = self._parts.is_holiday
        elif not chosen.any():
            return None
        return self._sum(chosen) if self._is_factor[chosen].any() else self._terms(chosen)

    def _sum(self, chosen: Any) -> F64:
        out = np.empty_like(self.trend)
        add_columns(self._features, self._columns["coefficients"], chosen, out)
        return out

    def _terms(self, chosen: Any) -> F64:
        """A sum in the unit of the data."""
        scale: F64 = self._columns["scalars"][:, SCALE : SCALE + 1]
        return self._sum(chosen) * scale
