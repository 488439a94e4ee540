"""Raw scores of an isolation forest: how long the paths of rows through its trees are."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F32, F64, I64, kernel
from kernels.iforest import Forest, scaled_columns

# Rows that go through a tree side by side: what the fastest cache holds of them.
_BLOCK = 1024
# Fewer rows than this walk down the trees one by one.
_FEW = 32


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
    Rows are independent. A value that differs in a column that never moved in the sample is isolated by the first
    cut, although no tree can have such a one.

    A few rows walk down each tree, O(log n_sample). Many are not sent anywhere: from the lowest splits up, each
    split chooses for all rows of a block between the path lengths of its two sides. That is O(n_sample) a row and
    tree, but the processor chooses for eight or sixteen rows at once and never guesses a branch: a fifth of the time.
    """
    score_rows(x, path_lengths(n_sample), forest, out)


@kernel
def score_rows(x: F64, lengths: F64, forest: Forest, out: F64) -> None:
    """As `forest_score`, with `path_lengths` of the sample's size at hand."""
    n_rows, usual = x.shape[0], lengths[lengths.size - 1]
    columns, is_finite = scaled_columns(x, forest)
    out[:] = 0.0
    if n_rows < _FEW:
        _add_walks(columns, lengths, forest, out)
    else:
        _add_choices(columns, lengths, forest, out)
    for i in range(n_rows):
        mean = out[i] / forest.size.size
        for f in range(x.shape[1]):
            if forest.scale[f] == 0.0 and x[i, f] != forest.center[f]:
                mean = min(mean, 1.0)
        out[i] = raw_score(mean, usual) if is_finite[i] else math.nan


@kernel
def raw_score(length: float, usual: float) -> float:
    """Score of a mean path length, where the path in a random tree is `usual`; a half where nothing can be cut."""
    return math.exp2(-length / usual) if usual > 0.0 else 0.5


@kernel
def path_lengths(n_sample: int) -> F64:
    """Mean path lengths of unsuccessful searches among 0 to `n_sample`, at least 1, samples: what a leaf adds."""
    lengths = np.zeros(max(n_sample, 1) + 1)
    for n in range(2, n_sample + 1):
        lengths[n] = 1.0 if n == 2 else 2.0 * (math.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return lengths


@kernel
def path_at(depth: int, leaf: int, lengths: F64, forest: Forest) -> float:
    """Path length of a leaf at a depth, to 24 bits: blocks of rows hold it in single precision."""
    return float(np.float32(depth + lengths[int(forest.leaf[leaf]) + 1]))


@kernel
def _add_walks(columns: F32, lengths: F64, forest: Forest, out: F64) -> None:
    """Add the path lengths of scaled rows, each on its way down the trees."""
    for i in range(out.size):
        first, first_leaf = 0, 0
        for tree_size in forest.size:
            node, leaf, n_splits, depth = first, first_leaf, int(tree_size), 0
            while n_splits > 0:
                left = int(forest.left[node])
                if columns[forest.feature[node], i] <= forest.threshold[node]:
                    node, n_splits = node + 1, left
                else:
                    node, n_splits, leaf = node + 1 + left, n_splits - 1 - left, leaf + 1 + left
                depth += 1
            out[i] += path_at(depth, leaf, lengths, forest)
            first, first_leaf = first + int(tree_size), first_leaf + int(tree_size) + 1


@kernel
def _add_choices(columns: F32, lengths: F64, forest: Forest, out: F64) -> None:
    """Add the path lengths of scaled rows, in blocks."""
    most = 0
    for tree_size in forest.size:
        most = max(most, int(tree_size))
    # Of each split: splits of its subtree, its depth, the first leaf of its subtree.
    place = np.empty((most, 3), dtype=np.int64)
    node, leaf = 0, 0
    for tree_size in forest.size:
        n_splits = int(tree_size)
        deepest = _place_splits(node, n_splits, leaf, forest, place)
        # Of subtrees whose other side is still to come: at most one waits at each depth.
        length = np.empty((deepest + 2, _BLOCK), dtype=np.float32)
        for a in range(0, out.size, _BLOCK):
            b = min(a + _BLOCK, out.size)
            if n_splits == 0:
                length[0] = path_at(0, leaf, lengths, forest)
            _choose(columns, a, b, node, n_splits, lengths, forest, place, length)
            for k in range(b - a):
                out[a + k] += length[0, k]
        node += n_splits
        leaf += n_splits + 1


@kernel
def _place_splits(node: int, n_splits: int, leaf: int, forest: Forest, place: I64) -> int:
    """Write where a tree's splits are, and return the depth of the deepest."""
    deepest = 0
    if n_splits > 0:
        place[0, 0], place[0, 1], place[0, 2] = n_splits, 0, leaf
    for k in range(n_splits):
        size, depth, first_leaf = place[k, 0], place[k, 1], place[k, 2]
        left = int(forest.left[node + k])
        deepest = max(deepest, depth)
        if left > 0:
            place[k + 1, 0], place[k + 1, 1], place[k + 1, 2] = left, depth + 1, first_leaf
        if left + 1 < size:
            right = k + 1 + left
            place[right, 0], place[right, 1], place[right, 2] = size - 1 - left, depth + 1, first_leaf + left + 1
    return deepest


@kernel
def _choose(
    columns: F32, a: int, b: int, node: int, n_splits: int, lengths: F64, forest: Forest, place: I64, length: F32
) -> None:
    """Write the path lengths of rows `a` to `b` in a tree to `length[0]`; of one without splits, leave it.

    From the last split back, as they lie: what a split's sides are has been found just before, the left side last.
    """
    top = -1
    for k in range(n_splits - 1, -1, -1):
        x, at = columns[forest.feature[node + k]][a:b], forest.threshold[node + k]
        n_left, depth, leaf = int(forest.left[node + k]), place[k, 1] + 1, place[k, 2]
        is_end, is_right_end = n_left == 0, n_left + 1 == place[k, 0]
        low = np.float32(path_at(depth, leaf, lengths, forest))
        high = np.float32(path_at(depth, leaf + n_left + 1, lengths, forest))
        if is_end and is_right_end:
            top += 1
            _choose_of_two(x, at, low, high, length[top])
        elif is_end:
            _choose_low(x, at, low, length[top])
        elif is_right_end:
            _choose_high(x, at, high, length[top])
        else:
            top -= 1
            _choose_of_rows(x, at, length[top + 1], length[top])


@kernel
def _choose_of_two(x: F32, at: np.float32, low: np.float32, high: np.float32, out: F32) -> None:
    for k in range(x.size):
        out[k] = low if x[k] <= at else high


@kernel
def _choose_low(x: F32, at: np.float32, low: np.float32, out: F32) -> None:
    for k in range(x.size):
        high = out[k]
        out[k] = low if x[k] <= at else high


@kernel
def _choose_high(x: F32, at: np.float32, high: np.float32, out: F32) -> None:
    for k in range(x.size):
        low = out[k]
        out[k] = low if x[k] <= at else high


@kernel
def _choose_of_rows(x: F32, at: np.float32, low: F32, out: F32) -> None:
    for k in range(x.size):
        under, over = low[k], out[k]
        out[k] = under if x[k] <= at else over
