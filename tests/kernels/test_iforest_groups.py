"""Forests of groups of channels: each the forest of its complete rows, whatever stands beside it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kernels.iforest import Forest, forest_zeros
from kernels.iforest_build import forest_build
from kernels.iforest_gains import forest_gains
from kernels.iforest_groups import GroupForests, groups_fit, groups_score
from kernels.iforest_paths import forest_score

N_TREES, N_SAMPLE = 10, 64
INDPTR = np.array([0, 2, 3, 6])


def empty(n_groups: int, n_shared: int) -> GroupForests:
    one = forest_zeros(0, N_TREES, N_SAMPLE)
    trees = [np.zeros((n_groups, a.size), a.dtype) for a in (one.threshold, one.feature, one.left, one.leaf, one.size)]
    shared = np.zeros((n_groups, n_shared)), np.zeros((n_groups, n_shared))
    return GroupForests(*trees, *shared, np.zeros(n_groups, np.int64), np.zeros(n_groups), np.zeros(n_groups))


def made(n_shared: int) -> tuple[np.ndarray, np.ndarray]:
    """Six channels with holes, and further columns."""
    rng = np.random.default_rng(8)
    y = rng.normal(0, 3, (6, 200))
    y[0, ::7] = np.nan
    y[4, 3], y[5, 5], y[3, 9] = np.inf, -np.inf, 1e301
    return y, np.ascontiguousarray(rng.normal(0, 1, (200, n_shared)))


@pytest.mark.parametrize("n_shared", [0, 2])
@pytest.mark.parametrize("share", [0.0, 0.25])
def test_each_group_is_the_forest_of_its_complete_rows(n_shared: int, share: float) -> None:
    y, shared = made(n_shared)
    center, scale, out = np.zeros(6), np.zeros(6), empty(3, n_shared)
    n_features = np.diff(INDPTR) + n_shared
    groups_fit(y, INDPTR, shared, 5, N_SAMPLE, share, n_features, False, 0.1, center, scale, out)
    score, gain = np.empty((3, 200)), np.empty((6, 200))
    groups_score(y, INDPTR, shared, center, scale, out, score, gain)
    for g, (a, b) in enumerate(pairwise(INDPTR)):
        rows = np.column_stack([y[a:b].T, shared])
        kept = np.ascontiguousarray(rows[(np.abs(rows) <= 1e300).all(axis=1)])
        n_sample = min(N_SAMPLE, int(share * len(kept)) if share else len(kept))
        forest = forest_zeros(rows.shape[1], N_TREES, N_SAMPLE)
        forest_build(kept, 5, n_sample, rows.shape[1], False, forest)
        assert out.used[g] == n_sample
        assert_array_equal(center[a:b], forest.center[: b - a])
        assert_array_equal(out.shared_scale[g], forest.scale[b - a :])
        for name in ("threshold", "feature", "left", "leaf", "size"):
            assert_array_equal(getattr(out, name)[g], getattr(forest, name))
        assert_group(rows, kept, n_sample, forest, score[g], gain[a:b])


def assert_group(
    rows: np.ndarray, kept: np.ndarray, n_sample: int, forest: Forest, score: np.ndarray, gain: np.ndarray
) -> None:
    """Scores by the quantile of the raw ones, gains of the channels."""
    raw, fitted, added = np.empty(len(rows)), np.empty(len(kept)), np.empty(rows.shape)
    forest_score(np.ascontiguousarray(rows), n_sample, forest, raw)
    forest_score(kept, n_sample, forest, fitted)
    forest_gains(np.ascontiguousarray(rows), n_sample, forest, added)
    low, high = fitted.min(), np.quantile(fitted, 0.9)
    assert_allclose(score, np.maximum((raw - low) / (high - low), 0), rtol=1e-9, atol=1e-9)
    assert_array_equal(gain, added[:, : gain.shape[0]].T)
    assert_array_equal(np.isnan(score), ~np.isfinite(rows).all(axis=1))


def test_a_group_with_fewer_than_two_complete_rows_is_left_empty() -> None:
    y = np.array([[1.0, 2.0, np.nan], [np.nan, 5.0, 6.0], [1.0, 2.0, 3.0]])
    out, scales = empty(2, 0), np.zeros((2, 3))
    indptr = np.array([0, 2, 3])
    groups_fit(y, indptr, np.empty((3, 0)), 1, N_SAMPLE, 0.0, np.array([2, 1]), False, 0.0, *scales, out)
    assert out.used.tolist() == [0, 3]
    assert out.size[0].sum() == 0


def test_a_still_group_scores_nothing_at_any_hour_until_it_moves() -> None:
    y, shared = np.full((2, 100), 3.0), np.random.default_rng(1).normal(0, 1, (100, 2))
    out, scales, indptr = empty(1, 2), np.zeros((2, 2)), np.array([0, 2])
    groups_fit(y, indptr, shared, 1, N_SAMPLE, 0.0, np.array([4]), False, 0.02, *scales, out)
    score = np.empty((1, 100))
    y[1, 50] = 3.5
    groups_score(y, indptr, shared, *scales, out, score, np.empty((0, 0)))
    assert score[0, 50] > 1
    assert (np.delete(score[0], 50) == 0).all()
