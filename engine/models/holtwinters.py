"""Holt-Winters: level, trend and season by exponential smoothing, all series of a block in one kernel call."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from engine.errors import ModelError
from engine.frame import F64, I64, Frame, Prediction, State
from engine.models.args import InnerArgs, check_args, honoured
from engine.models.base import Model
from engine.models.civil import laid_out, season_clock, season_places
from engine.models.periods import find_periods, rows_by_period
from engine.models.prophet_compress import compress
from engine.settings import Duration
from kernels.holtwinters import fit_holt_winters, forecast_holt_winters
from kernels.holtwinters_lanes import ADDITIVE, MULTIPLICATIVE, NONE
from kernels.holtwinters_search import N_POINTS, N_SCALARS, SPREAD

Part = Literal["add", "additive", "mul", "multiplicative"]
_KINDS = {"add": ADDITIVE, "additive": ADDITIVE, "mul": MULTIPLICATIVE, "multiplicative": MULTIPLICATIVE}


class HoltWintersArgs(InnerArgs, frozen=True):
    """The arguments of statsmodels' `ExponentialSmoothing` that are honoured; `damped` is the old `damped_trend`."""

    neutral: ClassVar[frozenset[str]] = frozenset({"dates", "freq", "missing"})

    trend: Part | None = None
    damped_trend: bool = False
    damped: bool = False
    seasonal: Part | None = None
    seasonal_periods: Annotated[int, Meta(ge=2)] | None = None
    initialization_method: Literal["estimated"] = "estimated"


