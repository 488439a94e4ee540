"""Trees of an isolation forest, grown from their samples."""

from __future__ import annotations

import numpy as np

from kernels._jit import F32, I64, kernel
from kernels.iforest import Forest
from kernels.random32 import WORD, below, next_state, word_of
from kernels.words import leading_zeros


@kernel
def grow_alone(
    sample: F32, max_depth: int, place: float, random: int, first: int, first_leaf: int, end: int, stack: I64,
    out: Forest,
) -> int:  # fmt: skip
    """As `grow_mixed`, from one column's sample in ascending order: a node is a part of it, and nothing is gathered."""
    a, b, depth, top, node, leaf = 0, sample.size, 0, 0, first, first_leaf
    while True:
        low, high, is_split = np.float64(sample[a]), np.float64(sample[b - 1]), False
        if b - a > 2 and depth < max_depth:
            random = next_state(random)
            is_split = bool(low < high)
        if is_split:
            if node == end:
                return -1
            random = next_state(random)
            at = _cut(random, low, high, place, depth, out.size.size)
            middle = _first_above(sample, a, b, at)
            out.threshold[node], out.feature[node], out.left[node] = at, 0, 0
            stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3] = middle, b, depth + 1, node
            top, node, b, depth = top + 1, node + 1, middle, depth + 1
            continue
        out.leaf[leaf] = b - a - 1
        leaf += 1
        if top == 0:
            return node
        top -= 1
        a, b, depth = stack[top, 0], stack[top, 1], stack[top, 2]
        out.left[stack[top, 3]] = node - stack[top, 3] - 1


@kernel
def grow_mixed(
    sample: F32, columns: I64, max_depth: int, place: float, random: int, first: int, first_leaf: int, end: int,
    stack: I64, out: Forest,
) -> int:  # fmt: skip
    """One more than the last split of a tree whose first is `first`; -1 if it needs more than those before `end`.

    Parameters
    ----------
    sample : (d, n) of the tree.
    columns : that it may split by; their order changes.
    place : where in its range the part for the first threshold begins; the part is as long as there are trees.
    stack : (max_depth, 4) scratch: of right sides to come, first sample, one more than the last, depth, and split.
    """
    order, above = np.arange(sample.shape[1]), np.empty(sample.shape[1], dtype=np.int64)
    a, b, depth, top, node, leaf = 0, order.size, 0, 0, first, first_leaf
    while True:
        f, low, high = -1, 0.0, 0.0
        n_left = columns.size if b - a > 2 and depth < max_depth else 0
        while n_left > 0 and f < 0:
            random = next_state(random)
            k = below(random, n_left)
            low, high = _range(sample[columns[k]], order[a:b])
            if low < high:
                f = columns[k]
            else:
                n_left -= 1
                columns[k], columns[n_left] = columns[n_left], columns[k]
        if f >= 0:
            if node == end:
                return -1
            random = next_state(random)
            at = _cut(random, low, high, place, depth, out.size.size)
            middle = a + _partition(sample[f], order[a:b], at, above)
            out.threshold[node], out.feature[node], out.left[node] = at, f, 0
            stack[top, 0], stack[top, 1], stack[top, 2], stack[top, 3] = middle, b, depth + 1, node
            top, node, b, depth = top + 1, node + 1, middle, depth + 1
            continue
        out.leaf[leaf] = b - a - 1
        leaf += 1
        if top == 0:
            return node
        top -= 1
        a, b, depth = stack[top, 0], stack[top, 1], stack[top, 2]
        out.left[stack[top, 3]] = node - stack[top, 3] - 1


@kernel
def _cut(random: int, low: float, high: float, place: float, depth: int, n_trees: int) -> float:
    """A threshold from `low` to below `high`, exact in 24 bits."""
    share = (word_of(random) + 0.5) / (WORD + 1.0)
    if depth == 0:
        share = place + share / n_trees
    at = float(np.float32(low + share * (high - low)))
    return low if at >= high else at


@kernel
def _range(values: F32, order: I64) -> tuple[float, float]:
    """Least and largest of the values at some positions."""
    low = high = values[order[0]]
    for k in order:
        low, high = min(low, values[k]), max(high, values[k])
    return float(low), float(high)


@kernel
def _first_above(ordered: F32, a: int, b: int, threshold: float) -> int:
    """The first of the ascending values from `a` to `b` that is above; that at `a` never is, the last always is."""
    # Of the values between, those in the first and in the last 2^k - 1 are all; shifted comparisons are no branches.
    size = b - a - 1
    shift = 63 - int(np.int64(leading_zeros(np.uint64(size))))
    width = 1 << shift
    first = a + 1 + (size - width) * int(ordered[a + width] <= threshold)
    while shift > 0:
        shift -= 1
        width >>= 1
        first += int(ordered[first + width - 1] <= threshold) << shift
    return first


@kernel
def _partition(values: F32, order: I64, threshold: float, above: I64) -> int:
    """How many are at most `threshold`; their positions come first afterwards. `above` is scratch."""
    # Both places are written and one of them counts: there is no branch to guess.
    n_below, n_above = 0, 0
    for k in range(order.size):
        at = order[k]
        order[n_below], above[n_above] = at, at
        is_below = 1 if values[at] <= threshold else 0
        n_below, n_above = n_below + is_below, n_above + 1 - is_below
    order[n_below:] = above[:n_above]
    return n_below
