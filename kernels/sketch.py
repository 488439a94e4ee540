"""A bounded sketch of each row's distribution: sorted centroids, grouped anew after each block of samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels._jit import B1, F64, I64, kernel, lean_inline, lean_kernel
from kernels.tdigest import LARGEST, lowered, next_unit, put

# Of the centroids that a sketch may keep after a block, this share is groups of equal width; the rest is for gaps.
_GROUPED = 0.8
# The outer shares of all weight on either side, and how many times as fine groups are there.
_TAIL, _FINER = 0.025, 4.0
# Neighbours so many times as far apart as either is from its other one are of two levels: a centroid between them
# would have a rank that no value has.
_GAP = 4.0
# Inserting so few samples costs less than merging a block.
_FEW = 16
# Bytes of samples that are sorted at once: what a core's second-level cache holds.
_SORTED_BYTES = 1 << 20
# Rows of the arrays that kernels work in.
WORK = 9
# Ends of lists of keys.
_LEAST, _MOST = -(2**63), 2**63 - 1


def block_size(n_kept: int) -> int:
    """Samples between two groupings of sketches that keep `n_kept` centroids: a power of two is sorted fastest."""
    return 1 << n_kept.bit_length()


def sketch_add(
    y: F64, decay: float, n_block: int,
    mean: F64, weight: F64, mixed: B1, size: I64, total: F64, unit: F64, seen: I64,
) -> None:  # fmt: skip
    """Advance sketches over new samples, in time order.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN, inf or beyond 1e300: the step is skipped, without decay.
    decay : in (0, 1], per sample taken; 1 keeps all history.
    n_block : samples after which centroids are grouped if there are more than K - n_block, at least 15.
    mean, weight : (S, K), updated in place. The first `size` of a row are its centroids, means ascending.
    mixed : (S, K), whether a centroid holds values that differ. The weight of the others is all at their mean.
    size : (S,) centroids in use.
    total : (S,) sum of the weights.
    unit : (S,) weight of the next sample; 1 in a fresh state, where all else is zero. It grows by 1 / decay a sample
        instead of all older weights shrinking.
    seen : (S,) samples taken so far.

    Notes
    -----
    Without a decay O(1 + K / n_block) a sample: blocks are sorted by numpy, many rows at once, and merged. With one,
    or for a few samples, O(K). Rows are independent; pieces of any length give the state of the whole, and so does
    `sketch_insert` for each sample, bit for bit while weights are whole numbers or samples are inserted. Until more
    than K - n_block different values have come the sketch is the exact distribution.

    Source: Dunning and Ertl (2019), arXiv:1902.04023: the merging digest, with a scale function of straight lines.
    Added: equal values share a centroid, and centroids know whether they are exact.
    """
    columns = mean, weight, mixed, size, total, unit, seen
    if decay < 1.0 or y.shape[1] < _FEW:
        _insert_rows(y, decay, n_block, *columns)
        return
    n_blocks = (y.shape[1] + 2 * n_block - 2) // n_block
    n_rows = min(y.shape[0], max(1, _SORTED_BYTES // (8 * n_block * n_blocks)))
    blocks, count = np.empty((n_rows, n_blocks, n_block), np.int64), np.empty(n_rows, np.int64)
    work = np.empty((WORK, mean.shape[1] + 2))
    for start in range(0, y.shape[0], max(1, n_rows)):
        rows: list[Any] = [column[start : start + n_rows] for column in columns]
        some, its = blocks[: rows[0].shape[0]], count[: rows[0].shape[0]]
        _pack(y[start : start + n_rows], rows[-1], some, its)
        some.sort(axis=-1)
        _merge_blocks(work, some, its, *rows)


@kernel
def sketch_insert(
    x: float, decay: float, n_block: int,
    mean: F64, weight: F64, mixed: B1, size: int, total: float, unit: float, seen: int, work: F64,
) -> tuple[int, float, float]:  # fmt: skip
    """Size, total and unit of one row's sketch after the finite sample `x`, the `seen`-th; its arrays change in place.

    `work` has the shape (WORK, K + 2); what is in it does not matter.
    """
    size = put(x + 0.0, unit, mean, weight, mixed, size)
    total, unit = lowered(weight, size, total + unit, next_unit(unit, decay))
    if seen % n_block == 0 and size > mean.size - n_block:
        for k in range(size):
            work[0, k], work[1, k] = mean[k], -weight[k] if mixed[k] else weight[k]
        before, size = size, _grouped(size, total, mean.size - n_block, mean, weight, mixed, work)
        mean[size:before], weight[size:before], mixed[size:before] = 0.0, 0.0, False
    return size, total, unit


@kernel
def _insert_rows(
    y: F64, decay: float, n_block: int,
    mean: F64, weight: F64, mixed: B1, size: I64, total: F64, unit: F64, seen: I64,
) -> None:  # fmt: skip
    """`sketch_add` a sample at a time."""
    work = np.empty((WORK, mean.shape[1] + 2))
    for i in range(y.shape[0]):
        n, all_weight, one, taken = size[i], total[i], unit[i], seen[i]
        for t in range(y.shape[1]):
            x = y[i, t]
            if abs(x) <= LARGEST:
                taken += 1
                n, all_weight, one = sketch_insert(
                    x, decay, n_block, mean[i], weight[i], mixed[i], n, all_weight, one, taken, work
                )
        size[i], total[i], unit[i], seen[i] = n, all_weight, one, taken


@kernel
def _pack(y: F64, seen: I64, blocks: I64, count: I64) -> None:
    """Keys of each row's samples, `count` of them, where they belong in blocks (S, N, B); the largest key elsewhere."""
    for i in range(y.shape[0]):
        row, at = blocks[i].reshape(-1), seen[i] % blocks.shape[2]
        row[:at] = _MOST
        # An index that cannot be negative is not checked for it.
        end = np.uint64(at)
        for t in range(y.shape[1]):
            # Minus zero becomes zero.
            x = np.float64(y[i, t] + 0.0)
            row[end] = _key(x.view(np.int64))
            end += np.uint64(abs(x) <= LARGEST)
        row[np.int64(end) :] = _MOST
        count[i] = np.int64(end) - at


