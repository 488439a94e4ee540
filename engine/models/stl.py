"""Seasonal and trend decomposition: STL over the fit window, its season and trend carried on point by point."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from engine.frame import F64, I64, Frame, Prediction, State
from engine.models.args import InnerArgs, check_args, honoured
from engine.models.base import Model
from engine.models.civil import laid_out, season_places
from engine.models.mstl import decompose, known_effects, last_by_phase, learn_errors, stretches
from engine.models.periods import find_periods, rows_by_period
from kernels.loess import loess_table
from kernels.seasonal import LARGEST, seasonal_update
from kernels.stl import Tables, fit_stl

Odd = Annotated[int, Meta(ge=3)]
Degree = Annotated[int, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]


class StlArgs(InnerArgs, frozen=True):
    """The arguments that are honoured: those of statsmodels' `STL` and its `fit`, and two of `seasonal_decompose`.

    Lengths of smoothers are odd. By default jumps of trend and low pass are a tenth of their lengths, as in R's `stl`.
    """

    seasonal: Odd = 7
    trend: Odd | None = None
    low_pass: Odd | None = None
    seasonal_deg: Degree = 1
    trend_deg: Degree = 1
    low_pass_deg: Degree = 1
    robust: bool = False
    seasonal_jump: Count = 1
    trend_jump: Count | None = None
    low_pass_jump: Count | None = None
    inner_iter: Count | None = None
    outer_iter: Annotated[int, Meta(ge=0)] | None = None
    model: Literal["additive"] = "additive"
    two_sided: bool = False

    def trend_length(self, period: int) -> int:
        """Points in the trend's neighbourhood."""
        length = math.ceil(1.5 * period / (1 - 1.5 / self.seasonal)) if self.trend is None else self.trend
        return length + (length + 1) % 2

    def low_pass_length(self, period: int) -> int:
        """Points in the low-pass filter's neighbourhood."""
        length = period + 1 if self.low_pass is None else self.low_pass
        return length + (length + 1) % 2

    @property
    def options(self) -> I64:
        """What `stl_decompose` wants to know, in its order."""
        inner = self.inner_iter or (2 if self.robust else 5)
        outer = self.outer_iter if self.outer_iter is not None else 15 if self.robust else 0
        return np.array([self.seasonal_deg, self.trend_deg, self.low_pass_deg, inner, outer], dtype=np.int64)


