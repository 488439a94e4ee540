"""Isolation forests in flat arrays: build, score, and what each column adds to a score."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kernels._jit import B1, F32, F64, I16, I64, kernel

# Scaled values are kept within this, so that they are finite as float32.
_FARTHEST = 1e30
_WORD = 0xFFFFFFFF


class Forest(NamedTuple):
    """One forest over d columns: trees one behind the other, their splits in pre-order, their leaves left to right.

    center, scale : (d,) a column's lower median and its largest distance from it; scale 0 is one that never moved.
    threshold, feature, left : (N,) of the splits: what goes left is at most `threshold` in column `feature`, in
        scaled units; `left` counts the splits of the left subtree. The tail that no tree uses is zero.
    leaf : (N + n_trees,) samples in each leaf; its tail is zero too.
    size : (n_trees,) splits of each tree.
    """

    center: F64
    scale: F64
    threshold: F32
    feature: I16
    left: I16
    leaf: I16
    size: I16


def forest_zeros(n_columns: int, n_trees: int, n_sample: int) -> Forest:
    """A forest to build into, with room for 3/8 `n_sample` splits a tree: only fractal data need more."""
    n_splits = n_trees * max(min(n_sample, 32), 3 * n_sample // 8)
    return Forest(
        np.zeros(n_columns),
        np.zeros(n_columns),
        np.zeros(n_splits, dtype=np.float32),
        np.zeros(n_splits, dtype=np.int16),
        np.zeros(n_splits, dtype=np.int16),
        np.zeros(n_splits + n_trees, dtype=np.int16),
        np.zeros(n_trees, dtype=np.int16),
    )


@kernel
def forest_build(x: F64, seed: int, n_sample: int, n_features: int, is_bootstrap: bool, out: Forest) -> None:
    """Grow the trees of a forest, each from a sample of its own.

    Parameters
    ----------
    x : (n, d), n >= 1, finite and at most 1e300 in size.
    seed : of the random numbers; the result depends on it, `x` and the numbers below, nothing else.
    n_sample : rows in a tree's sample, 1 to n (any number with `is_bootstrap`), at most 32767.
    n_features : columns that a tree may split by, 1 to d, drawn for each tree.
    is_bootstrap : draw rows with replacement.
    out : zeros, from `forest_zeros`.

    Notes
    -----
    Liu, Ting and Zhou (2008), doi:10.1109/ICDM.2008.17, in the form of scikit-learn's `IsolationForest`: a column
    is drawn among those that vary in the node, a threshold evenly between its least and largest value, down to depth
    ceil(log2(n_sample)). Two samples are never split: with the correction for leaves of two the path is as long on
    either side. A tree for which there is no room (each may use what those before it left) is grown less deep.

    Two things make forests of different seeds more alike, as a quarter more trees would, and leave each tree as it
    is: none takes a row that one before it took until all are used up, and first thresholds lie in parts 1 to n_trees
    of their range.

    O(n_trees n_sample d log n_sample) at worst.
    """
    n_rows, n_columns = x.shape
    for f in range(n_columns):
        column = x[:, f].copy()
        out.center[f] = np.partition(column, (n_rows - 1) // 2)[(n_rows - 1) // 2]
        out.scale[f] = max(column.max() - out.center[f], out.center[f] - column.min())
    sample = np.empty((n_columns, n_sample), dtype=np.float32)
    rows, columns = np.arange(n_rows), np.arange(n_columns)
    n_trees = out.size.size
    room, node, leaf, drawn = out.threshold.size // n_trees, 0, 0, 0
    for tree in range(n_trees):
        random = _mixed(_mixed(seed & _WORD) ^ (tree + 1))
        drawn = drawn if drawn + n_sample <= n_rows else 0
        for k in range(n_sample):
            random = _next(random)
            if is_bootstrap:
                row = rows[_below(random, n_rows)]
            else:
                which = drawn + _below(random, n_rows - drawn)
                row, rows[which] = rows[which], rows[drawn]
                rows[drawn] = row
                drawn += 1
            for f in range(n_columns):
                sample[f, k] = _scaled(x[row, f], out.center[f], out.scale[f])
        for k in range(n_features):
            random = _next(random)
            which = k + _below(random, n_columns - k)
            columns[k], columns[which] = columns[which], columns[k]
        depth = math.ceil(math.log2(max(n_sample, 2)))
        end = -1
        while end < 0:
            end = _grow(sample, columns[:n_features], depth, tree / n_trees, random, node, leaf, (tree + 1) * room, out)
            depth -= 1
        out.size[tree] = end - node
        leaf += end - node + 1
        node = end
    out.feature[node:], out.left[node:], out.threshold[node:], out.leaf[leaf:] = 0, 0, 0.0, 0


@kernel
def _grow(
    sample: F32, columns: I64, max_depth: int, place: float, random: int, first: int, first_leaf: int, end: int,
    out: Forest,
) -> int:  # fmt: skip
    """One more than the last split of a tree whose first is `first`; -1 if it needs more than those before `end`.

    `place` is where in its range the part for the first threshold begins; the part is as long as there are trees.
    """
    order = np.arange(sample.shape[1])
    # One column is sorted once: a node is a part of it, and nothing needs to be gathered.
    is_alone = sample.shape[0] == 1
    if is_alone:
        sample[0] = np.sort(sample[0])
    # Of nodes to come: first sample, one more than the last, depth, and of a right child the parent.
    stack = np.empty((max_depth + 2, 4), dtype=np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = 0, order.size, 0, -1
    top, node, leaf = 1, first, first_leaf
    while top > 0:
        top -= 1
        a, b, depth, parent = stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3]
        if parent >= 0:
            out.left[parent] = node - parent - 1
        f, low, high = -1, 0.0, 0.0
        n_left = columns.size if b - a > 2 and depth < max_depth else 0
        while n_left > 0 and f < 0:
            random = _next(random)
            k = _below(random, n_left)
            if is_alone:
                low, high = float(sample[0, a]), float(sample[0, b - 1])
            else:
                low, high = _range(sample[columns[k]], order[a:b])
            if low < high:
                f = columns[k]
            else:
                n_left -= 1
                columns[k], columns[n_left] = columns[n_left], columns[k]
        if f < 0:
            out.leaf[leaf] = b - a
            leaf += 1
            continue
        if node == end:
            return -1
        random = _next(random)
        share = (_word(random) + 0.5) / (_WORD + 1.0)
        if depth == 0:
            share = place + share / out.size.size
        at = float(np.float32(low + share * (high - low)))
        at = low if at >= high else at
        middle = a + (_n_most(sample[0, a:b], at) if is_alone else _partition(sample[f], order[a:b], at))
        out.threshold[node], out.feature[node], out.left[node] = at, f, 0
        stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3] = middle, b, depth + 1, node
        stack[top + 1, 0], stack[top + 1, 1], stack[top + 1, 2], stack[top + 1, 3] = a, middle, depth + 1, -1
        top += 2
        node += 1
    return node


@kernel
def _range(values: F32, order: I64) -> tuple[float, float]:
    """Least and largest of the values at some positions."""
    low = high = values[order[0]]
    for k in order:
        low, high = min(low, values[k]), max(high, values[k])
    return float(low), float(high)


@kernel
def _n_most(ordered: F32, threshold: float) -> int:
    """How many of the ascending values are at most `threshold`; all never are, the first always is."""
    low, high = 1, ordered.size - 1
    while low < high:
        middle = (low + high) >> 1
        if ordered[middle] <= threshold:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _partition(values: F32, order: I64, threshold: float) -> int:
    """How many are at most `threshold`; their positions come first afterwards."""
    a, b = 0, order.size
    while a < b:
        if values[order[a]] <= threshold:
            a += 1
        else:
            b -= 1
            order[a], order[b] = order[b], order[a]
    return a


@kernel
def _scaled(value: float, center: float, scale: float) -> float:
    """A value in a forest's units; 0 in a column that never moved."""
    return min(max((value - center) / scale, -_FARTHEST), _FARTHEST) if scale > 0.0 else 0.0


