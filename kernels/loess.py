"""LOESS on a regular grid as shared tables of weights: tricube neighbourhoods, local constants or lines."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, I64, fast_kernel, kernel

# Where to evaluate, first neighbour and row of weights there; tricube weights; weights of the smoother they make.
Table = tuple[I64, I64, I64, F64, F64]


@kernel
def loess_table(n: int, length: int, degree: int, jump: int, has_ends: bool) -> Table:
    """Weights of all evaluations of a smoother over n points, n >= 2; interior ones share a row.

    Parameters
    ----------
    length : points in a neighbourhood, odd; may exceed n, which widens the tricube.
    degree : 0 local constant, 1 local line.
    jump : distance of evaluations; the last point is always one.
    has_ends : evaluate one step before the first and after the last point too; these come last in the table.

    Notes
    -----
    Source: Cleveland, Cleveland, McRae, Terpenning (1990), and their Fortran's window for the last point after a jump.
    """
    step = min(jump, n - 1)
    q = min(length, n)
    n_grid = (n - 1) // step + 1
    is_extra = (n - 1) % step > 0
    size = n_grid + int(is_extra) + 2 * int(has_ends)
    at, left, row = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    for e in range(n_grid):
        at[e] = e * step
        left[e] = min(max(at[e] + 1 - (length + 1) // 2, 0), n - q)
    if is_extra:
        at[n_grid], left[n_grid] = n - 1, left[n_grid - 1]
    if has_ends:
        at[size - 2], left[size - 2] = -1, 0
        at[size - 1], left[size - 1] = n, n - q
    n_rows, interior = 0, -1
    for e in range(size):
        is_interior = length < n and at[e] - left[e] == (length - 1) // 2
        if is_interior and interior >= 0:
            row[e] = interior
            continue
        if is_interior:
            interior = n_rows
        row[e] = n_rows
        n_rows += 1
    tricube, smoother = np.empty((n_rows, q)), np.empty((n_rows, q))
    for e in range(size):
        _weights(float(at[e]), left[e], n, length, degree, tricube[row[e]], smoother[row[e]])
    return at, left, row, tricube, smoother


@kernel
def _weights(x: float, left: int, n: int, length: int, degree: int, tricube: F64, smoother: F64) -> None:
    q = tricube.size
    h = max(x - left, left + q - 1 - x)
    if length > n:
        h += (length - n) // 2
    for c in range(q):
        r = abs(left + c - x)
        tricube[c] = 0.0
        if r <= 0.999 * h:
            tricube[c] = (1.0 - (r / h) ** 3) ** 3 if r > 0.001 * h else 1.0
    smoother[:] = tricube / tricube.sum()
    if degree > 0:
        mean = 0.0
        for c in range(q):
            mean += smoother[c] * (c + left - x)
        spread = 0.0
        for c in range(q):
            spread += smoother[c] * (c + left - x - mean) ** 2
        if math.sqrt(spread) > 0.001 * (n - 1):
            for c in range(q):
                smoother[c] *= 1.0 - mean / spread * (c + left - x - mean)


@fast_kernel
def smooth(y: F64, weights: F64, is_weighted: bool, degree: int, table: Table, out: F64) -> None:
    """Smooth a series.

    Parameters
    ----------
    y, weights, out : (n,); a neighbourhood without weight keeps the point's own value.
    table : of `loess_table` for n points, without ends.
    """
    at, left, row, tricube, smoother = table
    n, q = out.size, tricube.shape[1]
    e = 0
    while e < at.size:
        first = left[e]
        if is_weighted:
            s0, s1, s2, t0, t1 = 0.0, 0.0, 0.0, 0.0, 0.0
            w = tricube[row[e]]
            for c in range(q):
                a = w[c] * weights[first + c]
                d = float(first + c - at[e])
                ad = a * d
                s0 += a
                s1 += ad
                s2 += ad * d
                t0 += a * y[first + c]
                t1 += ad * y[first + c]
            out[at[e]] = _local(s0, s1, s2, t0, t1, degree, n, y[at[e]])
            e += 1
        elif e + 4 <= at.size and row[e] == row[e + 1] == row[e + 2] == row[e + 3]:
            _four_sums(y, smoother[row[e]], left[e : e + 4], at[e : e + 4], out)
            e += 4
        else:
            total = 0.0
            w = smoother[row[e]]
            for c in range(q):
                total += w[c] * y[first + c]
            out[at[e]] = total
            e += 1
    for e in range(1, at.size):
        if at[e] - at[e - 1] > 1:
            slope = (out[at[e]] - out[at[e - 1]]) / (at[e] - at[e - 1])
            for i in range(at[e - 1] + 1, at[e]):
                out[i] = out[at[e - 1]] + slope * (i - at[e - 1])


@fast_kernel
def _four_sums(y: F64, w: F64, left: I64, at: I64, out: F64) -> None:
    """Evaluations that share their weights: each weight is read once for four of them."""
    q = w.size
    y0, y1, y2, y3 = y[left[0] :][:q], y[left[1] :][:q], y[left[2] :][:q], y[left[3] :][:q]
    t0, t1, t2, t3 = 0.0, 0.0, 0.0, 0.0
    for c in range(q):
        t0 += w[c] * y0[c]
        t1 += w[c] * y1[c]
        t2 += w[c] * y2[c]
        t3 += w[c] * y3[c]
    out[at[0]], out[at[1]], out[at[2]], out[at[3]] = t0, t1, t2, t3


@kernel
def _local(s0: float, s1: float, s2: float, t0: float, t1: float, degree: int, n: int, own: float) -> float:
    """The local fit from moments of weights and values about the place of evaluation."""
    if s0 <= 0.0:
        return own
    mean = s1 / s0
    spread = s2 / s0 - mean * mean
    if degree == 0 or spread <= (0.001 * (n - 1)) ** 2:
        return t0 / s0
    return t0 / s0 - mean / spread * (t1 / s0 - mean * (t0 / s0))


@fast_kernel
def smooth_cycles(
    y: F64, weights: F64, is_weighted: bool, degree: int, period: int, first: int, last: int, table: Table, sums: F64,
    out: F64,
) -> None:  # fmt: skip
    """Smooth the subseries of the phases first … last - 1 of a season, all at once, one step beyond both ends.

    Parameters
    ----------
    y, weights : (n,), phase j at the positions j, j + period, …
    table : of `loess_table` for the subseries' length, with ends.
    sums : (5, period) scratch.
    out : (n + 2 period,) from one period before `y`.
    """
    at, left, row, tricube, smoother = table
    length, q = at[at.size - 1], tricube.shape[1]
    for e in range(at.size):
        to = out[(at[e] + 1) * period : (at[e] + 2) * period]
        if not is_weighted:
            to[first:last] = 0.0
            for c in range(q):
                g = smoother[row[e], c]
                z = y[(left[e] + c) * period : (left[e] + c) * period + last]
                for j in range(first, last):
                    to[j] += g * z[j]
            continue
        sums[:] = 0.0
        for c in range(q):
            a0, d = tricube[row[e], c], float(left[e] + c - at[e])
            base = (left[e] + c) * period
            for j in range(first, last):
                a = a0 * weights[base + j]
                sums[0, j] += a
                sums[1, j] += a * d
                sums[2, j] += a * d * d
                sums[3, j] += a * y[base + j]
                sums[4, j] += a * d * y[base + j]
        for j in range(first, last):
            own = 0.0
            if sums[0, j] <= 0.0:
                # Beyond an end the neighbour's smooth value, else the point's own.
                is_inside = 0 <= at[e] < length
                own = y[at[e] * period + j] if is_inside else out[(min(max(at[e], 0), length - 1) + 1) * period + j]
            to[j] = _local(sums[0, j], sums[1, j], sums[2, j], sums[3, j], sums[4, j], degree, length, own)
    for e in range(1, at.size - 2):
        gap = at[e] - at[e - 1]
        for i in range(1, gap):
            low, high = (at[e - 1] + 1) * period, (at[e] + 1) * period
            for j in range(first, last):
                out[low + i * period + j] = out[low + j] + (out[high + j] - out[low + j]) / gap * i
