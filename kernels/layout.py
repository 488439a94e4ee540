"""Whole seasons of a row as a two-way layout of seasons and phases."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, kernel

_MAX_PASSES = 20


@kernel
def two_way(row: F64, is_factor: bool, means: F64, pattern: F64) -> None:
    """Means of seasons and effects of phases, fitted by turns, so that gaps bias neither.

    Parameters
    ----------
    row : (T,), NaN is missing; positive if `is_factor`. The phase of the step t is t mod m.
    is_factor : effects are factors instead of summands.
    means : (T // m,) out, of the whole seasons; NaN for one without a value.
    pattern : (m,) out, neutral (0 or 1) for a phase without a value.

    Source: the two-way layout; Tukey (1977), Exploratory Data Analysis, chapter 10, with means.
    """
    m, n_seasons = pattern.size, means.size
    neutral = 1.0 if is_factor else 0.0
    pattern[:] = neutral
    totals, counts = np.empty(m), np.empty(m)
    n_passes = _MAX_PASSES if is_factor or np.isnan(row[: n_seasons * m]).any() else 1
    for _ in range(n_passes):
        totals[:], counts[:] = 0.0, 0.0
        for k in range(n_seasons):
            total, count = 0.0, 0.0
            for j in range(m):
                x = row[k * m + j]
                if not math.isnan(x):
                    total += x / pattern[j] if is_factor else x - pattern[j]
                    count += 1.0
            means[k] = total / count if count > 0.0 else math.nan
            for j in range(m):
                x = row[k * m + j]
                if not math.isnan(x):
                    totals[j] += x / means[k] if is_factor else x - means[k]
                    counts[j] += 1.0
        moved, size = 0.0, 0.0
        for j in range(m):
            new = totals[j] / counts[j] if counts[j] > 0.0 else neutral
            moved, size = max(moved, abs(new - pattern[j])), max(size, abs(new - neutral))
            pattern[j] = new
        if moved <= 1e-6 * size:
            break


@kernel
def ends(means: F64) -> tuple[int, int]:
    """Positions of the first and the last season that has a mean."""
    first, last = 0, means.size - 1
    while math.isnan(means[first]) and first < last:
        first += 1
    while math.isnan(means[last]) and first < last:
        last -= 1
    return first, last


@kernel
def level_out(pattern: F64, slope: float, mean: float, is_factor: bool) -> None:
    """Take the trend within a season off its pattern."""
    m = pattern.size
    for j in range(m):
        rise = slope * (j - 0.5 * (m - 1))
        if not is_factor:
            pattern[j] -= rise
        elif mean + rise > 0.1 * mean:
            pattern[j] *= mean / (mean + rise)
