"""Staircases of forests, forests of many rows, and the map of raw scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal

from kernels.iforest import Forest, forest_zeros
from kernels.iforest_build import forest_build
from kernels.iforest_map import map_fit, map_score
from kernels.iforest_paths import forest_score
from kernels.iforest_rows import rows_fit, rows_score
from kernels.iforest_steps import steps_fit, steps_score
from tests.strategies import HUGE, matrices

SAMPLES = {
    "normal": lambda rng: rng.normal(0, 1, 3000),
    "even": lambda rng: rng.random(3000),
    "log-normal": lambda rng: rng.lognormal(0, 2, 3000),
    "rhythm": lambda rng: 10 * np.sin(np.arange(3000) / 45) + rng.normal(0, 1, 3000),
    "counts": lambda rng: rng.poisson(40, 3000).astype(float),
    "two values": lambda rng: rng.integers(0, 2, 3000).astype(float),
    "few": lambda rng: rng.normal(0, 1, 5),
}


def fitted(y: np.ndarray, contamination: float = 0.0, n_cuts: int = 511, **options: Any) -> dict[str, Any]:
    """The state that `steps_fit` leaves, by name."""
    n = y.shape[0]
    state: dict[str, Any] = {name: np.zeros(n) for name in ("center", "scale", "low", "high")}
    state |= {"used": np.zeros(n, dtype=np.int64), "cut": np.zeros((n, n_cuts), dtype=np.float32)}
    state["level"] = np.zeros((n, n_cuts + 1), dtype=np.int16)
    n_sample, share = options.get("n_sample", 256), options.get("share", 0.0)
    scratch = forest_zeros(1, options.get("n_trees", 100), n_sample)
    steps_fit(y, options.get("seed", 3), n_sample, share, False, contamination, scratch, *state.values())
    return state


def scored(y: np.ndarray, state: dict[str, Any]) -> np.ndarray:
    out = np.empty(y.shape)
    steps_score(y, *(state[n] for n in ("center", "scale", "low", "high", "cut", "level")), out)
    return out


def raw_scores(y: np.ndarray, state: dict[str, Any]) -> np.ndarray:
    """What the map was given: with 0 and 1 as its fixed points it changes nothing."""
    plain = {**state, "low": np.zeros(len(y)), "high": np.ones(len(y))}
    return scored(y, plain)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("n_cuts", [255, 511, 16_383])
def test_the_staircase_is_the_forest(name: str, n_cuts: int) -> None:
    x = SAMPLES[name](np.random.default_rng(1))
    probe = np.concatenate([x, np.linspace(x.min() - 1, x.max() + 1, 500), [1e9, -1e9]])
    forest = forest_zeros(1, 100, min(256, x.size))
    forest_build(x[:, None].copy(), 3, min(256, x.size), 1, False, forest)
    expected = np.empty(probe.size)
    forest_score(probe[:, None].copy(), min(256, x.size), forest, expected)
    state = fitted(x[None], n_cuts=n_cuts)
    bound = {255: 0.005, 511: 0.003, 16_383: 2e-5}[n_cuts]
    assert_allclose(raw_scores(probe[None], state)[0], expected, atol=bound)
    assert (np.diff(state["cut"][0][np.isfinite(state["cut"][0])]) > 0).all()


@pytest.mark.parametrize("name", SAMPLES)
def test_the_map_is_that_of_the_scores_of_the_fits_samples_in_whatever_order(name: str) -> None:
    rng = np.random.default_rng(6)
    x = np.append(SAMPLES[name](rng), np.nan)
    y = np.array([x, rng.permutation(x)])
    state = fitted(y, 0.05)
    raw = raw_scores(y, state)
    for i in range(2):
        assert (state["low"][i], state["high"][i]) == map_fit(raw[i][np.isfinite(y[i])], 0.05)
    for part in state.values():
        assert_array_equal(part[0], part[1])


@pytest.mark.parametrize("contamination", [0.001, 0.05, 0.3, 0.5])
def test_the_threshold_leaves_the_share_above_it_that_was_asked_for(contamination: float) -> None:
    raw = np.random.default_rng(2).random(1000)
    low, high = map_fit(raw, contamination)
    assert low == raw.min()
    # scikit-learn: the percentile of the negated scores, outliers strictly below.
    assert high == pytest.approx(-np.percentile(-raw, 100 * contamination), rel=1e-14)
    scores = np.array([map_score(r, low, high) for r in raw])
    assert (scores > 1).sum() == round(1000 * contamination)
    assert_array_equal(scores > 1, raw > high)
    assert scores.min() == 0


def test_auto_is_a_half_or_a_little_more_than_the_least() -> None:
    assert map_fit(np.array([0.7, 0.41, 0.5]), 0.0) == (0.41, 0.5)
    assert map_fit(np.array([0.513, 0.513, 0.514]), 0.0) == (0.513, pytest.approx(0.533))


def test_the_map_is_linear_and_rises_where_nothing_lies_between_its_points_too() -> None:
    raw = np.linspace(0.3, 1, 200)
    scores = np.array([map_score(r, 0.4, 0.5) for r in raw])
    assert_allclose(scores, np.maximum(0, (raw - 0.4) / 0.1), atol=1e-12)
    steep = np.array([map_score(r, 0.5, 0.5) for r in raw])
    assert (np.diff(steep) >= 0).all()
    assert_array_equal(steep > 1, raw > 0.5)
    assert_array_equal(steep[raw <= 0.5], 0)


@settings(deadline=None, max_examples=40)
@given(matrices())
def test_rows_do_not_interact(values: np.ndarray) -> None:
    whole = fitted(values, n_cuts=31, n_trees=5)
    scores = scored(values, whole)
    assert_array_equal(np.isfinite(scores[whole["used"] > 0]), np.isfinite(values[whole["used"] > 0]))
    for i in range(values.shape[0]):
        alone = fitted(values[i : i + 1].copy(), n_cuts=31, n_trees=5)
        for name, column in alone.items():
            assert_array_equal(column, whole[name][i : i + 1])
        assert_array_equal(scored(values[i : i + 1], alone), scores[i : i + 1])


@settings(deadline=None, max_examples=40)
@given(matrices(HUGE))
def test_huge_values_give_finite_scores(values: np.ndarray) -> None:
    state = fitted(values, n_cuts=31, n_trees=5)
    scores = scored(values, state)
    there = np.isfinite(values) & (state["used"] > 1)[:, None]
    assert np.isfinite(scores[there]).all()
    assert (scores[there] >= 0).all()


@pytest.mark.parametrize(
    ("n_sample", "share", "n", "used"),
    [(256, 0.0, 100, 100), (50, 0.0, 100, 50), (500, 0.1, 100, 10), (6, 0.1, 100, 6), (6, 0.001, 100, 1)],
)
def test_a_sample_is_a_number_or_a_share_and_never_more_than_there_is(
    n_sample: int, share: float, n: int, used: int
) -> None:
    y = np.random.default_rng(4).normal(0, 1, (1, n))
    assert fitted(y, n_sample=n_sample, share=share)["used"][0] == used


def test_a_row_with_a_single_value_gets_nothing_and_a_constant_is_told_from_the_rest() -> None:
    y = np.full((3, 40), np.nan)
    y[0, 5] = 1.0
    y[1] = 0.3
    state = fitted(y)
    assert state["used"].tolist() == [0, 40, 0]
    for contamination in (0.0, 0.01, 0.5):
        state = fitted(y[1:2], contamination)
        scores = scored(np.array([[0.3, np.nextafter(0.3, 1), -5.0]]), state)[0]
        assert scores[0] == 0
        assert (scores[1:] > 1).all()


def forests_of(n_rows: int, n_columns: int, n_trees: int, n_sample: int) -> Forest:
    empty = forest_zeros(n_columns, n_trees, n_sample)
    return Forest(*(np.zeros((n_rows, *part.shape), dtype=part.dtype) for part in empty))


def test_forests_of_many_rows_are_the_forests_of_each() -> None:
    rng = np.random.default_rng(5)
    y, shared = rng.normal(0, 1, (4, 400)), rng.normal(0, 1, (400, 2))
    y[1, 50:350] = np.nan
    y[2] = np.nan
    forests, used, low, high = forests_of(4, 3, 20, 256), np.zeros(4, dtype=np.int64), np.zeros(4), np.zeros(4)
    rows_fit(y, shared, 9, 256, 0.0, 3, False, 0.1, forests, used, low, high)
    out = np.empty(y.shape)
    rows_score(y, shared, forests, used, low, high, out)
    assert used.tolist() == [256, 100, 0, 256]
    for i in (0, 1, 3):
        there = np.isfinite(y[i])
        x = np.column_stack([y[i], shared])[there]
        forest = forest_zeros(3, 20, int(used[i]))
        forest_build(x, 9, int(used[i]), 3, False, forest)
        raw = np.empty(len(x))
        forest_score(x, int(used[i]), forest, raw)
        limits = map_fit(raw, 0.1)
        assert_array_equal(out[i][there], [map_score(r, *limits) for r in raw])
        assert np.isnan(out[i][~there]).all()


def test_kernels_are_compiled_once() -> None:
    kernels = steps_fit, steps_score, rows_fit, rows_score, forest_build
    assert all(len(getattr(kernel, "signatures", [()])) <= 2 for kernel in kernels)