@kernel
def forest_score(x: F64, n_sample: int, forest: Forest, out: F64) -> None:
    """Raw anomaly scores: 2 to the power of minus the mean path length, relative to that of a random tree.

    Parameters
    ----------
    x : (n, d) rows to score. One that is not all finite gets NaN.
    n_sample : rows in each tree's sample.
    out : (n,), in (0, 1]. As scikit-learn's `-score_samples`: 0.5 is its offset of `contamination: auto`.

    Notes
    -----
    O(n n_trees log n_sample). Rows are independent. A value that differs in a column that never moved in the sample
    is isolated by the first cut, although no tree can have such a one.
    """
    score_rows(x, path_lengths(n_sample), forest, out)


@kernel
def score_rows(x: F64, lengths: F64, forest: Forest, out: F64) -> None:
    """As `forest_score`, with `path_lengths` of the sample's size at hand."""
    scaled, is_finite = scaled_rows(x, forest)
    usual = lengths[lengths.size - 1]
    out[:] = 0.0
    node, leaf = 0, 0
    for size in forest.size:
        n_splits = int(size)
        for i in range(x.shape[0]):
            out[i] += _path(scaled[i], node, n_splits, leaf, lengths, forest)
        node += n_splits
        leaf += n_splits + 1
    for i in range(x.shape[0]):
        mean = out[i] / forest.size.size
        for f in range(x.shape[1]):
            if forest.scale[f] == 0.0 and x[i, f] != forest.center[f]:
                mean = min(mean, 1.0)
        out[i] = raw_score(mean, usual) if is_finite[i] else math.nan