class HoltWinters(Model, frozen=True, kw_only=True, tag_field="class", tag="holtwinters"):
    """``class: holtwinters``: yhat is the forecast from the end of the fit, the band `z_threshold` deviations of its
    one-step errors.

    Reproduces vmanomaly's Holt-Winters and, below it, statsmodels' `ExponentialSmoothing`: smoothing parameters with
    the least sum of squared one-step errors. Results do not depend, bit for bit, on how rows are cut or ordered.

    Deliberate differences and choices where the original's documentation is open:

    - Start values come from all whole seasons; those of level and trend are then refined, those of the season stay.
    - Without `seasonality` and `seasonal_periods` the season of each series is found at each fit, none where there is
      none; `seasonal: null` in `args` is none. A series whose points do not span two seasons, or are fewer than one
      and a half, is fitted without one.
    - A series with a value <= 0 gets additive parts in place of multiplicative ones; statsmodels refuses it.
    - The deviation takes the estimated values off the number of points.
    - A gap advances the state without a correction. Infinite values are gaps.
    - A season of whole days keeps to the wall clock of the query's zone: an hour that it skips is a gap.
    - `frequency` longer than the query's step gathers points to means, each at the middle of its steps; predictions
      are interpolated. A shorter one is the step: nothing is invented between points. Default is the step.
    - Predictions inside the fit window carry the last level, trend and season back; the original's are one-step ones.
    """

    fit_by: ClassVar[Literal["time", "rows"]] = "rows"
    forecasts: ClassVar[bool] = True
    args_type: ClassVar[type[InnerArgs] | None] = HoltWintersArgs

    frequency: Duration | None = None
    seasonality: Duration | None = None
    z_threshold: Annotated[float, Meta(ge=0)] = 2.5

    def check(self) -> list[str]:
        """Problems that single fields cannot show, each as key, value, what was expected."""
        problems = check_args(HoltWintersArgs, self.args)
        for name in ("frequency", "seasonality"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                problems.append(f"{name}: {value}, expected a time like 5m")
        problems += [f"forecast_at: {o}, expected a time ahead like 1h" for o in self.forecast_at if o <= 0]
        return problems or self._check_together(honoured(HoltWintersArgs, self.args))

    def _check_together(self, args: HoltWintersArgs) -> list[str]:
        problems = []
        if args.trend is None and (args.damped_trend or args.damped):
            problems.append("args.damped_trend: true, expected args.trend beside it: there is nothing to damp")
        if self.seasonality is None or self.frequency is None or args.seasonal_periods is not None:
            return problems
        if self.seasonality < 2 * self.frequency or self.seasonality % self.frequency:
            problems.append(
                f"seasonality: {self.seasonality}, expected twice or more times frequency ({self.frequency})"
            )
        return problems

    def fit_rows(self, frame: Frame) -> State:
        """State of the rows with at least two points; others are left out.

        Raises
        ------
        ModelError : the window has fewer than two steps.
        """
        args = honoured(HoltWintersArgs, self.args)
        step_ms = max(self.frequency or 0, frame.step_ms)
        gathered = compress(frame, step_ms, is_median=False)
        if gathered.timestamps_ms.size < 2:
            raise ModelError("holtwinters needs a fit window of at least two steps of its frequency")
        # Without an argument the season is additive; explicitly none is none.
        kind = _kind(args.seasonal if "seasonal" in self.args else "add")
        is_found = kind != NONE and self.seasonality is None and args.seasonal_periods is None
        if is_found:
            periods = find_periods(gathered)
        else:
            n_season = self._n_season(args, step_ms, frame.step_ms) if kind != NONE else 0
            periods = np.full(frame.shape[0], n_season, dtype=np.int64)
        periods[(periods < 2) | (2 * periods > gathered.timestamps_ms.size)] = 0
        columns: dict[str, NDArray[Any]] = {
            "scalars": np.zeros((frame.shape[0], N_SCALARS)),
            "season": np.zeros((frame.shape[0], int(periods.max(initial=0)))),
        }
        if is_found:
            columns["period"] = periods
        is_damped = args.damped_trend or args.damped
        for period, rows in rows_by_period(periods):
            scalars, season = np.zeros((rows.size, N_SCALARS)), np.zeros((rows.size, period))
            values, _ = laid_out(gathered.values[rows], season_places(gathered, period))
            fit_holt_winters(values, _kind(args.trend), kind, is_damped, scalars, season)
            columns["scalars"][rows], columns["season"][rows, :period] = scalars, season
        shared = {"end_ms": np.array([_end_ms(frame, step_ms)]), "step_ms": np.array([step_ms], dtype=np.int64)}
        state = State(frame.series, columns, shared)
        return state.take(np.flatnonzero(columns["scalars"][:, N_POINTS] >= 2))

    def _n_season(self, args: HoltWintersArgs, step_ms: int, query_step_ms: int) -> int:
        """Steps in a season; `seasonal_periods` counts those of `frequency`, also of one shorter than the query's."""
        if args.seasonal_periods is not None:
            return round(args.seasonal_periods * (self.frequency or query_step_ms) / step_ms)
        return round((self.seasonality or 0) / step_ms)

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        """Predictions at the frame's times, whatever its values; the band has the same width at all times."""
        half = self.z_threshold * state.columns["scalars"][:, SPREAD, None]
        yhat = _forecast(state, frame.timestamps_ms, frame.tz)
        extra: dict[str, F64] = {}
        for offset in self.forecast_at:
            later = _forecast(state, frame.timestamps_ms + int(offset), frame.tz)
            band = {"yhat": later, "yhat_lower": later - half, "yhat_upper": later + half}
            extra |= {f"{name}_{offset.as_configured}": column for name, column in band.items()}
        return Prediction(yhat, yhat - half, yhat + half, extra=extra), state


def _kind(part: Part | None) -> int:
    return NONE if part is None else _KINDS[part]


def _end_ms(frame: Frame, step_ms: int) -> int:
    """Time of the last step of the fit: of a gathered one the middle of its grid times, were it whole."""
    last_ms = int(frame.timestamps_ms[-1])
    return last_ms - last_ms % step_ms + (step_ms - frame.step_ms) // 2 if step_ms > frame.step_ms else last_ms


def _forecast(state: State, timestamps_ms: I64, tz: str) -> F64:
    scalars, season = state.columns["scalars"], state.columns["season"]
    if "period" not in state.columns:
        return _forecast_rows(state, timestamps_ms, tz, scalars, season)
    out = np.empty((state.series.size, timestamps_ms.size))
    for period, rows in rows_by_period(state.columns["period"]):
        own = np.ascontiguousarray(season[rows, :period])
        out[rows] = _forecast_rows(state, timestamps_ms, tz, scalars[rows], own)
    return out


def _forecast_rows(state: State, timestamps_ms: I64, tz: str, scalars: F64, season: F64) -> F64:
    """Expected values of rows with one period; steps are counted on the clock that their season keeps to."""
    step_ms = int(state.shared["step_ms"][0])
    clock_ms = season_clock(np.append(timestamps_ms, state.shared["end_ms"]), season.shape[1] * step_ms, tz)
    steps, rest = np.divmod(clock_ms[:-1] - clock_ms[-1], step_ms)
    out = np.empty((scalars.shape[0], timestamps_ms.size))
    forecast_holt_winters(steps, rest / step_ms, scalars, season, out)
    return out
