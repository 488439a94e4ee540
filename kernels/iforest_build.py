"""Isolation forests: samples are drawn for the trees, and trees grown from them."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F32, F64, I32, I64, U64, kernel
from kernels.iforest import Forest, scaled_columns
from kernels.iforest_grow import grow_alone, grow_mixed
from kernels.random32 import WORD, below, mixed, next_state
from kernels.ranks import ascending
from kernels.words import trailing_zeros

_ONE = np.uint64(1)


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

    One column is sorted once: a tree's sample is then in order, a node a part of it, and nothing is gathered.

    Two things make forests of different seeds more alike, as a quarter more trees would, and leave each tree as it
    is: none takes a row that one before it took until all are used up, and first thresholds lie in parts 1 to n_trees
    of their range.

    O(n_trees n_sample d log n_sample) at worst.
    """
    n_rows, n_columns = x.shape
    is_alone = n_columns == 1
    if is_alone:
        x = ascending_samples(x[:, 0].copy()).reshape((n_rows, 1))
    values = _scaled(x, is_alone, out)
    sample = np.empty((n_columns, n_sample), dtype=np.float32)
    rows, picked, columns = np.arange(n_rows), np.empty(n_sample, dtype=np.int64), np.arange(n_columns)
    members, n_times = np.zeros(n_rows // 64 + 1, dtype=np.uint64), np.zeros(n_rows, dtype=np.int32)
    stack = np.empty((math.ceil(math.log2(max(n_sample, 2))) + 1, 4), dtype=np.int64)
    n_trees = out.size.size
    room, node, leaf, n_drawn = out.threshold.size // n_trees, 0, 0, 0
    for tree in range(n_trees):
        random = mixed(mixed(seed & WORD) ^ (tree + 1))
        random, n_drawn = _draw(random, n_drawn, is_bootstrap, rows, picked)
        if is_alone:
            _gather_ascending(values[0], picked, members, n_times, sample[0])
        else:
            for f in range(n_columns):
                for k in range(n_sample):
                    sample[f, k] = values[f, picked[k]]
        for k in range(n_features):
            random = next_state(random)
            which = k + below(random, n_columns - k)
            columns[k], columns[which] = columns[which], columns[k]
        deepest, begin, last = math.ceil(math.log2(max(n_sample, 2))), tree / n_trees, (tree + 1) * room
        end = -1
        while end < 0:
            if is_alone:
                end = grow_alone(sample[0], deepest, begin, random, node, leaf, last, stack, out)
            else:
                end = grow_mixed(sample, columns[:n_features], deepest, begin, random, node, leaf, last, stack, out)
            deepest -= 1
        out.size[tree] = end - node
        leaf += end - node + 1
        node = end
    out.feature[node:], out.left[node:], out.threshold[node:], out.leaf[leaf:] = 0, 0, 0.0, 0


@kernel
def ascending_samples(samples: F64) -> F64:
    """Finite samples in ascending order: themselves, if they are."""
    n, is_ascending = samples.size, True
    for k in range(1, n):
        is_ascending &= samples[k - 1] <= samples[k]
    if is_ascending:
        return samples
    keys, places = np.empty((3, n), dtype=np.uint64), np.empty((2, n), dtype=np.int32)
    return samples[ascending(samples, n, keys, places)]


@kernel
def _scaled(x: F64, is_ascending: bool, out: Forest) -> F32:
    """(d, n) rows in a forest's units, which are found and written."""
    middle = (x.shape[0] - 1) // 2
    for f in range(x.shape[1]):
        column = x[:, f].copy()
        out.center[f] = column[middle] if is_ascending else np.partition(column, middle)[middle]
        out.scale[f] = max(column.max() - out.center[f], out.center[f] - column.min())
    return scaled_columns(x, out)[0]


@kernel
def _draw(random: int, n_drawn: int, is_bootstrap: bool, rows: I64, picked: I64) -> tuple[int, int]:
    """Draw a tree's rows; returns the random numbers' state, and how many of `rows`, the first, are used up."""
    n_rows = rows.size
    n_drawn = n_drawn if n_drawn + picked.size <= n_rows else 0
    for k in range(picked.size):
        random = next_state(random)
        if is_bootstrap:
            picked[k] = rows[below(random, n_rows)]
        else:
            which = n_drawn + below(random, n_rows - n_drawn)
            picked[k], rows[which] = rows[which], rows[n_drawn]
            rows[n_drawn] = picked[k]
            n_drawn += 1
    return random, n_drawn


@kernel
def _gather_ascending(values: F32, picked: I64, members: U64, n_times: I32, out: F32) -> None:
    """Write the values of some rows in ascending order; those of all rows are.

    `members`, a bit for each row, and `n_times`, how often each was picked, are zero before and after.
    """
    for at in picked:
        members[at >> 6] |= _ONE << np.uint64(at & 63)
        n_times[at] += 1
    n = 0
    for k in range(members.size):
        word = members[k]
        members[k] = 0
        while word != 0:
            at = (k << 6) + int(np.int64(trailing_zeros(word)))
            word &= word - _ONE
            for _ in range(n_times[at]):
                out[n] = values[at]
                n += 1
            n_times[at] = 0