@lean_inline
def _key(bits: np.int64) -> np.int64:
    """An integer that orders as the number of those bits does, and the way back."""
    # Integers, because their comparisons need no branches, half of which would be guessed wrong.
    return bits ^ ((bits >> 63) & _MOST)


@lean_kernel
def _merge_blocks(
    work: F64, blocks: I64, count: I64, mean: F64, weight: F64, mixed: B1, size: I64, total: F64, unit: F64, seen: I64
) -> None:
    """Merge the sorted blocks of `_pack` into sketches, and group the centroids of full ones."""
    n_columns, n_block = mean.shape[1], blocks.shape[2]
    n_kept = n_columns - n_block
    old, old_weight, block = work[6].view(np.int64), work[7], work[8].view(np.int64)
    old[0], block[0], old_weight[0] = _LEAST, _LEAST, 0.0
    keys = work[0].view(np.int64)
    for i in range(blocks.shape[0]):
        m, w, mix, n, left = mean[i], weight[i], mixed[i], size[i], count[i]
        bits, b = m.view(np.int64), 0
        while left > 0:
            n_new = min(left, n_block - seen[i] % n_block)
            left -= n_new
            seen[i] += n_new
            total[i] += unit[i] * n_new
            for k in range(n):
                old[k + 1], old_weight[k + 1] = _key(bits[k]), w[k] * (1.0 - 2.0 * mix[k])
            old[n + 1], old_weight[n + 1] = _MOST, 0.0
            for k in range(n_new):
                block[k + 1] = blocks[i, b, k]
            block[n_new + 1] = _MOST
            b += 1
            n_all = n + n_new
            _merge(old, old_weight, n, block, n_new, unit[i], keys, work[1])
            k = 0
            while k < n_all and keys[k] < 0:
                keys[k] = _key(keys[k])
                k += 1
            n_all = _shared(work[0, :n_all], work[1, :n_all])
            if seen[i] % n_block == 0 and n_all > n_kept:
                n = _grouped(n_all, total[i], n_kept, m, w, mix, work)
                continue
            n = n_all
            for k in range(n):
                m[k], w[k], mix[k] = work[0, k], abs(work[1, k]), work[1, k] < 0.0
        for k in range(n, n_columns):
            m[k], w[k], mix[k] = 0.0, 0.0, False
        size[i] = n


@lean_inline
def _merge(
    old: I64, old_weight: F64, n_old: int, block: I64, n_new: int, unit: float, merged: I64, weight: F64
) -> None:
    """Merge centroids and samples, between the least and the largest key each; of equal ones centroids come first.

    From both ends at once: steps from one end wait for each other.
    """
    n, one = n_old + n_new, np.uint64(1)
    a, b, c, d = np.uint64(1), np.uint64(1), np.uint64(n_old), np.uint64(n_new)
    for k in range((n + 1) >> 1):
        is_old = np.uint64(old[a] <= block[b])
        merged[k] = min(old[a], block[b])
        weight[k] = unit + (old_weight[a] - unit) * np.int64(is_old)
        a += is_old
        b += one - is_old
        is_old = np.uint64(old[c] > block[d])
        merged[n - 1 - k] = max(old[c], block[d])
        weight[n - 1 - k] = unit + (old_weight[c] - unit) * np.int64(is_old)
        c -= is_old
        d -= one - is_old


