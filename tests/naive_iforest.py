"""Isolation forests from the definition: trees as nested tuples, walked row by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# (feature, threshold, left, right), or how many samples a leaf has.
Tree = Any


def trees(forest: Any) -> list[Tree]:
    """The trees of flat arrays, with thresholds in the data's units."""
    found, node, leaf = [], 0, 0
    for size in forest.size.tolist():
        tree, node_end, leaf_end = _tree(forest, node, size, leaf)
        assert node_end == node + size
        assert leaf_end == leaf + size + 1
        found.append(tree)
        node, leaf = node_end, leaf_end
    return found


def _tree(forest: Any, node: int, size: int, leaf: int) -> tuple[Tree, int, int]:
    if size == 0:
        return int(forest.leaf[leaf]) + 1, node, leaf + 1
    n_left = int(forest.left[node])
    left, right_node, right_leaf = _tree(forest, node + 1, n_left, leaf)
    right, end, leaf_end = _tree(forest, right_node, size - 1 - n_left, right_leaf)
    return (int(forest.feature[node]), forest.threshold[node], left, right), end, leaf_end


def n_samples(tree: Tree) -> int:
    return tree if isinstance(tree, int) else n_samples(tree[2]) + n_samples(tree[3])


def depth(tree: Tree) -> int:
    return 0 if isinstance(tree, int) else 1 + max(depth(tree[2]), depth(tree[3]))


def leaves(tree: Tree, at: int = 0) -> list[tuple[int, int]]:
    """Depth and samples of each leaf."""
    return [(at, tree)] if isinstance(tree, int) else leaves(tree[2], at + 1) + leaves(tree[3], at + 1)


def usual_length(n: int) -> float:
    """c(n) of Liu, Ting and Zhou (2008), its harmonic number by Euler's constant as in scikit-learn."""
    if n <= 2:
        return float(n == 2)
    return 2 * (math.log(n - 1) + 0.5772156649015329) - 2 * (n - 1) / n


def path_length(tree: Tree, row: Any) -> float:
    if isinstance(tree, int):
        return usual_length(tree)
    feature, threshold, left, right = tree
    return 1 + path_length(left if row[feature] <= threshold else right, row)


def score(forest: Any, row: Any, n_sample: int) -> float:
    """Raw score of a row whose still columns have not moved."""
    moving = np.where(forest.scale > 0, forest.scale, 1.0)
    scaled = ((np.asarray(row) - forest.center) / moving).astype(np.float32)
    lengths = [path_length(tree, scaled) for tree in trees(forest)]
    return float(2.0 ** (-np.mean(lengths) / usual_length(n_sample)))