class SeasonalTrend(Model, frozen=True, kw_only=True, tag_field="class", tag="std"):
    """``class: std``: yhat is trend and seasonal effect, the band `z_threshold` standard deviations of what is left.

    Reproduces vmanomaly's seasonal trend decomposition. A fit is true STL over the window, equal to statsmodels'; then
    each point is predicted from what came before it and learned. Results do not depend, bit for bit, on how rows are
    cut or ordered, nor on how many points come at once.

    Choices where the original's documentation is open:

    - After the fit an error moves trend and the season's phase by the shares that make an exponential mean as old as
      one over STL's neighbourhoods: 2 / (length + 1) of trend and seasonal.
    - The deviation is that of errors one step ahead, of the fit window and since; STL's own residuals have seen their
      points and are smaller. `resid` is this error, `trend` and `seasonal` are from before the point is learned.
    - Phases belong to timestamps: multiples of the step since the epoch, modulo `period`; on the wall clock of the
      query's zone if a season is a number of days. Gaps do not shift them; inside the fit they are filled with season
      and trend of the pass before, as is an hour that the clock skips. Of one that it repeats the second counts.
    - A series with fewer points than two periods is learned point by point, as one that appears between fits. Scores
      count after `min_n_samples_seen` points and two periods.
    - `period: 1` is a level without a season. Several periods are MSTL's decomposition; then the shortest season
      and the trend learn as with one, the longer seasons take their share of the same error.
    - Without `period` each series has its own, found at each fit; a series without a season, or one that appears
      between fits, has period 1.
    """

    fit_by: ClassVar[Literal["time", "rows"]] = "rows"
    is_online: ClassVar[bool] = True
    provides: ClassVar[tuple[str, ...]] = (*Model.provides, "resid", "seasonal", "trend")
    default_series: ClassVar[tuple[str, ...]] = Model.provides
    args_type: ClassVar[type[InnerArgs] | None] = StlArgs

    period: Count | list[Count] | None = None
    z_threshold: Annotated[float, Meta(ge=0)] = 2.5
    min_n_samples_seen: Count = 16
    decay: Annotated[float, Meta(gt=0, le=1)] = 1.0

    @property
    def periods(self) -> tuple[int, ...]:
        """The configured ones, shortest first."""
        given = self.period if isinstance(self.period, list) else [self.period] if self.period else []
        return tuple(sorted(set(given)))

    @property
    def warm_up(self) -> int:
        return max(self.min_n_samples_seen, _n_seasonal((self.periods or (1,))[0]))

    def check(self) -> list[str]:
        """Problems that single fields cannot show, each as key, value, what was expected."""
        problems = check_args(StlArgs, self.args)
        if isinstance(self.period, list) and (len(self.periods) < max(len(self.period), 1) or 1 in self.period[1:]):
            problems.append(f"period: {self.period}, expected different whole numbers above 1")
        return problems or _check_lengths(honoured(StlArgs, self.args), (self.periods or (None,))[-1])

    def fresh(self, series: I64, frame: Frame) -> State:
        return self._fresh(series, (self.periods or (1,))[0])

    def _fresh(self, series: I64, period: int) -> State:
        columns: dict[str, NDArray[Any]] = {name: np.zeros(series.size) for name in ("level", "weight", "m2")}
        columns |= {"seen": np.zeros(series.size, dtype=np.int64), "season": np.full((series.size, period), np.nan)}
        if self.period is None:
            columns["period"] = np.full(series.size, period, dtype=np.int64)
        columns |= {_longer(k): np.zeros((series.size, n)) for k, n in enumerate(self.periods[1:])}
        return State(series, columns)

    def fit_rows(self, frame: Frame) -> State:
        """State of the rows with a value; others are left out."""
        if self.periods:
            state = self._fit(frame, self.periods[0])
        else:
            parts, order = [], []
            for period, rows in rows_by_period(find_periods(frame)):
                part = Frame(frame.series[rows], frame.timestamps_ms, frame.values[rows], frame.step_ms, frame.tz)
                parts.append(self._fit(part, period))
                order.append(rows)
            state = (
                State.concat(parts).take(np.argsort(np.concatenate(order)))
                if parts
                else self.fresh(frame.series, frame)
            )
        return state.take(np.flatnonzero(state.columns["seen"] > 0))

    def _fit(self, frame: Frame, period: int) -> State:
        args = honoured(StlArgs, self.args)
        state = self._fresh(frame.series, period)
        columns = state.columns
        values, places = laid_out(frame.values, season_places(frame, max(period, *self.periods, 1)))
        if len(self.periods) > 1:
            values = self._without_longer(values, places, args, columns)
        tables = smoothers(period, args, max(places.size, 2 * period))
        fit_stl(
            values, places % period, args.options, tables, _gains(args, period), self.decay,
            args.robust, columns["level"], columns["weight"], columns["m2"], columns["seen"], columns["season"],
        )  # fmt: skip
        return state

    def _without_longer(self, values: F64, places: I64, args: StlArgs, columns: Mapping[str, NDArray[Any]]) -> F64:
        """Values less the effects of all seasons but the shortest, whose last ones become columns."""
        values = np.where(np.abs(values) <= LARGEST, values, np.nan)
        known = [period for period in self.periods if places.size >= 2 * period]
        effects, _ = decompose(
            values, known, args.options, lambda k: smoothers(known[k], self._smoothed(k), places.size)
        )
        for k, period in enumerate(known[1:]):
            columns[_longer(k)][:] = last_by_phase(effects[k + 1], places, period)
            values = values - effects[k + 1]
        return values

    def _smoothed(self, k: int) -> StlArgs:
        """The arguments for the k-th of several seasons: MSTL smooths the longer ones over more of their cycles."""
        given = self.args if "seasonal" in self.args else {**self.args, "seasonal": 11 + 4 * k}
        return honoured(StlArgs, given)

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        seen, new = self._seen(state).copy(), state.changeable()
        yhat, half, effect = (np.empty(frame.shape) for _ in range(3))
        if len(self.periods) > 1:
            self._advance_all(frame, new, yhat, half, effect)
        elif self.periods:
            self._advance(
                frame.values, season_places(frame, self.periods[0]) % self.periods[0], new, yhat, half, effect
            )
        else:
            for period, rows in rows_by_period(new["period"]):
                part = {name: column[rows] for name, column in new.items()}
                part["season"] = np.ascontiguousarray(part["season"][:, :period])
                out = [np.empty((rows.size, frame.shape[1])) for _ in range(3)]
                self._advance(frame.values[rows], season_places(frame, period) % period, part, *out)
                yhat[rows], half[rows], effect[rows] = out
                new["season"][rows, :period] = part.pop("season")
                for name, column in part.items():
                    new[name][rows] = column
        parts = {"resid": frame.values - yhat, "seasonal": effect, "trend": yhat - effect}
        extra = {name: parts[name] for name in self.provide_series or () if name in parts}
        prediction = Prediction(yhat, yhat - half, yhat + half, extra=extra, seen=seen, largest=LARGEST)
        return prediction, state.updated(**new)

    def _advance(
        self, values: F64, phases: I64, new: dict[str, NDArray[Any]], yhat: F64, half: F64, effect: F64
    ) -> None:
        """Predict and learn in place; all rows have the season's width as their period."""
        args = honoured(StlArgs, self.args)
        seasonal_update(
            values, phases, _gains(args, new["season"].shape[1]), self.decay, args.robust, self.z_threshold,
            new["level"], new["weight"], new["m2"], new["seen"], new["season"], yhat, half, effect,
        )  # fmt: skip

    def _advance_all(self, frame: Frame, new: dict[str, NDArray[Any]], yhat: F64, half: F64, effect: F64) -> None:
        """As `_advance` with several seasons: the shortest learns what the others leave, these what it leaves."""
        longer = [new[_longer(k)] for k in range(len(self.periods) - 1)]
        places = season_places(frame, self.periods[-1])
        gains = [2.0 / (self._smoothed(k).seasonal + 1) for k in range(1, len(self.periods))]
        for part in stretches(places, self.periods[1]):
            at, values = places[part], frame.values[:, part]
            known = known_effects(longer, at)
            out = [np.empty(known.shape) for _ in range(3)]
            self._advance(values - known, at % self.periods[0], new, *out)
            learn_errors(longer, at, np.where(np.abs(values) <= LARGEST, values - known - out[0], np.nan), gains)
            yhat[:, part], half[:, part], effect[:, part] = out[0] + known, out[1], out[2] + known

    def _seen(self, state: State) -> I64:
        """Points learned, as the warm-up counts them: a row with a season of its own is warm after two of them."""
        seen: I64 = state.columns["seen"]
        if self.period is not None:
            return seen
        period = state.columns["period"]
        needed = np.maximum(np.where(period > 1, 2 * period, 0), self.warm_up)
        shifted: I64 = seen - (needed - self.warm_up)
        return shifted