@lean_inline
def _shared(value: F64, signed: F64) -> int:
    """Size of a sketch after equal neighbours were made one centroid; weights of mixed ones are negative."""
    n_equal = 0
    for k in range(1, value.size):
        n_equal += value[k] == value[k - 1]
    if n_equal == 0:
        return value.size
    last = 0
    for k in range(1, value.size):
        if value[k] == value[last]:
            both = abs(signed[last]) + abs(signed[k])
            signed[last] = -both if signed[last] < 0.0 or signed[k] < 0.0 else both
        else:
            last += 1
            value[last], signed[last] = value[k], signed[k]
    return last + 1


@lean_kernel
def _grouped(n: int, total: float, n_kept: int, mean: F64, weight: F64, mixed: B1, work: F64) -> int:
    """How many centroids, at most `n_kept`, `mean`, `weight` and `mixed` hold after those in `work` were grouped."""
    # Groups and both ends are fewer than what is kept.
    n_groups = min(int(_GROUPED * n_kept), n_kept - 3)
    size = n
    for at_gaps in (True, False):
        size = _group(work[0, :n], work[1, :n], total, n_groups, at_gaps, mean, weight, mixed, work)
        if size <= n_kept:
            break
    return size


@lean_inline
def _group(
    value: F64, signed: F64, total: float, n_groups: int, at_gaps: bool, mean: F64, weight: F64, mixed: B1, work: F64
) -> int:
    """Make one centroid of those whose middles lie in one group of ranks, but none over a gap if `at_gaps`.

    The first and the last value stay alone. Several short loops, because most of them are done in lanes.
    """
    n, share = value.size, 1.0 / total
    upto, moment, place = work[2], work[3], work[4, :n]
    starts, bounds, one = work[5, :n].view(np.uint64), work[4].view(np.uint64), np.uint64(1)
    # Shares, because values times weights could overflow.
    center = value[n >> 1]
    for k in range(n):
        upto[k + 1] = abs(signed[k])
        moment[k + 1] = upto[k + 1] * share * (value[k] - center)
    # Sums of both halves at once: a sum waits for the one before.
    half = n >> 1
    low, low_moment, high, high_moment = upto[1:], moment[1:], upto[half + 1 : n + 1], moment[half + 1 : n + 1]
    a = b = c = d = 0.0
    for k in range(half):
        a, b = a + low[k], b + low_moment[k]
        c, d = c + high[k], d + high_moment[k]
        low[k], low_moment[k], high[k], high_moment[k] = a, b, c, d
    if n & 1:
        high[half], high_moment[half] = c + high[half], d + high_moment[half]
    for k in range(high.size):
        high[k], high_moment[k] = a + high[k], b + high_moment[k]
    upto[0] = moment[0] = 0.0
    scale = n_groups / (1.0 + 2.0 * (_FINER - 1.0) * _TAIL)
    for k in range(n):
        q = (upto[k + 1] - 0.5 * abs(signed[k])) * share
        place[k] = np.floor(scale * (q + (_FINER - 1.0) * (min(q, _TAIL) + max(q - (1.0 - _TAIL), 0.0))))
    v0, v1, v2, v3, inner = value[: n - 3], value[1 : n - 2], value[2 : n - 1], value[3:], starts[2 : n - 1]
    p1, p2 = place[1 : n - 2], place[2 : n - 1]
    for k in range(inner.size):
        gap = v2[k] - v1[k]
        is_gap = at_gaps & (gap > _GAP * (v1[k] - v0[k])) & (gap > _GAP * (v3[k] - v2[k]))
        inner[k] = np.uint64(is_gap | (p1[k] != p2[k]))
    starts[0] = starts[1] = starts[n - 1] = 1
    end, bounds[0] = np.uint64(0), 0
    for k in range(n):
        end += starts[k]
        bounds[end] = k + 1
    size = int(np.int64(end))
    for k in range(size):
        first, stop = bounds[k], bounds[k + 1]
        last = stop - one
        weight[k] = upto[stop] - upto[first]
        part = weight[k] * share
        middle = center + (moment[stop] - moment[first]) / (part + (part == 0.0))
        # Exact for a single one, and within its values whatever rounding did to a light one.
        mean[k] = min(max(middle, value[first]), value[last])
        mixed[k] = (first < last) | (signed[last] < 0.0)
    return size
