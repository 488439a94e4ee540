"""What a series brings to its fit: its own points, scale, changepoints, regressors and start."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kernels._jit import B1, F64, I64, inline, kernel
from kernels.changepoint_step import N_POINT_ROWS, N_VECTORS, PRECISION, SIGMA_MIN, THETA, TIME, VALUE

# Standard deviation of the priors of slope and offset.
_TREND_SCALE = 5.0

# Kinds of growth.
LINEAR, LOGISTIC, FLAT = 0.0, 1.0, 2.0
# Positions in `options`.
GROWTH, N_CHANGEPOINTS, CHANGEPOINT_RANGE, CHANGEPOINT_SCALE, IS_MINMAX, CAP, FLOOR = range(7)
# Rows of `rules`.
PRIOR_SCALE, IS_FACTOR, MIN_SPAN, MAX_SPACING = range(4)
# Columns of `scalars`.
START, SPAN, SHIFT, SCALE, SLOPE, OFFSET, SIGMA, N_CHANGES, N_POINTS = range(9)


class Room(NamedTuple):
    """Work space of a fit of one row after the other; N is the number of a row's own points, P = 2 + K + C.

    columns (K, T) : the regressors. is_factor, enabled (K,) : those that multiply the trend, and that the row has.
    steps (T,) : the row's own, the first N are filled. starts (C + 2,) : positions in `steps`, as `find_starts` says.
    points (N_POINT_ROWS, T), vectors (N_VECTORS, P) : rows as `changepoint_step` names them.
    gram, shared (P, P) : normal equations, and those of all rows with the same points. table (P, P + 1), active (P,).
    products, total (K, K) : sums of products of the regressors. sums (C + 2, 3 + 2 K) : of segments.
    """

    columns: F64
    is_factor: B1
    enabled: B1
    steps: I64
    starts: I64
    points: F64
    vectors: F64
    gram: F64
    shared: F64
    table: F64
    active: B1
    products: F64
    total: F64
    sums: F64


def make_room(features: F64, rules: F64, n_changes: int) -> Room:
    """Work space for regressors (T, K) under `rules`, and so many changepoints."""
    n_steps, n_features = features.shape
    size = 2 + n_features + n_changes
    vectors = np.zeros((N_VECTORS, size))
    vectors[PRECISION, :2] = _TREND_SCALE**-2
    vectors[PRECISION, 2 : 2 + n_features] = rules[PRIOR_SCALE] ** -2
    return Room(
        columns=np.ascontiguousarray(features.T),
        is_factor=rules[IS_FACTOR] != 0.0,
        enabled=np.zeros(n_features, dtype=np.bool_),
        steps=np.empty(n_steps, dtype=np.int64),
        starts=np.empty(n_changes + 2, dtype=np.int64),
        points=np.zeros((N_POINT_ROWS, n_steps)),
        vectors=vectors,
        gram=np.empty((size, size)),
        shared=np.empty((size, size)),
        table=np.empty((size, size + 1)),
        active=np.empty(size, dtype=np.bool_),
        products=np.empty((n_features, n_features)),
        total=np.zeros((n_features, n_features)),
        sums=np.empty((n_changes + 2, 3 + 2 * n_features)),
    )


@inline
def read_row(row: F64, time: F64, options: F64, where: I64, points: F64, scalars: F64) -> int:
    """A row's own points, scaled: their steps, times from 0 to 1 and values. Returns how many there are."""
    n = 0
    lowest, highest = math.inf, -math.inf
    for i in range(row.size):
        if math.isfinite(row[i]):
            where[n] = i
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
        points[TIME, q] = (time[where[q]] - start) / span
        points[VALUE, q] = (row[where[q]] - shift) / scale
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
def start_search(is_logistic: bool, cap: float, z: F64, n: int, theta: F64) -> None:
    """Where the search starts: the mean, for logistic growth the curve through the first and last point."""
    theta[:] = 0.0
    if not is_logistic:
        total = 0.0
        for q in range(n):
            total += z[q]
        theta[1] = total / n
        return
    first = cap / max(0.01 * cap, min(0.99 * cap, z[0]))
    last = cap / max(0.01 * cap, min(0.99 * cap, z[n - 1]))
    if abs(first - last) <= 0.01:
        first *= 1.05
    log_first, log_last = math.log(first - 1.0), math.log(last - 1.0)
    theta[0] = log_first - log_last
    theta[1] = log_first / (log_first - log_last)


@kernel
def begin_row(
    row: F64, time: F64, rules: F64, options: F64, given: F64, room: Room, scalars: F64, changepoints: F64
) -> int:
    """All that the search for a row's parameters starts from. Returns how many points it has, 0 if none is needed."""
    points = room.points
    n = read_row(row, time, options, room.steps, points, scalars)
    if n < 2:
        return 0
    start, span = scalars[START], scalars[SPAN]
    scalars[N_CHANGES] = place_changepoints(points[TIME], n, options, given, start, span, changepoints)
    if scalars[SIGMA] > 0.0:
        return 0
    is_logistic, cap = options[GROWTH] == LOGISTIC, scaled_cap(options, scalars)
    if is_logistic and not cap > 0.0:
        scalars[N_POINTS] = 0.0
        return 0
    find_starts(points[TIME], n, changepoints, room.starts)
    enable(rules, points[TIME], n, span, room.enabled)
    start_search(is_logistic, cap, points[VALUE], n, room.vectors[THETA])
    return n


@inline
def scaled_cap(options: F64, scalars: F64) -> float:
    """The cap of logistic growth in the scale of a row."""
    cap: float = (options[CAP] - scalars[SHIFT]) / scalars[SCALE]
    return cap


@inline
def keep_row(theta: F64, variance: float, scalars: F64, coefficients: F64, changes: F64) -> None:
    """Give a row the parameters that were found; one whose are not finite keeps N_POINTS = 0."""
    total = variance
    for j in range(theta.size):
        total += theta[j]
    if not math.isfinite(total):
        scalars[N_POINTS] = 0.0
        return
    scalars[SLOPE], scalars[OFFSET], scalars[SIGMA] = theta[0], theta[1], math.sqrt(variance)
    for k in range(coefficients.size):
        coefficients[k] = theta[2 + k]
    for j in range(changes.size):
        changes[j] = theta[2 + coefficients.size + j]
