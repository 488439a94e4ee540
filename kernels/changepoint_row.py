"""What a series brings to its fit: its own points, scale, changepoints, regressors and start."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import B1, F64, I64, inline
from kernels.changepoint_posterior import SIGMA_MIN, TIME, VALUE

# Kinds of growth.
LINEAR, LOGISTIC, FLAT = 0.0, 1.0, 2.0
# Positions in `options`.
GROWTH, N_CHANGEPOINTS, CHANGEPOINT_RANGE, CHANGEPOINT_SCALE, IS_MINMAX, CAP, FLOOR = range(7)
# Rows of `rules`.
PRIOR_SCALE, IS_FACTOR, MIN_SPAN, MAX_SPACING = range(4)
# Columns of `scalars`.
START, SPAN, SHIFT, SCALE, SLOPE, OFFSET, SIGMA, N_CHANGES, N_POINTS = range(9)


@inline
def read_row(row: F64, time: F64, options: F64, where: I64, points: F64, scalars: F64) -> int:
    """A row's own points, scaled: their steps, times from 0 to 1 and values. Returns how many there are."""
    n = 0
    lowest, highest = math.inf, -math.inf
    for i in range(row.size):
        if math.isfinite(row[i]):
            where[n], points[TIME, n], points[VALUE, n] = i, time[i], row[i]
            n += 1
            lowest, highest = min(lowest, row[i]), max(highest, row[i])
    if n < 2:
        return n
    start, span = time[where[0]], time[where[n - 1]] - time[where[0]]
    has_floor = options[GROWTH] == LOGISTIC and math.isfinite(options[FLOOR])
    is_minmax = options[IS_MINMAX] != 0.0
    shift = options[FLOOR] if has_floor else (lowest if is_minmax else 0.0)
    scale = max(abs(lowest - shift), abs(highest - shift))
    if has_floor and is_minmax:
        scale = options[CAP] - shift
    if scale == 0.0:
        scale = 1.0
    for q in range(n):
        points[TIME, q] = (points[TIME, q] - start) / span
        points[VALUE, q] = (points[VALUE, q] - shift) / scale
    scalars[START], scalars[SPAN], scalars[SHIFT], scalars[SCALE] = start, span, shift, scale
    scalars[N_POINTS] = n
    if lowest == highest and options[GROWTH] != LOGISTIC:
        scalars[OFFSET], scalars[SIGMA] = points[VALUE, 0], SIGMA_MIN
    return n


@inline
def place_changepoints(time: F64, n: int, options: F64, given: F64, start: float, span: float, out: F64) -> int:
    """Changepoints of a row in its scaled time; unused ones lie past the end. Returns how many there are.

    Without given ones they are spread evenly by position over the first part of the row's own points.
    """
    out[:] = 2.0
    count = 0
    if options[GROWTH] == FLAT:
        return 0
    if given.size > 0:
        for c in given:
            scaled = (c - start) / span
            if 0.0 <= scaled <= 1.0:
                out[count] = scaled
                count += 1
        return count
    history: int = math.floor(n * options[CHANGEPOINT_RANGE])
    count = min(int(options[N_CHANGEPOINTS]), history - 1)
    if count <= 0:
        return 0
    stride = (history - 1) / count
    for j in range(count):
        position = history - 1 if j == count - 1 else int(np.rint((j + 1) * stride))
        out[j] = time[position]
    return count


@inline
def find_starts(time: F64, n: int, changepoints: F64, out: I64) -> None:
    """Position of the first point at or after each changepoint, between 0 and n."""
    out[0] = 0
    out[changepoints.size + 1] = n
    q = 0
    for j in range(changepoints.size):
        while q < n and time[q] < changepoints[j]:
            q += 1
        out[j + 1] = q


@inline
def enable(rules: F64, time: F64, n: int, span: float, out: B1) -> None:
    """Which regressors a row has: by its span and its closest spacing."""
    spacing = math.inf
    for q in range(1, n):
        spacing = min(spacing, (time[q] - time[q - 1]) * span)
    for k in range(out.size):
        # Half a millisecond of slack: times are fractions of days.
        out[k] = span >= rules[MIN_SPAN, k] - 5e-9 and spacing < rules[MAX_SPACING, k] - 5e-9


@inline
def start_search(growth: float, cap: float, z: F64, n: int, x: F64) -> None:
    """Where the search starts, as in Prophet: the trend through the first and the last point, flat at the mean."""
    x[:] = 0.0
    if growth == FLAT:
        for q in range(n):
            x[1] += z[q] / n
    elif growth == LINEAR:
        x[0], x[1] = z[n - 1] - z[0], z[0]
    else:
        first = cap / max(0.01 * cap, min(0.99 * cap, z[0]))
        last = cap / max(0.01 * cap, min(0.99 * cap, z[n - 1]))
        if abs(first - last) <= 0.01:
            first *= 1.05
        log_first, log_last = math.log(first - 1.0), math.log(last - 1.0)
        x[0] = log_first - log_last
        x[1] = log_first / (log_first - log_last)
