"""Isolation forests of single series: the trees of one column add up to a staircase, which is all that is kept."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F32, F64, I16, I64, kernel
from kernels.iforest import Forest, scaled_value
from kernels.iforest_build import ascending_samples, forest_build
from kernels.iforest_map import map_fit, map_score
from kernels.iforest_paths import path_lengths, raw_score
from kernels.ranks import ascending
from kernels.words import trailing_zeros

# Raw scores, in (0, 1], as 15 bits.
_FINEST = 32767.0
_LARGEST = 1e300
_TRIES = 5


@kernel
def steps_fit(
    y: F64, seed: int, n_sample: int, share: float, is_bootstrap: bool, contamination: float, scratch: Forest,
    center: F64, scale: F64, low: F64, high: F64, used: I64, cut: F32, level: I16,
) -> None:  # fmt: skip
    """Build a forest of each row and keep its raw scores as a staircase of K + 1 levels.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN, inf and what is beyond 1e300 is no sample.
    seed, is_bootstrap : as `forest_build` takes them, the same for each row.
    n_sample, share : rows in a tree's sample: `share` of a row's samples, all if it is 0, at most `n_sample`.
    contamination : as `map_fit` takes it.
    scratch : a forest of one column to build in.
    center, scale : (S,) of the forest.
    low, high : (S,) of `map_fit`.
    used : (S,) rows in each tree's sample; 0 where a row has fewer than two samples: it gets nothing.
    cut, level : (S, K) where steps end, in scaled units, ascending; (S, K + 1) raw scores times 32767. K + 1 is a
        power of two.

    Notes
    -----
    A forest on one column is a sum of step functions, of some 6,000 steps for 100 trees. Where these are more than
    K + 1, neighbours are joined whose raw scores differ least: the error is the least for such a joining, or nearly,
    and `low` and `high` are those of the staircase itself. O(n_trees n_sample log n_sample + T log T) a row.
    """
    for i in range(y.shape[0]):
        values = ascending_samples(y[i][np.abs(y[i]) <= _LARGEST])
        n = values.size
        if n < 2:
            continue
        used[i] = min(n_sample, max(int(share * n), 1) if share > 0.0 else n)
        x = values.reshape((n, 1))
        forest_build(x, seed, used[i], x.shape[1], is_bootstrap, scratch)
        center[i], scale[i] = scratch.center[0], scratch.scale[0]
        _tabulate(scratch, used[i], cut[i], level[i])
        low[i], high[i] = map_fit(_raw_of_ascending(values, center[i], scale[i], cut[i], level[i]), contamination)


@kernel
def steps_score(y: F64, center: F64, scale: F64, low: F64, high: F64, cut: F32, level: I16, out: F64) -> None:
    """Write anomaly scores: 1 at the threshold of the fit, more for outliers; NaN where `y` is not finite.

    O(S T log K), allocates nothing; arguments as of `steps_fit`, `out` is (S, T). Rows are independent.
    """
    for i in range(y.shape[0]):
        for t in range(y.shape[1]):
            x = y[i, t]
            raw = _raw(x, center[i], scale[i], cut[i], level[i]) if math.isfinite(x) else math.nan
            out[i, t] = map_score(raw, low[i], high[i])


@kernel
def _raw_of_ascending(values: F64, center: float, scale: float, cut: F32, level: I16) -> F64:
    """Raw scores of the values of a fit."""
    raw, step = np.empty(values.size), 0
    for k in range(values.size):
        scaled = scaled_value(values[k], center, scale)
        while step < cut.size and cut[step] < scaled:
            step += 1
        raw[k] = level[step] / _FINEST
    return raw


@kernel
def _raw(x: float, center: float, scale: float, cut: F32, level: I16) -> float:
    """Raw score of a finite value."""
    if scale == 0.0:
        # What a series that never moved is isolated by, if it does: levels are of the constant and of all else.
        return float(level[0 if x == center else 1] / _FINEST)
    scaled = scaled_value(x, center, scale)
    # The first cut that is not below. A shifted comparison is no branch that the processor would have to guess.
    first, width = 0, level.size >> 1
    shift = int(np.int64(trailing_zeros(np.uint64(width))))
    while width > 0:
        first += int(cut[first + width - 1] < scaled) << shift
        width, shift = width >> 1, shift - 1
    return float(level[first] / _FINEST)


@kernel
def _tabulate(forest: Forest, n_sample: int, cut: F32, level: I16) -> None:
    """Write the staircase of a forest of one column."""
    lengths = path_lengths(n_sample)
    usual = lengths[n_sample]
    cut[:] = np.inf
    if forest.scale[0] == 0.0:
        level[:] = round(_FINEST * raw_score(1.0, usual))
        level[0] = round(_FINEST * raw_score(usual, usual))
        return
    ends, raw = _staircase(forest, lengths)
    if _join(ends, raw, 0.0, cut, level) > cut.size:
        _join(ends, raw, _least_error(ends, raw, cut, level), cut, level)


@kernel
def _least_error(ends: F32, raw: F64, cut: F32, level: I16) -> float:
    """Least error, within some per cent, with which joined steps are few enough; `cut` and `level` are scratch."""
    # As many cuts as the error is small, where levels go up and down evenly.
    fine, coarse, error = 0.0, 0.5, np.sum(np.abs(np.diff(raw))) / (2.0 * cut.size)
    for _ in range(_TRIES):
        if not fine < error < coarse:
            error = math.sqrt(max(fine, 1e-5) * coarse)
        n_cuts = _join(ends, raw, error, cut, level)
        if n_cuts > cut.size:
            fine = error
        else:
            coarse = error
        # One cut fewer than there is room for, so that the next try is more often one that fits.
        error *= n_cuts / (cut.size - 1.0)
    return coarse


@kernel
def _staircase(forest: Forest, lengths: F64) -> tuple[F32, F64]:
    """Where the raw score steps, ascending, and the raw scores before, between and after the steps."""
    n_splits, n_trees, usual = int(np.sum(forest.size)), forest.size.size, lengths[lengths.size - 1]
    ends, rise = np.empty(n_splits), np.empty(n_splits)
    bounds, path = np.empty(n_splits, dtype=np.float32), np.empty(n_splits + 1)
    mean, n_ends, node, leaf = 0.0, 0, 0, 0
    for size in forest.size:
        n = int(size)
        _leaves(forest, node, n, leaf, lengths, bounds, path)
        mean += path[0] / n_trees
        for k in range(n):
            # Equal sides are no step.
            if path[k + 1] != path[k]:
                ends[n_ends], rise[n_ends] = bounds[k], (path[k + 1] - path[k]) / n_trees
                n_ends += 1
        node, leaf = node + n, leaf + n + 1
    keys, places = np.empty((3, n_ends), dtype=np.uint64), np.empty((2, n_ends), dtype=np.int32)
    order = ascending(ends, n_ends, keys, places)
    raw, bounds[:n_ends] = np.empty(n_ends + 1), ends[order]
    raw[0] = raw_score(mean, usual)
    for k in range(n_ends):
        mean += rise[order[k]]
        raw[k + 1] = raw_score(mean, usual)
    return bounds[:n_ends], raw


@kernel
def _leaves(forest: Forest, node: int, size: int, leaf: int, lengths: F64, bounds: F32, path: F64) -> None:
    """Path lengths of a tree's leaves from left to right, and the thresholds between them."""
    # Of splits whose right side is still to come: where, splits of their subtree, depth.
    stack = np.empty((size + 1, 3), dtype=np.int64)
    depth, top = 0, 0
    for k in range(size + 1):
        while size > 0:
            stack[top, 0], stack[top, 1], stack[top, 2] = node, size, depth
            node, size, depth, top = node + 1, int(forest.left[node]), depth + 1, top + 1
        path[k] = depth + lengths[int(forest.leaf[leaf + k]) + 1]
        if top > 0:
            top -= 1
            parent, n_left = stack[top, 0], int(forest.left[stack[top, 0]])
            bounds[k] = forest.threshold[parent]
            node, size, depth = parent + 1 + n_left, stack[top, 1] - 1 - n_left, stack[top, 2] + 1


@kernel
def _join(ends: F32, raw: F64, error: float, cut: F32, level: I16) -> int:
    """Join steps while their raw scores differ from their middle by at most `error`; how many cuts that leaves.

    Fewer than all are written where there is no room.
    """
    n_cuts, least, most = 0, raw[0], raw[0]
    for k in range(ends.size):
        lower, upper = min(least, raw[k + 1]), max(most, raw[k + 1])
        if k + 1 < ends.size and ends[k + 1] == ends[k]:
            continue  # at one place
        if upper - lower <= 2.0 * error:
            least, most = lower, upper
            continue
        if n_cuts < cut.size:
            cut[n_cuts], level[n_cuts] = ends[k], round(_FINEST * 0.5 * (least + most))
        n_cuts += 1
        least = most = raw[k + 1]
    cut[n_cuts:] = np.inf
    level[min(n_cuts, cut.size) :] = round(_FINEST * 0.5 * (least + most))
    return n_cuts