def _longer(k: int) -> str:
    """Column of the k-th season after the shortest."""
    return f"season_{k + 1}"


def _n_seasonal(period: int) -> int:
    """Points until seasonal effects count."""
    return 2 * period if period > 1 else 0


def _gains(args: StlArgs, period: int) -> F64:
    return np.array([2.0 / (args.trend_length(period) + 1), 2.0 / (args.seasonal + 1)])


@lru_cache(maxsize=8)
def smoothers(period: int, args: StlArgs, n_steps: int) -> Tables:
    """Weights of all smoothers of a window."""
    trend, low_pass = args.trend_length(period), args.low_pass_length(period)
    n_cycles = n_steps // period
    return (
        loess_table(n_cycles + 1, args.seasonal, args.seasonal_deg, args.seasonal_jump, True),
        loess_table(n_cycles, args.seasonal, args.seasonal_deg, args.seasonal_jump, True),
        loess_table(n_steps, trend, args.trend_deg, args.trend_jump or math.ceil(trend / 10), False),
        loess_table(n_steps, low_pass, args.low_pass_deg, args.low_pass_jump or math.ceil(low_pass / 10), False),
    )


def _check_lengths(args: StlArgs, period: int | None) -> list[str]:
    problems = []
    if args.two_sided:
        problems.append("args.two_sided: true, expected false: a point is judged by those before it")
    if args.seasonal % 2 == 0:
        problems.append(f"args.seasonal: {args.seasonal}, expected an odd number >= 3")
    for name in ("trend", "low_pass"):
        length = getattr(args, name)
        if length is not None and period is None:
            problems.append(f"args.{name}: {length}, expected period beside it: periods that are found differ")
        elif length is not None and period is not None and (length % 2 == 0 or length <= period):
            problems.append(f"args.{name}: {length}, expected an odd number above the period ({period})")
    return problems
