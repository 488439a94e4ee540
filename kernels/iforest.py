"""Isolation forests in flat arrays."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from kernels._jit import B1, F32, F64, I16, U8, kernel

# Scaled values are kept within this, so that they are finite as float32.
_FARTHEST = 1e30
# Up to so many samples of so many columns, numbers of either take one byte.
_BYTE = 256


class Forest(NamedTuple):
    """One forest over d columns: trees one behind the other, their splits in pre-order, their leaves left to right.

    center, scale : (d,) a column's lower median and its largest distance from it; scale 0 is one that never moved.
    threshold, feature, left : (N,) of the splits: what goes left is at most `threshold` in column `feature`, in
        scaled units; `left` counts the splits of the left subtree. The tail that no tree uses is zero.
    leaf : (N + n_trees,) samples in each leaf, less one; its tail is zero too.
    size : (n_trees,) splits of each tree.
    """

    center: F64
    scale: F64
    threshold: F32
    feature: U8 | I16
    left: U8 | I16
    leaf: U8 | I16
    size: I16


def forest_zeros(n_columns: int, n_trees: int, n_sample: int) -> Forest:
    """A forest to build into, with room for 0.36 `n_sample` splits a tree: only fractal data need more."""
    n_splits = n_trees * max(min(n_sample, 32), int(0.36 * n_sample))
    count: type[Any] = np.uint8 if max(n_columns, n_sample) <= _BYTE else np.int16
    return Forest(
        np.zeros(n_columns),
        np.zeros(n_columns),
        np.zeros(n_splits, dtype=np.float32),
        np.zeros(n_splits, dtype=count),
        np.zeros(n_splits, dtype=count),
        np.zeros(n_splits + n_trees, dtype=count),
        np.zeros(n_trees, dtype=np.int16),
    )


@kernel
def scaled_columns(x: F64, forest: Forest) -> tuple[F32, B1]:
    """(d, n) rows in a forest's units, each column in one piece, and which rows are all finite; others mean nothing."""
    columns, is_finite = np.empty((x.shape[1], x.shape[0]), dtype=np.float32), np.ones(x.shape[0], dtype=np.bool_)
    for i in range(x.shape[0]):
        for f in range(x.shape[1]):
            is_finite[i] &= math.isfinite(x[i, f])
            columns[f, i] = scaled_value(x[i, f], forest.center[f], forest.scale[f])
    return columns, is_finite


@kernel
def scaled_value(value: float, center: float, scale: float) -> np.float32:
    """A value in a forest's units; 0 in a column that never moved."""
    return np.float32(min(max((value - center) / scale, -_FARTHEST), _FARTHEST) if scale > 0.0 else 0.0)
