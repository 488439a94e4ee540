"""Seasonal and trend decomposition by LOESS, of rows with gaps too, and the state that goes on from it."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, I64, kernel
from kernels.layout import ends, level_out, two_way
from kernels.loess import Table, smooth, smooth_cycles
from kernels.seasonal import LARGEST, advance_row

# A decomposition's smoothers: of long and short subseries of phases, of the trend, of the low-pass filter.
Tables = tuple[Table, Table, Table, Table]
# Positions in the options.
SEASONAL_DEGREE, TREND_DEGREE, LOW_PASS_DEGREE, INNER, OUTER = range(5)


@kernel
def stl_decompose(row: F64, period: int, options: I64, tables: Tables, season: F64, trend: F64, weights: F64) -> None:
    """Season, trend and robustness weights of one row.

    Parameters
    ----------
    row : (n,) with n >= 2 period; NaN is missing: filled with season and trend of the pass before, so that it has no
        residual.
    options : degrees of the three smoothers, passes of the inner loop, passes of the outer (robust) loop.
    tables : from `loess_table`: subseries of the phases before n mod period, with ends; of the others, with ends; of
        the trend; of the low-pass filter.
    season, trend, weights : (n,) out. Weights are those of the last pass, 1 without an outer loop.

    Notes
    -----
    O(n) times the lengths of trend and low pass for each inner pass. Allocates O(n + period).

    Source: Cleveland, Cleveland, McRae, Terpenning (1990), STL, J. Official Statistics 6, 3-73.
    """
    n = row.size
    y, missing = np.empty(n), np.empty(n, dtype=np.int64)
    n_missing = _fill(row, period, y, missing)
    work, cycles, filtered = np.empty(n + 2 * period), np.empty(n + 2 * period), np.empty(n + 2 * period)
    sums = np.empty((5, period))
    weights[:] = 1.0
    trend[:] = 0.0
    n_long = n % period
    for k in range(options[OUTER] + 1):
        for _ in range(options[INNER]):
            for i in range(n):
                work[i] = y[i] - trend[i]
            degree = options[SEASONAL_DEGREE]
            if n_long > 0:
                smooth_cycles(work, weights, k > 0, degree, period, 0, n_long, tables[0], sums, cycles)
            smooth_cycles(work, weights, k > 0, degree, period, n_long, period, tables[1], sums, cycles)
            _moving_mean(cycles, n + 2 * period, period, filtered)
            _moving_mean(filtered, n + period + 1, period, work)
            _moving_mean(work, n + 2, 3, filtered)
            smooth(filtered, weights, False, options[LOW_PASS_DEGREE], tables[3], work[:n])
            for i in range(n):
                season[i] = cycles[period + i] - work[i]
                work[i] = y[i] - season[i]
            smooth(work[:n], weights, k > 0, options[TREND_DEGREE], tables[2], trend)
            for g in range(n_missing):
                y[missing[g]] = season[missing[g]] + trend[missing[g]]
        if k < options[OUTER]:
            _robustness(row, season, trend, work[:n], weights)


@kernel
def _fill(row: F64, period: int, y: F64, missing: I64) -> int:
    """Values with gaps filled by the effect of the phase on top of a line across the gap; the number of gaps."""
    n, n_missing = row.size, 0
    for t in range(n):
        y[t] = row[t]
        if math.isnan(row[t]):
            missing[n_missing] = t
            n_missing += 1
    if n_missing == 0:
        return 0
    effects, means = np.empty(period), np.empty(n // period)
    two_way(row, False, means, effects)
    first, final = ends(means)
    if final > first:
        level_out(effects, (means[final] - means[first]) / ((final - first) * period), 0.0, False)
    last = -1
    for t in range(n + 1):
        if t < n and math.isnan(row[t]):
            continue
        right = row[t] - effects[t % period] if t < n else row[last] - effects[last % period]
        left = row[last] - effects[last % period] if last >= 0 else right
        for i in range(last + 1, t):
            y[i] = left + (right - left) * ((i - last) / (t - last)) + effects[i % period]
        last = t
    return n_missing


@kernel
def _moving_mean(x: F64, n: int, length: int, out: F64) -> None:
    total = 0.0
    for i in range(length):
        total += x[i]
    out[0] = total / length
    for i in range(1, n - length + 1):
        total += x[i + length - 1] - x[i - 1]
        out[i] = total / length


@kernel
def _robustness(row: F64, season: F64, trend: F64, work: F64, weights: F64) -> None:
    """Bisquare weights of the residuals about six times their median; 1 for what was filled in."""
    n_points = 0
    for i in range(row.size):
        weights[i] = abs(row[i] - season[i] - trend[i])
        if not math.isnan(weights[i]):
            work[n_points] = weights[i]
            n_points += 1
    limit = 6.0 * np.median(work[:n_points])
    for i in range(row.size):
        r = weights[i]
        weights[i] = 1.0
        if limit > 0.0 and r > 0.001 * limit:
            weights[i] = (1.0 - (r / limit) ** 2) ** 2 if r <= 0.999 * limit else 0.0


@kernel
def fit_stl(
    y: F64, phases: I64, options: I64, tables: Tables, gains: F64, decay: float, is_robust: bool,
    level: F64, weight: F64, m2: F64, seen: I64, season: F64,
) -> None:  # fmt: skip
    """Decompose each row and leave a state that `seasonal_update` goes on from.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN, inf or beyond 1e150 is missing. T >= 2 period, or no row is decomposed.
    phases, gains, decay, is_robust, level, weight, m2, seen, season : as `seasonal_update` takes them; a fresh state,
        updated.

    Notes
    -----
    The state's season is the last whole one of the decomposition, its level the trend's end. Its spread is that of the
    errors that `seasonal_update` makes over the row from the decomposition's start: residuals of a decomposition have
    seen their own points and are smaller. A row of fewer points than two periods is learned point by point.
    """
    n, period = y.shape[1], season.shape[1]
    own, trend, weights, row = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for i in range(y.shape[0]):
        n_points, shift = _center(y[i], row)
        state = np.zeros(3)
        if n_points < 2 * period or period == 1:
            seen[i] = advance_row(row, phases, gains, decay, is_robust, 1.0, state, 0, season[i], own, trend, weights)
        else:
            stl_decompose(row, period, options, tables, own, trend, weights)
            for t in range(period):
                season[i, phases[t]] = own[t]
            state[0] = trend[0]
            last, end = own[n - period :].copy(), trend[n - 1]
            advance_row(row, phases, gains, decay, is_robust, 1.0, state, n_points, season[i], own, trend, weights)
            for t in range(period):
                season[i, phases[n - period + t]] = last[t]
            state[0], seen[i] = end, n_points
        level[i], weight[i], m2[i] = state[0] + shift, state[1], state[2]


@kernel
def _center(y: F64, out: F64) -> tuple[int, float]:
    """The row less its first value, NaN where it is missing; the number of values, and the first."""
    n_points, shift = 0, 0.0
    for t in range(y.size):
        out[t] = math.nan
        if abs(y[t]) <= LARGEST:
            if n_points == 0:
                shift = y[t]
            out[t] = y[t] - shift
            n_points += 1
    return n_points, shift
