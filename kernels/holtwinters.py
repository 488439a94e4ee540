"""Holt-Winters exponential smoothing: the fit of each row, and forecasts from it."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, I64, kernel
from kernels.holtwinters_lanes import ADDITIVE, MULTIPLICATIVE, NONE
from kernels.holtwinters_search import (
    DAMPING,
    FIRST_LEVEL,
    FIRST_TREND,
    LEVEL,
    N_POINTS,
    SEASON_KIND,
    SPREAD,
    TREND,
    TREND_KIND,
    search,
)
from kernels.holtwinters_start import find_start

_LARGEST = 1e150


@kernel
def fit_holt_winters(y: F64, trend_kind: int, season_kind: int, is_damped: bool, scalars: F64, season: F64) -> None:
    """Smoothing parameters with the least sum of squared one-step errors, and the state at the end, of each row.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN, inf or beyond 1e150 is missing: the state advances without a correction.
    trend_kind, season_kind : NONE, ADDITIVE or MULTIPLICATIVE.
    is_damped : whether the trend's damping is searched too, within 0.8 … 0.995; else it is 1.
    scalars : (S, N_SCALARS) out, at the positions that `kernels.holtwinters_search` names. `SPREAD` is the standard
        deviation of the one-step errors, start values and parameters taken off the number of points. A row of fewer
        than two points, or one that nothing fits, has N_POINTS 0.
    season : (S, m) out, the first one is of the step after the last. Zero columns mean no season.

    Notes
    -----
    A row has no season unless its points span two and number one and a half seasons. A row with a value <= 0 has
    additive parts in place of multiplicative ones. Alpha, beta and gamma are as in statsmodels, in the same region:
    beta <= alpha, gamma <= 1 - alpha. Rows are independent. O(S T) with about 320 recursions a row; allocates O(T + m).

    Source: Holt (1957), Winters (1960), damped by Gardner and McKenzie (1985); error correction form of Hyndman et al.
    (2008), Forecasting with Exponential Smoothing, chapter 2.
    """
    n_season = season.shape[1]
    for i in range(y.shape[0]):
        scalars[i] = 0.0
        season[i] = 0.0
        row, is_positive, n_points, first = _clean(y[i])
        if n_points < 2:
            continue
        trend, own = trend_kind, season_kind
        if not is_positive:
            trend, own = min(trend, ADDITIVE), min(own, ADDITIVE)
        last = row.size
        while math.isnan(row[last - 1]):
            last -= 1
        m = n_season
        if own == NONE or n_season < 2 or (last - first) < 2 * n_season or n_points < 1.5 * n_season:
            m, own = 1, NONE
        shift = 0.0 if max(trend, own) == MULTIPLICATIVE else row[first]
        pattern = np.empty(m)
        row = row[first:] - shift
        scalars[i, TREND_KIND], scalars[i, SEASON_KIND] = trend, own
        scalars[i, FIRST_LEVEL], scalars[i, FIRST_TREND] = find_start(row, trend, own, pattern)
        loss = search(row, is_damped and trend != NONE, pattern, scalars[i], season[i])
        if not loss < math.inf:
            continue
        n_free = 2 * (trend != NONE) + 2 + (m + 1) * (own != NONE) + (is_damped and trend != NONE)
        scalars[i, SPREAD] = math.sqrt(loss / max(n_points - n_free, 1))
        scalars[i, LEVEL] += shift
        scalars[i, FIRST_LEVEL] += shift
        scalars[i, N_POINTS] = n_points


@kernel
def _clean(row: F64) -> tuple[F64, bool, int, int]:
    """The row with NaN where it is missing, whether all values are positive, their number, the first one's place."""
    out = np.empty(row.size)
    is_positive, n_points, first = True, 0, row.size
    for t in range(row.size):
        x = row[t]
        out[t] = math.nan
        if abs(x) <= _LARGEST:
            out[t] = x
            is_positive = is_positive and x > 0.0
            first = min(first, t)
            n_points += 1
    return out, is_positive, n_points, first


@kernel
def forecast_holt_winters(steps: I64, part: F64, scalars: F64, season: F64, out: F64) -> None:
    """Expected values at times counted in steps from the end of the fit.

    Parameters
    ----------
    steps : (T,) whole steps after the last one of the fit; 0 or less is inside the fit, where the last level, trend
        and season are carried back.
    part : (T,) in [0, 1), the share of the way to the next step: values between are interpolated.
    scalars, season : as `fit_holt_winters` left them.
    out : (S, T), unit of the query; at most 1e150 in size, however far a factor leads.
    """
    for i in range(scalars.shape[0]):
        for t in range(steps.size):
            value = _forecast(steps[t], scalars[i], season[i])
            if part[t] > 0.0:
                value += part[t] * (_forecast(steps[t] + 1, scalars[i], season[i]) - value)
            out[i, t] = value


@kernel
def _forecast(h: int, scalars: F64, season: F64) -> float:
    level, trend, damping = scalars[LEVEL], scalars[TREND], scalars[DAMPING]
    reach = float(h)
    if h > 0 and damping < 1.0:
        reach = damping * (1.0 - damping**h) / (1.0 - damping)
    value: float = level
    if scalars[TREND_KIND] == ADDITIVE:
        value = level + reach * trend
    elif scalars[TREND_KIND] == MULTIPLICATIVE:
        value = level * trend**reach
    if scalars[SEASON_KIND] == ADDITIVE:
        value += season[(h - 1) % season.size]
    elif scalars[SEASON_KIND] == MULTIPLICATIVE:
        value *= season[(h - 1) % season.size]
    return min(max(value, -_LARGEST), _LARGEST)