@kernel
def scaled_rows(x: F64, forest: Forest) -> tuple[F32, B1]:
    """Rows in a forest's units, and which are all finite; what is not has no meaning there."""
    scaled, is_finite = np.empty(x.shape, dtype=np.float32), np.ones(x.shape[0], dtype=np.bool_)
    for i in range(x.shape[0]):
        for f in range(x.shape[1]):
            is_finite[i] &= math.isfinite(x[i, f])
            scaled[i, f] = _scaled(x[i, f], forest.center[f], forest.scale[f])
    return scaled, is_finite


@kernel
def raw_score(length: float, usual: float) -> float:
    """Score of a mean path length, where the path in a random tree is `usual`; a half where nothing can be cut."""
    return float(2.0 ** (-length / usual)) if usual > 0.0 else 0.5


@kernel
def path_lengths(n_sample: int) -> F64:
    """(n_sample + 1,) mean path length of an unsuccessful search among that many samples: what a leaf adds."""
    lengths = np.zeros(n_sample + 1)
    for n in range(2, n_sample + 1):
        lengths[n] = 1.0 if n == 2 else 2.0 * (math.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return lengths


@kernel
def _path(row: F32, node: int, size: int, leaf: int, lengths: F64, forest: Forest) -> float:
    """Path length of a scaled row in the tree of `size` splits that begins at `node` and `leaf`."""
    depth = 0
    while size > 0:
        left = int(forest.left[node])
        if row[forest.feature[node]] <= forest.threshold[node]:
            node, size = node + 1, left
        else:
            node, size, leaf = node + 1 + left, size - 1 - left, leaf + 1 + left
        depth += 1
    return float(depth + lengths[forest.leaf[leaf]])


@kernel
def _mixed(random: int) -> int:
    """A word of 32 bits that has little in common with the given one."""
    random = ((random ^ (random >> 16)) * 0x45D9F3B) & _WORD
    random = ((random ^ (random >> 16)) * 0x45D9F3B) & _WORD
    return random ^ (random >> 16)


@kernel
def _next(random: int) -> int:
    """The state of the random numbers after this one: a counter of 32 bits that jumps."""
    return (random * 747796405 + 2891336453) & _WORD


@kernel
def _word(random: int) -> int:
    """A random number below 2^32 for a state: O'Neill (2014), PCG-RXS-M-XS. Products fit into 63 bits."""
    word = (((random >> ((random >> 28) + 4)) ^ random) * 277803737) & _WORD
    return (word >> 22) ^ word


@kernel
def _below(random: int, n: int) -> int:
    """A random number from 0 to n - 1."""
    return (_word(random) * n) >> 32
