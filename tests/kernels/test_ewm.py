"""Decayed moments against their definition in exact fractions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kernels.ewm import ewm_predict_update, ewm_update, moments_add
from tests.naive_moments import moments
from tests.strategies import cuts, matrices

DECAYS = st.sampled_from([1.0, 0.996, 0.5, 1e-9])


def fresh(n_rows: int) -> list[np.ndarray]:
    return [*(np.zeros(n_rows) for _ in range(4)), np.zeros(n_rows, dtype=np.int64)]


def learned(values: np.ndarray, decay: float | None, pieces: list[slice] | None = None) -> list[np.ndarray]:
    """State after the pieces, one call each; decay None is the fold for long windows."""
    state = fresh(values.shape[0])
    for piece in pieces or [slice(None)]:
        part = np.ascontiguousarray(values[:, piece])
        if decay is None:
            moments_add(part, *state)
        else:
            ewm_update(part, decay, *state)
    return state


def assert_moments(values: np.ndarray, decay: float, state: list[np.ndarray]) -> None:
    """Weight, mean, deviation and count of every row."""
    for i, row in enumerate(values.tolist()):
        weight, mean, std = moments(row, decay)
        assert state[4][i] == np.isfinite(row).sum()
        assert_allclose(state[0][i], weight, rtol=1e-12)
        if weight:
            size = np.max(np.abs(values[i][np.isfinite(values[i])]))
            assert_allclose(state[1][i], mean, rtol=1e-12, atol=1e-14 * size)
            assert_allclose(math.sqrt(state[3][i] / state[0][i]), std, rtol=1e-9, atol=3e-15 * size)


@settings(deadline=None)
@given(matrices(), DECAYS)
def test_moments_equal_the_definition(values: np.ndarray, decay: float) -> None:
    assert_moments(values, decay, learned(values, decay))


@settings(deadline=None)
@given(matrices(), st.data())
def test_the_fold_for_long_windows_equals_the_definition(values: np.ndarray, data: st.DataObject) -> None:
    assert_moments(values, 1.0, learned(values, None, data.draw(cuts(values.shape[1]))))


@settings(deadline=None)
@given(matrices(), DECAYS, st.data())
def test_pieces_give_the_state_of_the_whole_bit_for_bit(values: np.ndarray, decay: float, data: st.DataObject) -> None:
    whole = learned(values, decay)
    for a, b in zip(learned(values, decay, data.draw(cuts(values.shape[1]))), whole, strict=True):
        assert_array_equal(a, b)


@settings(deadline=None)
@given(matrices(), DECAYS)
def test_bands_come_from_the_steps_before(values: np.ndarray, decay: float) -> None:
    state, band = fresh(values.shape[0]), [np.empty_like(values) for _ in range(3)]
    ewm_predict_update(values, decay, 3.0, *state, *band)
    for a, b in zip(state, learned(values, decay), strict=True):
        assert_array_equal(a, b)
    for t in range(values.shape[1]):
        weight, mean, _, m2, _ = learned(values, decay, [slice(0, t)])
        known = weight > 0
        margin = 3 * np.sqrt(m2[known] / weight[known])
        for column, expected in zip(band, (mean[known], mean[known] - margin, mean[known] + margin), strict=True):
            assert_array_equal(column[known, t], expected)
            assert np.isnan(column[~known, t]).all()


@settings(deadline=None)
@given(matrices(max_rows=6), DECAYS)
def test_rows_do_not_interact(values: np.ndarray, decay: float) -> None:
    whole = learned(values, decay)
    for i in range(values.shape[0]):
        for a, b in zip(learned(values[i : i + 1].copy(), decay), whole, strict=True):
            assert_array_equal(a, b[i : i + 1])


@pytest.mark.parametrize("decay", [None, 1.0, 0.99])
@pytest.mark.parametrize("offset", [0.0, 1e9, 1e15])
def test_a_huge_offset_does_not_drown_the_spread(decay: float | None, offset: float) -> None:
    values = offset + np.random.default_rng(1).integers(-8, 9, (2, 500)).astype(np.float64)
    state = learned(values, decay, [slice(0, 7), slice(7, 500)])
    for i in range(2):
        _, mean, std = moments(values[i].tolist(), decay or 1.0)
        assert state[1][i] == pytest.approx(mean, rel=1e-14)
        # At 1e15 neighbouring floats are 1/8 apart, and so is what the mean can be.
        assert math.sqrt(state[3][i] / state[0][i]) == pytest.approx(std, rel=1e-9 if offset < 1e10 else 0.02)


def test_the_mean_of_huge_values_follows_a_small_shift() -> None:
    values = 1e15 + np.repeat([0.0, 1.0], 4000).reshape(1, -1)
    _, mean, _, _, _ = learned(values, 0.996)
    assert mean[0] == 1e15 + 1


@pytest.mark.parametrize("decay", [None, 1.0, 0.9])
@pytest.mark.parametrize("first", [0.0, 1e15, -1e9])
def test_a_first_value_far_from_the_rest_does_no_harm(decay: float | None, first: float) -> None:
    values = np.array([[first, *np.tile([999.0, 1000.0, 1001.0], 400)]])
    state = learned(values, decay, [slice(0, 1), slice(1, None)])
    _, mean, std = moments(values[0].tolist(), decay or 1.0)
    assert state[1][0] == pytest.approx(mean, rel=1e-9)
    assert math.sqrt(state[3][0] / state[0][0]) == pytest.approx(std, rel=1e-9)


@pytest.mark.parametrize("decay", [None, 1.0, 0.9])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e15, 1e-300, 1e150])
def test_a_constant_has_no_spread_at_all(decay: float | None, constant: float) -> None:
    weight, mean, _, m2, _ = learned(np.full((1, 99), constant), decay, [slice(0, 40), slice(40, 99)])
    assert (mean[0], m2[0]) == (constant, 0)
    assert weight[0] > 0


@pytest.mark.parametrize("decay", [None, 1.0])
def test_a_value_without_a_finite_square_is_not_learned(decay: float | None) -> None:
    state: Any = learned(np.array([[1.0, 1e200, -1.7e308, 3.0]]), decay)
    assert [float(a[0]) for a in state] == [2.0, 2.0, 0.0, 2.0, 2.0]


def test_the_kernels_are_compiled_once() -> None:
    for compiled in (ewm_update, ewm_predict_update, moments_add):
        assert len(getattr(compiled, "signatures", [()])) <= 1
