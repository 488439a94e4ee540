"""A mergeable sketch of each row's distribution: sorted centroids, fine at the tails, exact while values repeat."""

from __future__ import annotations

import numpy as np

from kernels._jit import B1, F32, F64, kernel

# Differences of learned values must be numbers.
LARGEST = 1e300
# A centroid may hold the share SPAN / columns * 2 sqrt(q (1 - q)) of all weight: 1 % in the middle for 200 columns.
_SPAN = 2.0
# Neighbours so many times as far apart as either is from its other one are of two levels. They are merged only once
# limits were relaxed so often for want of room: a centroid between levels has a rank that no value has.
_GAP, _LEVEL_PASSES = 8.0, 4
# After compression this share of the columns is free again at least.
_FREE = 0.2
# Weights are divided by the unit before they or their squares overflow.
_LARGEST_UNIT = 1e100


@kernel
def digest_insert(
    x: float, decay: float, mean: F64, weight: F64 | F32, mixed: B1, size: int, total: float, unit: float
) -> tuple[int, float, float]:
    """Size, total and unit of one row's sketch after the finite sample `x`; the row's arrays change in place.

    Parameters
    ----------
    decay : in (0, 1], per sample taken; 1 keeps all history.
    mean, weight : (K,), the first `size`, fewer than K, are the centroids, means ascending.
    mixed : (K,), whether a centroid holds values that differ. The weight of the others is all at their mean.
    total : sum of the weights.
    unit : weight of `x`; 1 in a fresh state. It grows by 1 / decay a sample instead of all older weights shrinking.

    Notes
    -----
    O(log K) comparisons and O(K) moves. No centroid is merged before more than K - 1 different values have come.

    Source: Dunning and Ertl (2019), arXiv:1902.04023: the merging digest with the limit of its scale function k1
    written as a bound on weights. Added: equal values share a centroid, and centroids know whether they are exact.
    """
    size = put(x, unit, mean, weight, mixed, size)
    return _tidy(mean, weight, mixed, size, total + unit, next_unit(unit, decay))


@kernel
def put(x: float, unit: float, mean: F64, weight: F64 | F32, mixed: B1, size: int) -> int:
    """Size of a sketch after `x` of the weight `unit` was added to its equal, or became a centroid of its own."""
    at = first_from(mean, size, x)
    if at < size and mean[at] == x:
        weight[at] += unit
    else:
        # Views, whose indices cannot be negative, so that each loop is one move of memory.
        means, weights, flags = mean[at : size + 1], weight[at : size + 1], mixed[at : size + 1]
        for k in range(means.size - 1, 0, -1):
            means[k] = means[k - 1]
        for k in range(weights.size - 1, 0, -1):
            weights[k] = weights[k - 1]
        for k in range(flags.size - 1, 0, -1):
            flags[k] = flags[k - 1]
        means[0], weights[0], flags[0] = x, unit, False
        size += 1
    return size


@kernel
def next_unit(unit: float, decay: float) -> float:
    """Weight of the sample after one that weighs `unit`."""
    # Bounded, so that no weight overflows: what is left of the older ones is too little to count anyway.
    return unit / max(decay, 1e-200) if decay < 1.0 else unit


@kernel
def lowered(weight: F64 | F32, size: int, total: float, unit: float) -> tuple[float, float]:
    """Total and unit after weights that have grown large were divided."""
    if unit <= _LARGEST_UNIT:
        return total, unit
    for k in range(size):
        weight[k] /= unit
    return total / unit, 1.0


@kernel
def _tidy(mean: F64, weight: F64 | F32, mixed: B1, size: int, total: float, unit: float) -> tuple[int, float, float]:
    """Size, total and unit after weights that have grown large were divided, and full columns compressed."""
    total, unit = lowered(weight, size, total, unit)
    if size == mean.size:
        size, total = _compress(mean, weight, mixed, size)
    return size, total, unit


@kernel
def first_from(mean: F64, size: int, x: float) -> int:
    """The first centroid whose mean is not below `x`; `size` if there is none."""
    at, end = 0, size
    while at < end:
        middle = (at + end) >> 1
        if mean[middle] < x:
            at = middle + 1
        else:
            end = middle
    return at


@kernel
def _compress(mean: F64, weight: F64 | F32, mixed: B1, size: int) -> tuple[int, float]:
    """Merge neighbours within their weight limit until enough columns are free; returns size and total."""
    total = 0.0
    for k in range(size):
        total += weight[k]
    # Less than the sums below can tell apart: decayed away. So neither side of a limit is lost to rounding.
    nothing = 1e-13 * total
    span = 2.0 * _SPAN / mean.size
    n_passes = 0
    while size > (1.0 - _FREE) * mean.size:
        before, last = 0.0, 0
        for k in range(1, size):
            # Squares of 24-bit weights would overflow.
            both = np.float64(weight[last]) + np.float64(weight[k])
            # At either end of the merged centroid: both <= span * total * sqrt(q * (1 - q)), nothing at
            # the outermost.
            left, after = before * (total - before), before + both
            right = after * (total - after)
            is_gap = False
            if n_passes < _LEVEL_PASSES and last > 0 and k + 1 < size:
                is_gap = mean[k] - mean[last] > _GAP * max(mean[last] - mean[last - 1], mean[k + 1] - mean[k])
            if both <= nothing or (both * both <= span * span * min(left, right) and not is_gap):
                if mean[k] != mean[last]:
                    share = weight[k] / both if both > 0 else 0.0
                    moved = mean[last] + (mean[k] - mean[last]) * share
                    mean[last], mixed[last] = min(moved, mean[k]), True
                elif mixed[k]:
                    mixed[last] = True
                weight[last] = both
            else:
                before += weight[last]
                last += 1
                mean[last], weight[last], mixed[last] = mean[k], weight[k], mixed[k]
        size = last + 1
        span *= 1.25
        n_passes += 1
    return size, total
