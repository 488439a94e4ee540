"""Sketches: exact while they can be, bounded, and the same however the samples come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kernels.sketch import block_size, sketch_add
from tests.naive_sketch import naive_sketch
from tests.strategies import cuts, matrices

DECAYS = st.sampled_from([1.0, 0.996, 0.5, 1e-9, 5e-324])


def fresh(n_rows: int, n_kept: int) -> list[Any]:
    shape = n_rows, n_kept + block_size(n_kept)
    sketch = [np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)]
    counts = [np.zeros(n_rows, dtype=np.int64), np.zeros(n_rows), np.ones(n_rows), np.zeros(n_rows, dtype=np.int64)]
    return [*sketch, *counts]


def learned(values: np.ndarray, decay: float, n_kept: int, pieces: list[slice] | None = None) -> list[Any]:
    """State after the pieces, one call each."""
    state = fresh(values.shape[0], n_kept)
    for piece in pieces or [slice(None)]:
        sketch_add(np.ascontiguousarray(values[:, piece]), decay, block_size(n_kept), *state)
    return state


@settings(deadline=None)
@given(matrices())
def test_few_different_values_are_kept_as_they_are(values: np.ndarray) -> None:
    mean, weight, mixed, size, total, _, seen = learned(values, 1.0, 64)
    for i, row in enumerate(values):
        unique, counts = np.unique(row[np.isfinite(row)], return_counts=True)
        assert_array_equal(mean[i, : size[i]], unique)
        assert_array_equal(weight[i, : size[i]], counts)
        assert total[i] == seen[i] == counts.sum()
    assert not mixed.any()


STREAMS = {
    "normal": lambda rng: rng.normal(0, 1, 700),
    "wide": lambda rng: rng.standard_cauchy(700) ** 3,
    "levels": lambda rng: np.repeat(rng.normal(0, 1, 10), 70) + rng.normal(0, 1e-3, 700),
    "more gaps than room": lambda rng: rng.permutation(np.repeat(rng.normal(0, 1, 100), 7)) + rng.normal(0, 1e-6, 700),
    "repeated": lambda rng: rng.choice(rng.normal(0, 1, 250), 700),
    "few, then many": lambda rng: np.where(np.arange(700) < 400, rng.poisson(9, 700), rng.normal(9, 3, 700)),
}


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("n_kept", [20, 60])
def test_centroids_are_those_of_the_naive_sketch(kind: str, n_kept: int) -> None:
    values = np.stack([STREAMS[kind](np.random.default_rng(seed)) for seed in range(4)])
    mean, weight, mixed, size, *_ = learned(values, 1.0, n_kept)
    for i, row in enumerate(values.tolist()):
        means, weights, flags = zip(*naive_sketch(row, n_kept, block_size(n_kept)), strict=True)
        assert_array_equal(weight[i, : size[i]], weights)
        assert_array_equal(mixed[i, : size[i]], flags)
        assert_allclose(mean[i, : size[i]], np.array(means, dtype=float), rtol=1e-12, atol=1e-12 * np.ptp(row))
        for column in (mean, weight, mixed):
            assert not column[i, size[i] :].any()


@settings(deadline=None)
@given(matrices(), DECAYS)
def test_a_decay_leaves_each_value_the_weight_that_it_says(values: np.ndarray, decay: float) -> None:
    mean, weight, _, size, _, unit, _ = learned(values, decay, 64)
    for i, row in enumerate(values):
        finite = row[np.isfinite(row)]
        ages = np.arange(finite.size - 1, -1, -1.0)
        for x, w in zip(mean[i, : size[i]], weight[i, : size[i]], strict=True):
            # The newest sample weighs `decay` times the next one.
            assert_allclose(w / unit[i], decay * (decay ** ages[finite == x]).sum(), rtol=1e-12, atol=1e-99)


@settings(deadline=None)
@given(matrices(max_rows=3), DECAYS, st.sampled_from([20, 64]), st.data())
def test_pieces_give_the_state_of_the_whole_bit_for_bit(
    values: np.ndarray, decay: float, n_kept: int, data: st.DataObject
) -> None:
    whole = learned(values, decay, n_kept)
    pieces = data.draw(cuts(values.shape[1]))
    for a, b in zip(learned(values, decay, n_kept, pieces), whole, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("n_kept", [20, 50, 200])
@pytest.mark.parametrize("digits", [0, 1, 9])
def test_long_rows_one_by_one_give_the_state_of_the_whole_bit_for_bit(n_kept: int, digits: int) -> None:
    values = np.random.default_rng(4).normal(0, 20, (3, 3000)).round(digits)
    values[1, 100:1200] = np.nan
    whole = learned(values, 1.0, n_kept)
    for a, b in zip(learned(values, 1.0, n_kept, [slice(t, t + 1) for t in range(3000)]), whole, strict=True):
        assert_array_equal(a, b)


@settings(deadline=None)
@given(matrices(max_rows=6), DECAYS)
def test_rows_do_not_interact(values: np.ndarray, decay: float) -> None:
    whole = learned(values, decay, 20)
    for i in range(values.shape[0]):
        for a, b in zip(learned(values[i : i + 1].copy(), decay, 20), whole, strict=True):
            assert_array_equal(a, b[i : i + 1])


@pytest.mark.parametrize("decay", [1.0, 0.999, 0.3])
@pytest.mark.parametrize("n_kept", [20, 200])
@pytest.mark.parametrize("order", ["mixed", "rising", "falling"])
def test_a_sketch_stays_in_its_columns_sorted_and_keeps_the_mean(decay: float, n_kept: int, order: str) -> None:
    values = np.random.default_rng(9).standard_t(3, (2, 5000))
    values = {"mixed": values, "rising": np.sort(values), "falling": -np.sort(-values)}[order]
    mean, weight, mixed, size, total, _, seen = learned(values, decay, n_kept)
    weights = decay ** np.arange(4999, -1, -1.0)
    for i in range(2):
        m, w = mean[i, : size[i]], weight[i, : size[i]]
        assert size[i] < n_kept + block_size(n_kept)
        assert (np.diff(m) >= 0).all()
        assert_allclose(w.sum(), total[i], rtol=1e-12)
        assert_allclose(np.average(m, weights=w), np.average(values[i], weights=weights), rtol=1e-9, atol=1e-9)
        if decay == 1.0:
            assert [m[0], m[-1]] == [values[i].min(), values[i].max()]
            assert not mixed[i, [0, size[i] - 1]].any()
    assert_array_equal(seen, 5000)


@pytest.mark.parametrize("decay", [1e-9, 1e-3, 0.5])
def test_weights_that_have_decayed_away_make_room(decay: float) -> None:
    values = np.sort(np.random.default_rng(3).normal(0, 1, (1, 400)))
    for row in (values, -values):
        _, _, _, size, total, unit, _ = learned(row, decay, 20)
        assert size[0] < 20 + block_size(20)
        assert total[0] / unit[0] == pytest.approx(decay / (1 - decay))


def test_what_is_no_number_or_too_large_is_not_learned() -> None:
    state = learned(np.array([[1.0, np.nan, np.inf, -np.inf, 1.1e300, -1.1e300, 1e300]]), 0.5, 20)
    assert state[3][0] == state[6][0] == 2
    assert_array_equal(state[0][0, :2], [1.0, 1e300])


def test_the_kernel_is_compiled_once() -> None:
    assert len(getattr(sketch_add, "signatures", [()])) <= 1
