"""Median and median absolute deviation of many series, from their sketches."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import B1, F64, I64, kernel
from kernels.sketch import WORK, sketch_insert
from kernels.tdigest import LARGEST, first_from

# Centroids that searches pass at once.
_STRIDE = 16


@kernel
def mad_predict_update(
    y: F64,
    decay: float,
    threshold: float,
    n_block: int,
    mean: F64,
    weight: F64,
    mixed: B1,
    size: I64,
    total: F64,
    unit: F64,
    seen: I64,
    yhat: F64,
    lower: F64,
    upper: F64,
) -> None:
    """Write each step's band from the sketch before it, and learn the step as `sketch_add` does.

    Parameters
    ----------
    threshold : half-width of the band in median absolute deviations.
    n_block ... seen : the sketches of `sketch_add`, updated in place.
    yhat, lower, upper : (S, T), unit of the query; the median and its bounds. NaN while a row has learned nothing.

    Notes
    -----
    O(K) a step. The state afterwards is bit for bit that of `sketch_add`.
    """
    n_series, n_steps = y.shape
    work = np.empty((WORK, mean.shape[1] + 2))
    for i in range(n_series):
        m, w, mix, n, all_weight, one, taken = mean[i], weight[i], mixed[i], size[i], total[i], unit[i], seen[i]
        center, margin = math.nan, math.nan
        is_stale = n > 0
        for t in range(n_steps):
            if is_stale:
                center = sketch_median(m, w, mix, n, all_weight)
                margin = threshold * sketch_mad(m, w, mix, n, all_weight, center)
                is_stale = False
            yhat[i, t], lower[i, t], upper[i, t] = center, center - margin, center + margin
            x = y[i, t]
            if abs(x) <= LARGEST:
                taken += 1
                n, all_weight, one = sketch_insert(x, decay, n_block, m, w, mix, n, all_weight, one, taken, work)
                is_stale = True
        size[i], total[i], unit[i], seen[i] = n, all_weight, one, taken


@kernel
def sketch_median(mean: F64, weight: F64, mixed: B1, size: int, total: float) -> float:
    """Median of one row's sketch of at least one centroid.

    The distribution is a polyline: an exact centroid is a step at its mean; half of a mixed one's weight lies evenly
    between its mean and either neighbour's. Where all are exact this is the weighted median, the middle of two values
    if either side weighs the same: for equal weights numpy's, bit for bit.
    """
    half, below, first = 0.5 * total, 0.0, 0
    while first + _STRIDE <= size:
        some = 0.0
        for k in range(first, first + _STRIDE):
            some += weight[k]
        if below + some >= half:
            break
        below += some
        first += _STRIDE
    if first > 0:
        below -= _half(weight, mixed, first - 1)
    for k in range(first, size):
        if k > 0:
            between = _between(weight, mixed, k - 1)
            if below + between > half:
                share = (half - below) / between
                return float(min(mean[k - 1] + share * (mean[k] - mean[k - 1]), mean[k]))
            below += between
        below += _step(weight, mixed, size, k)
        if below > half:
            return float(mean[k])
        if below == half and k + 1 < size and _between(weight, mixed, k) == 0.0:
            return float(0.5 * (mean[k] + mean[k + 1]))
    return float(mean[size - 1])


@kernel
def sketch_mad(mean: F64, weight: F64, mixed: B1, size: int, total: float, center: float) -> float:
    """Median of the distances from `center`, of the same polyline; raw, and numpy's where all centroids are exact.

    Two pointers walk away from the centre, always to the nearer of the next centroids on either side. Each side has
    the distances between which its pointer now walks, and the weight that lies evenly between them. They leap, over
    all that is as near as the nearer of two centroids some way ahead, while that leaves less than half behind them.
    """
    half = 0.5 * total
    above = first_from(mean, size, center)
    below = above - 1
    passed, reached = 0.0, 0.0
    right_from, left_from, right_mass, left_mass = 0.0, 0.0, 0.0, 0.0
    if 0 < above < size:
        mass, share = _between(weight, mixed, below), (mean[above] - center) / (mean[above] - mean[below])
        right_mass, left_mass = mass * share, mass * (1.0 - share)
    while below >= _STRIDE and above + _STRIDE < size:
        to = min(mean[above + _STRIDE - 1] - center, center - mean[below - _STRIDE + 1])
        n_right, n_left, right, left = 0, 0, 0.0, 0.0
        for k in range(_STRIDE):
            is_near = mean[above + k] - center <= to
            n_right, right = n_right + is_near, right + weight[above + k] * is_near
            is_near = center - mean[below - k] <= to
            n_left, left = n_left + is_near, left + weight[below - k] * is_near
        ahead = _half(weight, mixed, above + n_right) + _half(weight, mixed, below - n_left)
        if passed + right_mass + left_mass + right + left + ahead >= half:
            break
        reached = to
        if n_right > 0:
            passed += right_mass + right - _half(weight, mixed, above)
            above += n_right
            passed -= _half(weight, mixed, above - 1)
            right_from, right_mass = mean[above - 1] - center, _between(weight, mixed, above - 1)
        if n_left > 0:
            passed += left_mass + left - _half(weight, mixed, below)
            below -= n_left
            passed -= _half(weight, mixed, below + 1)
            left_from, left_mass = center - mean[below + 1], _between(weight, mixed, below)
    right_to = mean[above] - center if above < size else math.inf
    left_to = center - mean[below] if below >= 0 else math.inf
    so_far = passed + _part(right_mass, right_from, right_to, reached) + _part(left_mass, left_from, left_to, reached)
    while above < size or below >= 0:
        to = min(right_to, left_to)
        up_to = passed + _part(right_mass, right_from, right_to, to) + _part(left_mass, left_from, left_to, to)
        if up_to > half:
            return reached + (to - reached) * ((half - so_far) / (up_to - so_far))
        if right_to == to:
            passed += right_mass + _step(weight, mixed, size, above)
            above += 1
            right_from, right_to = to, mean[above] - center if above < size else math.inf
            right_mass = _between(weight, mixed, above - 1) if above < size else 0.0
        if left_to == to:
            passed += left_mass + _step(weight, mixed, size, below)
            below -= 1
            left_from, left_to = to, center - mean[below] if below >= 0 else math.inf
            left_mass = _between(weight, mixed, below) if below >= 0 else 0.0
        so_far = passed + _part(right_mass, right_from, right_to, to) + _part(left_mass, left_from, left_to, to)
        reached = to
        if so_far >= half:
            following = min(right_to, left_to)
            is_gap = so_far == half and right_mass + left_mass == 0.0 and following < math.inf
            return 0.5 * (to + following) if is_gap else to
    return reached


@kernel
def _step(weight: F64, mixed: B1, size: int, k: int) -> float:
    """Weight at a centroid's mean: all of an exact one's, and the outer half of a mixed one at either end."""
    if not mixed[k]:
        return float(weight[k])
    return float(0.5 * weight[k] * ((1.0 if k == 0 else 0.0) + (1.0 if k == size - 1 else 0.0)))


@kernel
def _half(weight: F64, mixed: B1, k: int) -> float:
    """Half of a mixed centroid's weight, which lies on either side of its mean; nothing of an exact one's."""
    return float(0.5 * weight[k] * mixed[k])


@kernel
def _between(weight: F64, mixed: B1, k: int) -> float:
    """Weight between the means of centroids k and k + 1."""
    return _half(weight, mixed, k) + _half(weight, mixed, k + 1)


@kernel
def _part(mass: float, start: float, end: float, at: float) -> float:
    """What of a mass that lies evenly from `start` to `end` lies up to `at`."""
    if mass == 0.0 or at >= end:
        return mass
    return mass * ((at - start) / (end - start))
