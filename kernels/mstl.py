"""STL of all rows for one of several seasons: a step of MSTL."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, I64, kernel
from kernels.stl import Tables, stl_decompose


@kernel
def stl_rows(y: F64, period: int, options: I64, tables: Tables, season: F64, trend: F64) -> None:
    """Season and trend of each row; a row of fewer points than two periods has no season, and its trend is left.

    Parameters
    ----------
    y : (S, n) with n >= 2 period; NaN is missing.
    season, trend : (S, n) out.
    """
    n = y.shape[1]
    weights = np.empty(n)
    for i in range(y.shape[0]):
        n_points = 0
        for t in range(n):
            n_points += not math.isnan(y[i, t])
        season[i] = 0.0
        if n_points >= 2 * period:
            stl_decompose(y[i], period, options, tables, season[i], trend[i], weights)
