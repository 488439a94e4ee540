"""Isolation forests: scikit-learn's scores, the definition's paths, and blame that adds up."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from kernels.iforest import Forest, forest_zeros
from kernels.iforest_build import forest_build
from kernels.iforest_gains import forest_gains
from kernels.iforest_paths import forest_score
from tests import naive_iforest as naive

GOLDEN = Path(__file__).parent.parent / "golden" / "isolation_forest"
SETS = json.loads((GOLDEN / "agreement.json").read_text(encoding="utf-8"))["sets"]


def built(x: np.ndarray, seed: int = 1, n_trees: int = 100, n_sample: int | None = None, **options: Any) -> Forest:
    n_sample = n_sample or min(256, len(x))
    forest = forest_zeros(x.shape[1], n_trees, n_sample)
    n_features = options.get("n_features", x.shape[1])
    forest_build(x, seed, n_sample, n_features, options.get("is_bootstrap", False), forest)
    return forest


def scored(x: np.ndarray, forest: Forest, n_sample: int = 256) -> np.ndarray:
    out = np.empty(len(x))
    forest_score(x, n_sample, forest, out)
    return out


def gains(x: np.ndarray, forest: Forest, n_sample: int = 256) -> np.ndarray:
    out = np.empty(x.shape)
    forest_gains(x, n_sample, forest, out)
    return out


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, the mean rank for equal values."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - counts / 2)[which]


@pytest.mark.parametrize(("k", "name"), list(enumerate(SETS)))
def test_ranks_agree_with_scikit_learns_as_those_of_its_own_seeds_do(k: int, name: str) -> None:
    with np.load(GOLDEN / "sets.npz") as golden:
        x, is_outlier, reference = golden[f"x{k}"].astype(float), golden[f"is_outlier{k}"], golden[f"scores{k}"]
    ours = [scored(x, built(x, seed)) for seed in range(12)]
    agreement = [np.corrcoef(ranks(a), ranks(b))[0, 1] for a, b in product(ours, reference)]
    assert np.mean(agreement) > SETS[name]["rank correlation"] - 0.01
    n_outliers = is_outlier.sum()
    above = [ranks(s)[is_outlier].sum() - n_outliers**2 / 2 for s in ours]  # Mann and Whitney's U
    assert np.mean(above) / n_outliers / (~is_outlier).sum() == pytest.approx(SETS[name]["auc"], abs=0.01)
    # Scores are the same numbers too, not only in the same order.
    assert_allclose(np.mean(ours, axis=0), reference.mean(axis=0) / 65535, atol=0.025)


@pytest.mark.parametrize("n_columns", [1, 4])
def test_scores_are_the_mean_path_lengths_of_the_trees(n_columns: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_t(3, (500, n_columns)).round(1)
    forest = built(x, n_trees=20)
    probe = np.concatenate([x[:40], rng.normal(0, 30, (10, n_columns))])
    assert_allclose(scored(probe, forest), [naive.score(forest, row, 256) for row in probe], rtol=1e-7)


@pytest.mark.parametrize(("n_rows", "n_sample"), [(700, 256), (700, 100), (256, 256), (3, 3), (2, 2), (1, 1)])
def test_trees_part_their_samples_down_to_single_ones_or_the_largest_depth(n_rows: int, n_sample: int) -> None:
    x = np.random.default_rng(5).normal(0, 1, (n_rows, 3))
    for tree in naive.trees(built(x, n_trees=30, n_sample=n_sample)):
        largest = math.ceil(math.log2(max(n_sample, 2)))
        assert naive.n_samples(tree) == n_sample
        assert naive.depth(tree) <= largest
        # Two are never parted: a path through a leaf of two is as long as through its parts.
        assert all(1 <= n <= 2 or depth == largest for depth, n in naive.leaves(tree))


def test_each_tree_sees_rows_without_repeats_and_with_them_if_told() -> None:
    x = np.arange(8.0)[:, None]

    def single_values(**options: Any) -> set[int]:
        """Sizes of leaves above the largest depth: there distinct values are always parted, equal ones never."""
        found = naive.trees(built(x, n_trees=50, **options))
        depth = math.ceil(math.log2(options["n_sample"]))
        return {n for tree in found for at, n in naive.leaves(tree) if at < depth}

    assert single_values(n_sample=8) <= {1, 2}
    assert max(single_values(n_sample=32, is_bootstrap=True)) > 3


def test_a_tree_splits_by_no_more_columns_than_told() -> None:
    x = np.random.default_rng(6).normal(0, 1, (300, 5))
    forest = built(x, n_trees=60, n_features=2)
    ends = np.cumsum(forest.size)
    used = [set(forest.feature[end - n : end].tolist()) for end, n in zip(ends, forest.size, strict=True)]
    assert {len(columns) for columns in used} <= {1, 2}
    assert set.union(*used) == set(range(5))


def test_the_seed_and_nothing_else_chooses_the_forest() -> None:
    x = np.random.default_rng(7).normal(0, 1, (300, 2))
    for a, b in zip(built(x), built(x), strict=True):
        assert_array_equal(a, b)
    assert (built(x).threshold != built(x, seed=2).threshold).any()
    # Trees differ too: a first split is at another place in each.
    assert len({tree[:2] for tree in naive.trees(built(x))}) == 100
    assert built(x, seed=-1).size.any()


def test_first_cuts_of_the_trees_lie_in_consecutive_parts_of_the_range() -> None:
    x = np.random.default_rng(15).random((3000, 1))
    forest = built(x)
    first = np.cumsum(forest.size) - forest.size
    cuts = forest.threshold[first] * forest.scale[0] + forest.center[0]
    # The range is that of each tree's sample: nearly 0 to 1.
    assert_allclose(cuts, (np.arange(100) + 0.5) / 100, atol=0.03)


def test_rows_are_scored_alone() -> None:
    x = np.random.default_rng(8).normal(0, 1, (300, 3))
    forest = built(x)
    whole, blame = scored(x, forest), gains(x, forest)
    for a in range(0, 300, 70):
        assert_array_equal(scored(x[a : a + 1], forest), whole[a : a + 1])
        assert_array_equal(gains(x[a : a + 1], forest), blame[a : a + 1])


def test_without_room_trees_are_less_deep_and_still_whole() -> None:
    x = np.random.default_rng(9).random((300, 1))
    full = forest_zeros(1, 40, 256)
    small = full._replace(
        threshold=full.threshold[:400], feature=full.feature[:400], left=full.left[:400], leaf=full.leaf[:440]
    )
    forest_build(x, 1, 256, 1, False, small)
    found = naive.trees(small)
    assert all(naive.n_samples(tree) == 256 for tree in found)
    assert small.size.sum() <= 400
    assert min(naive.depth(tree) for tree in found) >= 3


def test_gains_of_columns_add_up_to_the_score() -> None:
    rng = np.random.default_rng(10)
    x = rng.standard_t(3, (400, 5))
    forest = built(x)
    probe = np.concatenate([x[:50], rng.normal(0, 20, (50, 5))])
    assert_allclose(gains(probe, forest).sum(axis=1), 1 + np.log2(scored(probe, forest)), atol=1e-6)


def test_gains_blame_the_column_that_moved() -> None:
    rng = np.random.default_rng(11)
    mixing = rng.normal(0, 1, (6, 6))
    x, probe = rng.normal(0, 1, (1000, 6)) @ mixing, rng.normal(0, 1, (300, 6)) @ mixing
    moved = rng.integers(0, 6, 300)
    probe[np.arange(300), moved] += 6 * x.std(axis=0)[moved] * rng.choice([-1, 1], 300)
    blame = gains(probe, built(x))
    assert (blame.argmax(axis=1) == moved).mean() > 0.95
    # What is usual is blamed for nothing: nearly all of what remains is the moved column's.
    positive = np.maximum(blame, 0)
    assert (positive[np.arange(300), moved] / positive.sum(axis=1)).mean() > 0.75


def test_a_column_that_never_moved_is_blamed_when_it_does() -> None:
    x = np.random.default_rng(12).normal(0, 1, (300, 3))
    x[:, 1] = 7.5
    forest = built(x)
    probe = x[:2].copy()
    probe[1] = 0.0, 7.6, 0.0
    raw, blame = scored(probe, forest), gains(probe, forest)
    # Isolated by one cut.
    assert raw[1] == pytest.approx(2 ** (-1 / naive.usual_length(256)), rel=1e-12)
    assert raw[0] == pytest.approx(naive.score(forest, probe[0], 256), rel=1e-7)
    assert_allclose(blame[1], [0, 1 - 1 / naive.usual_length(256), 0])
    assert blame[0, 1] == 0


@pytest.mark.parametrize("value", [0.0, -3.5, 1e300])
def test_where_nothing_ever_moved_the_constant_scores_one_half(value: float) -> None:
    x = np.full((40, 2), value)
    forest = built(x)
    assert_allclose(scored(x[:1], forest, 40), 0.5, rtol=1e-7)
    assert scored(x[:1] * 0.5 - 1, forest, 40)[0] > 0.8
    assert_array_equal(gains(x[:1], forest, 40), 0.0)


def test_values_close_together_far_from_zero_are_told_apart() -> None:
    x = 1e9 + np.random.default_rng(13).normal(0, 1e-3, (300, 1))
    far = x.copy() - 1e9
    assert_allclose(scored(x, built(x)), scored(far, built(far)), atol=2e-3)
    assert scored(np.array([[1e9 + 1.0]]), built(x))[0] > 0.7


def test_what_is_no_number_gets_none_and_what_is_huge_a_score() -> None:
    x = np.random.default_rng(14).normal(0, 1, (300, 2))
    probe = np.array([[np.nan, 0.0], [0.0, np.inf], [1e308, -1e308]])
    forest = built(x)
    assert_array_equal(np.isnan(scored(probe, forest)), [True, True, False])
    assert_array_equal(np.isnan(gains(probe, forest)).all(axis=1), [True, True, False])


def test_kernels_are_compiled_once() -> None:
    # Each for forests whose numbers take one byte, and two.
    assert all(len(getattr(k, "signatures", [()])) <= 2 for k in (forest_build, forest_score, forest_gains))
