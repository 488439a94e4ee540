"""A mergeable sketch of each row's distribution: sorted centroids, fine at the tails, exact while values repeat."""

from __future__ import annotations

import numpy as np

from kernels._jit import B1, F32, F64, I64, kernel

# Differences of learned values must be numbers.
LARGEST = 1e300
# A centroid may hold the share SPAN / columns * 2 sqrt(q (1 - q)) of all weight: 1 % in the middle for 200 columns.
_SPAN = 2.0
# Neighbours so many times as far apart as either is from its other one are of two levels. They are merged only once
# limits were relaxed so often for want of room: a centroid between levels has a rank that no value has.
_GAP, _LEVEL_PASSES = 8.0, 4
# After compression this share of the columns is free again at least.
_FREE = 0.2
# With fewer free columns than this, sorting a block and merging it costs more than inserting its points.
_SMALL_BLOCK = 8
# Up to this many samples, insertion takes half the time of numba's sort.
_INSERTION_SORT = 64
# Weights are divided by the unit before they or their squares overflow.
_LARGEST_UNIT = 1e100


@kernel
def digest_add(
    y: F64, decay: float, mean: F64, weight: F64, mixed: B1, size: I64, total: F64, unit: F64, seen: I64
) -> None:
    """Advance sketches over new samples, in time order.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN, inf or beyond 1e300: the step is skipped, without decay.
    decay : in (0, 1], per sample taken; 1 keeps all history.
    mean, weight : (S, K), updated in place. The first `size` of a row are its centroids, means ascending.
    mixed : (S, K), whether a centroid holds values that differ. The weight of the others is all at their mean.
    size : (S,) centroids in use, below K between calls.
    total : (S,) sum of the weights.
    unit : (S,) weight of the next sample; 1 in a fresh state, where all else is zero. It grows by 1 / decay a sample
        instead of all older weights shrinking.
    seen : (S,) samples taken so far.

    Notes
    -----
    O(log K) comparisons and O(K) moves a sample. Rows are independent; two calls over two halves of `y` give bit for
    bit the state of one call over the whole, and so does `digest_insert` for each sample. No centroid is merged
    before more than K - 1 different values have come: until then the sketch is the exact distribution.

    Source: Dunning and Ertl (2019), arXiv:1902.04023: the merging digest with the limit of its scale function k1
    written as a bound on weights. Added: equal values share a centroid, and centroids know whether they are exact.
    """
    n_columns = mean.shape[1]
    block, block_weight = np.empty(n_columns), np.empty(n_columns)
    other_mean, other_weight, other_mixed = np.empty(n_columns), np.empty(n_columns), np.empty(n_columns, np.bool_)
    for i in range(y.shape[0]):
        m, w, mix, n, all_weight, one, taken = mean[i], weight[i], mixed[i], size[i], total[i], unit[i], seen[i]
        t = 0
        while t < y.shape[1]:
            free = n_columns - n
            if free < _SMALL_BLOCK:
                x = y[i, t]
                t += 1
                if abs(x) <= LARGEST:
                    taken += 1
                    n, all_weight, one = digest_insert(x, decay, m, w, mix, n, all_weight, one)
                continue
            # As many as fit even if they are all different: the columns are full at the same sample as one by one.
            filled = 0
            while t < y.shape[1] and filled < free and one <= _LARGEST_UNIT:
                x = y[i, t]
                t += 1
                if abs(x) <= LARGEST:
                    block[filled], block_weight[filled] = x, one
                    filled += 1
                    all_weight += one
                    one = _next_unit(one, decay)
            taken += filled
            _sort(block, block_weight, filled)
            other_mean[:n], other_weight[:n], other_mixed[:n] = m[:n], w[:n], mix[:n]
            n = _merge_sorted(block, block_weight, filled, other_mean, other_weight, other_mixed, n, m, w, mix)
            n, all_weight, one = _tidy(m, w, mix, n, all_weight, one)
        size[i], total[i], unit[i], seen[i] = n, all_weight, one, taken


@kernel
def digest_insert(
    x: float, decay: float, mean: F64, weight: F64 | F32, mixed: B1, size: int, total: float, unit: float
) -> tuple[int, float, float]:
    """Size, total and unit of one row's sketch after the finite sample `x`; the row's arrays change in place."""
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
    return _tidy(mean, weight, mixed, size, total + unit, _next_unit(unit, decay))


@kernel
def _next_unit(unit: float, decay: float) -> float:
    """Weight of the sample after one that weighs `unit`."""
    # Bounded, so that no weight overflows: what is left of the older ones is too little to count anyway.
    return unit / max(decay, 1e-200) if decay < 1.0 else unit


@kernel
def _tidy(mean: F64, weight: F64 | F32, mixed: B1, size: int, total: float, unit: float) -> tuple[int, float, float]:
    """Size, total and unit after weights that have grown large were divided, and full columns compressed."""
    if unit > _LARGEST_UNIT:
        for k in range(size):
            weight[k] /= unit
        total, unit = total / unit, 1.0
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
def _sort(block: F64, block_weight: F64, filled: int) -> None:
    """Sort samples and their weights by value; the order of equal ones stays."""
    if filled > _INSERTION_SORT:
        order = np.argsort(block[:filled], kind="mergesort")
        block[:filled], block_weight[:filled] = block[:filled][order], block_weight[:filled][order]
        return
    for k in range(1, filled):
        x, w, at = block[k], block_weight[k], k
        while at > 0 and block[at - 1] > x:
            block[at], block_weight[at] = block[at - 1], block_weight[at - 1]
            at -= 1
        block[at], block_weight[at] = x, w


@kernel
def _merge_sorted(
    block: F64,
    block_weight: F64,
    filled: int,
    old: F64,
    old_weight: F64,
    old_mixed: B1,
    n: int,
    m: F64,
    w: F64,
    mix: B1,
) -> int:
    """Size of the union of a sketch and sorted samples, written to `m`, `w`, `mix`."""
    a, b, out = 0, 0, 0
    while a < n or b < filled:
        if b == filled or (a < n and old[a] <= block[b]):
            m[out], w[out], mix[out] = old[a], old_weight[a], old_mixed[a]
            a += 1
        else:
            m[out], w[out], mix[out] = block[b], block_weight[b], False
            b += 1
        while b < filled and block[b] == m[out]:
            w[out] += block_weight[b]
            b += 1
        out += 1
    return out


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
