"""Start values of Holt-Winters smoothing, from all whole seasons of a row."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, kernel
from kernels.layout import ends, level_out, two_way

_NONE, _ADDITIVE, _MULTIPLICATIVE = 0, 1, 2
_FIRST_POINTS = 10


@kernel
def find_start(row: F64, trend_kind: int, season_kind: int, pattern: F64) -> tuple[float, float]:
    """Level and trend before the first step; the season's start values are written to `pattern`.

    Parameters
    ----------
    row : (T,), NaN is missing, the first one is not; positive where a kind is multiplicative.
    trend_kind, season_kind : 0 none, 1 additive, 2 multiplicative.
    pattern : (m,) out; m >= 2 with at least two whole seasons in the row, or no season, which leaves it 0.

    Notes
    -----
    With a season: the two-way layout of seasons and phases, fitted by turns, so that gaps do not bias it; the trend is
    that between the first and the last season's mean. Without: a line through the first ten steps.
    """
    if season_kind == _NONE:
        pattern[:] = 0.0
        middle, center, slope = _line(row)
        if trend_kind == _NONE:
            return center, 0.0
        if trend_kind == _ADDITIVE:
            return center - slope * (middle + 1.0), slope
        ratio = _ratio(center, center + slope, 1.0)
        return center / ratio ** (middle + 1.0), ratio
    m = pattern.size
    means = np.empty(row.size // m)
    two_way(row, season_kind == _MULTIPLICATIVE, means, pattern)
    first, last = ends(means)
    slope = (means[last] - means[first]) / (max(last - first, 1) * m)
    level_out(pattern, slope, float(np.nanmean(means)), season_kind == _MULTIPLICATIVE)
    back = first * m + 0.5 * (m + 1)
    if trend_kind == _NONE:
        return means[first], 0.0
    if trend_kind == _ADDITIVE:
        return means[first] - slope * back, slope
    ratio = _ratio(means[first], means[last], float(max(last - first, 1) * m))
    return means[first] / ratio**back, ratio


@kernel
def _ratio(first: float, last: float, n_steps: float) -> float:
    """Growth a step; 1 where a value is not positive."""
    return (last / first) ** (1.0 / n_steps) if first > 0.0 and last > 0.0 else 1.0


@kernel
def _line(row: F64) -> tuple[float, float, float]:
    """Mean time and mean of the first steps' values, and the slope of the line of least squares."""
    n, time, total = 0.0, 0.0, 0.0
    stop = min(_FIRST_POINTS, row.size)
    for t in range(stop):
        if not math.isnan(row[t]):
            n, time, total = n + 1.0, time + t, total + row[t]
    middle, center = time / n, total / n
    above, below = 0.0, 0.0
    for t in range(stop):
        if not math.isnan(row[t]):
            above += (t - middle) * (row[t] - center)
            below += (t - middle) ** 2
    return middle, center, above / below if below > 0.0 else 0.0
