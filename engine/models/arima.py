"""ARIMA: each value from the last ones and their errors, all series of a block in one kernel call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from engine.frame import F64, I64, Frame, Prediction, State
from engine.models.args import InnerArgs, check_args, honoured
from engine.models.base import Model
from engine.models.prophet_compress import compress
from engine.settings import Duration
from kernels.arima import Orders
from kernels.arima_fit import fit_arima
from kernels.arima_run import run_arima

Order = Annotated[int, Meta(ge=0)]
# A polynomial of this degree is as far as differences and seasons may reach back.
_FURTHEST = 4096
_NO_SEASON = [0, 0, 0, 0]
# What a series without a fit has seen: no number of points lets its score count.
_NEVER = -(2**62)


class ArimaArgs(InnerArgs, frozen=True):
    """The arguments of statsmodels' `ARIMA` that are honoured; `trend` is "c" without differences, else "n"."""

    neutral: ClassVar[frozenset[str]] = frozenset(
        {"concentrate_scale", "dates", "freq", "missing", "validate_specification"}
    )

    trend: Literal["n", "c", "t"] | None = None
    seasonal_order: list[Order] = []


class Arima(Model, frozen=True, kw_only=True, tag_field="class", tag="arima"):
    """``class: arima``: yhat is the one-step prediction, the band `z_threshold` standard deviations of its errors.

    Removed from vmanomaly in 1.12, where statsmodels' ARIMA predicted ever further ahead from the end of a fit. Here
    the parameters are those of the last fit, but the values and errors that a prediction starts from follow every
    point, so it stays one step ahead. Series that are new wait for the next fit. Further choices:

    - Parameters have the least sum of squared one-step errors, with the errors before the first one found beside
      them, inside the stationary and invertible region; statsmodels' are the most likely ones.
    - A missing value is its own prediction; the band widens until a value comes.
    - `trend`: "c" is a mean, which differences take away; "t", with one difference, a drift; "n" nothing.
      `seasonal_order` is [P, D, Q, s].
    - `resample_freq` longer than the query's step fits and predicts means over that time; each point is compared with
      the prediction for its time span from the spans before.
    """

    fit_by: ClassVar[Literal["time", "rows"]] = "rows"
    is_online: ClassVar[bool] = True
    forecasts: ClassVar[bool] = True
    args_type: ClassVar[type[InnerArgs] | None] = ArimaArgs

    order: list[Order]
    z_threshold: Annotated[float, Meta(ge=0)] = 2.5
    resample_freq: Duration | None = None

    @property
    def warm_up(self) -> int:
        return 1

    def check(self) -> list[str]:
        """Problems that single fields cannot show, each as key, value, what was expected."""
        if len(self.order) != 3:
            return [f"order: {self.order}, expected three whole numbers [p, d, q]"]
        if problems := check_args(ArimaArgs, self.args):
            return problems
        args = honoured(ArimaArgs, self.args)
        season, n_differences = args.seasonal_order, self.order[1] + (args.seasonal_order or [0, 0])[1]
        if self._degree(_NO_SEASON) > _FURTHEST:
            problems.append(f"order: {self.order}, expected to reach back at most {_FURTHEST} points")
        elif season and (len(season) != 4 or (any(season[:3]) and season[3] < 2)):
            problems.append(f"args.seasonal_order: {season}, expected four whole numbers [P, D, Q, s], s at least 2")
        elif self._degree(season or _NO_SEASON) > _FURTHEST:
            problems.append(f"args.seasonal_order: {season}, expected to reach back at most {_FURTHEST} points")
        if args.trend == "t" and n_differences != 1:
            problems.append("args.trend: t, expected c or n: a drift needs exactly one difference")
        if self.resample_freq is not None and self.resample_freq <= 0:
            problems.append(f"resample_freq: {self.resample_freq}, expected a time like 5m")
        problems += [f"forecast_at: {o}, expected a time ahead like 1h" for o in self.forecast_at if o <= 0]
        return problems

    def orders(self) -> Orders:
        """The model as the kernels take it."""
        args = honoured(ArimaArgs, self.args)
        sp, sd, sq, period = args.seasonal_order or _NO_SEASON
        p, d, q = self.order
        difference = np.ones(1)
        for lag, times in ((1, d), (period, sd)):
            factor = np.zeros(lag + 1)
            factor[0], factor[lag] = 1.0, -1.0
            for _ in range(times):
                difference = np.convolve(difference, factor)
        trend = args.trend or ("n" if d + sd else "c")
        has_mean = trend == "t" or (trend == "c" and not d + sd)
        return Orders(p, q, sp, sq, max(period, 1), int(has_mean), difference)

    def _degree(self, season: list[int]) -> int:
        """Differences and what a prediction looks back at together: numbers only, as nothing has bounded them yet."""
        (p, d, q), (sp, sd, sq, period) = self.order, season
        difference = d + sd * period
        return 1 + difference + max(p + sp * period + difference, q + sq * period, 1)

    def _columns(self, n_series: int) -> dict[str, NDArray[Any]]:
        o = self.orders()
        # How many values and errors a prediction looks back at.
        reach = max(o.p + o.sp * o.period + o.difference.size - 1, o.q + o.sq * o.period, 1)
        return {
            "raw": np.zeros((n_series, o.p + o.q + o.sp + o.sq + o.has_mean)),
            "sigma": np.zeros(n_series),
            "points": np.zeros(n_series, dtype=np.int64),
            "history": np.zeros((n_series, reach)),
            "errors": np.zeros((n_series, reach)),
            # Number of the present time span, sum and count of its values so far, spans without one before it.
            "span": np.zeros((n_series, 4)),
        }

    def fresh(self, series: I64, frame: Frame) -> State:
        """Rows that predict nothing until the next fit."""
        return State(series, self._columns(series.size))

    def fit_rows(self, frame: Frame) -> State:
        """State of the rows with enough points for the parameters; others are left out."""
        step_ms = max(self.resample_freq or 0, frame.step_ms)
        gathered = compress(frame, step_ms, is_median=False)
        columns = self._columns(frame.shape[0])
        values = np.where(np.abs(gathered.values) <= 1e150, gathered.values, np.nan)
        out = [columns[name] for name in ("raw", "sigma", "points", "history", "errors")]
        fit_arima(values, self.orders(), *out)
        columns["span"][:, 0] = int(frame.timestamps_ms[-1]) // step_ms + 1
        return State(frame.series, columns).take(np.flatnonzero(columns["points"] > 0))

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        new: Mapping[str, NDArray[Any]] = {name: column.copy() for name, column in state.columns.items()}
        step_ms = max(self.resample_freq or 0, frame.step_ms)
        ahead = np.array([max(int(offset) // step_ms, 1) for offset in self.forecast_at], dtype=np.int64)
        spans = frame.timestamps_ms // step_ms
        out, later = np.full((2, *frame.shape), np.nan), np.full((2, ahead.size, *frame.shape), np.nan)
        values = np.where(np.abs(frame.values) <= 1e150, frame.values, np.nan)
        fitted = new["raw"], new["sigma"], new["points"]
        state_of = new["history"], new["errors"], new["span"]
        run_arima(values, spans, self.orders(), *fitted, *state_of, ahead, out, later)
        extra: dict[str, F64] = {}
        for j, offset in enumerate(self.forecast_at):
            center, half = later[0, j], self.z_threshold * later[1, j]
            band = {"yhat": center, "yhat_lower": center - half, "yhat_upper": center + half}
            extra |= {f"{name}_{offset.as_configured}": column for name, column in band.items()}
        half = self.z_threshold * out[1]
        seen = np.where(state.columns["points"] > 0, 1, _NEVER)
        return Prediction(out[0], out[0] - half, out[0] + half, extra=extra, seen=seen), state.updated(**new)
