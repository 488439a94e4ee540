"""What each column adds to an isolation forest's score."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F32, F64, I64, kernel
from kernels.iforest import Forest, scaled_columns
from kernels.iforest_paths import path_lengths


@kernel
def forest_gains(x: F64, n_sample: int, forest: Forest, out: F64) -> None:
    """By how much each column's cuts shorten the mean path of a row, relative to the path in a random tree.

    Parameters
    ----------
    x : (n, d) rows. One that is not all finite gets NaN.
    n_sample : rows in each tree's sample.
    out : (n, d); a row adds up to 1 plus the logarithm to base 2 of its score. Negative where a column's cuts leave
        the row with more samples than chance would: its value is a common one.

    Notes
    -----
    A cut that leaves m of n samples on the row's side is worth c(n) - c(m) - 1, where c is the mean path length in
    a random tree of as many samples: 0 on average over the samples. These sum to c(n_sample) less the path length.
    Where columns that never moved in the sample have, they have isolated the row alone, in equal parts.
    O(n n_trees log n_sample) and one pass over the leaves.
    """
    lengths = path_lengths(n_sample)
    columns, is_finite = scaled_columns(x, forest)
    out[:] = 0.0
    below = np.zeros(n_sample + 1, dtype=np.int64)
    node, leaf = 0, 0
    for size in forest.size:
        n_splits = int(size)
        for k in range(n_splits + 1):
            below[k + 1] = below[k] + int(forest.leaf[leaf + k]) + 1
        for i in range(x.shape[0]):
            _add_path(columns, i, node, n_splits, below, lengths, forest, out[i])
        node += n_splits
        leaf += n_splits + 1
    usual = forest.size.size * lengths[n_sample]
    for i in range(x.shape[0]):
        if not is_finite[i]:
            out[i] = math.nan
        elif usual > 0.0:
            out[i] /= usual
            _blame_still_columns(x[i], forest, 1.0 - 1.0 / lengths[n_sample], out[i])


@kernel
def _add_path(columns: F32, i: int, node: int, size: int, below: I64, lengths: F64, forest: Forest, out: F64) -> None:
    """Add the worth of each cut on the way of row `i` down; `below` has the samples in all leaves before each."""
    first = 0
    while size > 0:
        n, left, f = below[first + size + 1] - below[first], int(forest.left[node]), forest.feature[node]
        if columns[f, i] <= forest.threshold[node]:
            node, size = node + 1, left
        else:
            node, size, first = node + 1 + left, size - 1 - left, first + 1 + left
        out[f] += lengths[n] - lengths[below[first + size + 1] - below[first]] - 1.0


@kernel
def _blame_still_columns(row: F64, forest: Forest, gain: float, out: F64) -> None:
    """Give all to the columns that never moved in the sample and differ now, if there are any."""
    n_moved = 0
    for f in range(row.size):
        n_moved += forest.scale[f] == 0.0 and row[f] != forest.center[f]
    if n_moved > 0 and gain > np.sum(out):
        for f in range(row.size):
            out[f] = gain / n_moved if forest.scale[f] == 0.0 and row[f] != forest.center[f] else 0.0
