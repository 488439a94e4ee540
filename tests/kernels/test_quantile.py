"""Seasonal sketches: numpy's quantiles while they are exact, close to them after, the same however samples come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kernels.quantile import quantile_learn, quantile_predict_update
from tests.strategies import HUGE, cuts, matrices

QUANTILES = np.array([0.01, 0.5, 0.99, 0.25, 0.75])


def fresh(n_rows: int, n_parts: int, width: int) -> list[Any]:
    end, unit, count = (np.zeros((n_rows, n_parts + 1), dtype=kind) for kind in (np.int32, np.float64, np.int64))
    return [np.zeros((n_rows, width)), np.zeros((n_rows, width), dtype=np.float32), end, unit + 1, count]


def learned(
    values: np.ndarray, parts: np.ndarray, n_parts: int, decay: float = 1.0, n_columns: int = 200, **more: Any
) -> list[Any]:
    """State after the pieces, one call each."""
    width = min(2 * values.shape[1], n_columns * (n_parts + 1))
    state = fresh(values.shape[0], n_parts, width)
    for piece in more.get("pieces") or [slice(None)]:
        block = np.ascontiguousarray(values[:, piece])
        quantile_learn(block, parts[piece], decay, more.get("is_transformed", False), n_columns, *state)
    return state


def bands(
    state: list[Any], parts: Any, n_columns: int = 200, quantiles: np.ndarray = QUANTILES, **more: Any
) -> np.ndarray:
    """(3, S, len(parts)) yhat, lower and upper without learning anything."""
    nothing = np.full((state[0].shape[0], len(parts)), np.nan)
    out = np.empty((3, *nothing.shape))
    options = more.get("iqr_threshold", 0.0), more.get("smoothing", 0.0)
    head = nothing, np.array(parts), more.get("decay", 1.0), more.get("is_transformed", False), n_columns
    quantile_predict_update(*head, quantiles, *options, *(a.copy() for a in state), *out)
    return out


@settings(deadline=None)
@given(matrices(), st.integers(1, 5), st.booleans(), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 1.5]))
def test_bands_are_numpys_quantiles_of_each_part_while_values_are_few(
    values: np.ndarray, n_parts: int, is_transformed: bool, smoothing: float, iqr_threshold: float
) -> None:
    parts = np.arange(values.shape[1]) // 3 % n_parts
    state = learned(values, parts, n_parts, is_transformed=is_transformed)
    options = {"is_transformed": is_transformed, "smoothing": smoothing, "iqr_threshold": iqr_threshold}
    found = bands(state, range(n_parts), **options)
    for i, row in enumerate(values):
        finite = np.isfinite(row)
        for part in range(n_parts):
            whole, own = row[finite], row[finite & (parts == part)]
            if whole.size == 0:
                assert np.isnan(found[:, i, part]).all()
                continue
            expected, wide = quantiles_of(whole, is_transformed), quantiles_of(whole, is_transformed)
            if own.size >= 4:
                wide = quantiles_of(own, is_transformed)
                expected = smoothing * expected + (1 - smoothing) * wide
            margin = iqr_threshold * (wide[4] - wide[3])
            assert_allclose(
                found[:, i, part], [expected[1], expected[0] - margin, expected[2] + margin], rtol=1e-9, atol=1e-9
            )


def quantiles_of(values: np.ndarray, is_transformed: bool) -> np.ndarray:
    if not is_transformed:
        return np.quantile(values, QUANTILES)
    logs = np.quantile(np.sign(values) * np.log1p(np.abs(values)), QUANTILES)
    return np.sign(logs) * np.expm1(np.abs(logs))


@settings(deadline=None)
@given(matrices(max_rows=3), st.sampled_from([1.0, 0.9, 0.5]))
def test_a_decay_counts_the_samples_of_each_sketch(values: np.ndarray, decay: float) -> None:
    parts = np.arange(values.shape[1]) % 2
    mean, weight, end, unit, count = learned(values, parts, 2, decay)
    for i, row in enumerate(values):
        for k, where in enumerate([parts == 0, parts == 1, parts >= 0]):
            own = row[where & np.isfinite(row)]
            assert count[i, k] == own.size
            ages = np.arange(own.size - 1, -1, -1.0)
            for at in range(end[i, k - 1] if k else 0, end[i, k]):
                expected = decay * (decay ** ages[own == mean[i, at]]).sum()
                assert_allclose(weight[i, at] / unit[i, k], expected, rtol=1e-5)


@settings(deadline=None)
@given(matrices(max_rows=3), st.sampled_from([1.0, 0.9, 1e-9]), st.integers(0, 3), st.booleans(), st.data())
def test_pieces_give_the_state_of_the_whole_bit_for_bit(
    values: np.ndarray, decay: float, n_parts: int, is_transformed: bool, data: st.DataObject
) -> None:
    steps = np.arange(values.shape[1])
    parts = steps // 2 % n_parts if n_parts else np.full(steps.size, -1)
    options: Any = {"n_columns": 20, "is_transformed": is_transformed}
    whole = learned(values, parts, n_parts, decay, **options)
    pieces = data.draw(cuts(values.shape[1]))
    for a, b in zip(learned(values, parts, n_parts, decay, pieces=pieces, **options), whole, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("decay", [1.0, 0.99])
def test_predicting_leaves_the_state_that_learning_leaves(decay: float) -> None:
    values = np.random.default_rng(1).normal(0, 1, (3, 3000))
    values[1, 50:900] = np.nan
    parts = np.arange(3000) // 7 % 11
    whole = learned(values, parts, 11, decay, 40)
    state, out = fresh(3, 11, whole[0].shape[1]), np.empty((3, *values.shape))
    quantile_predict_update(values, parts, decay, False, 40, QUANTILES, 1.0, 0.5, *state, *out)
    for a, b in zip(state, whole, strict=True):
        assert_array_equal(a, b)
    # Each step's band is of the samples before it.
    before = learned(values[:, :2000], parts[:2000], 11, decay, 40)
    found = bands(before, [parts[2000]], 40, iqr_threshold=1.0, smoothing=0.5, decay=decay)
    assert_array_equal(out[:, :, 2000], found[:, :, 0])


LEVELS = {
    "normal": lambda rng, n: rng.normal(0, 1, n),
    "heavy tails": lambda rng, n: rng.standard_cauchy(n),
    "log-normal": lambda rng, n: rng.lognormal(0, 2, n),
    "two modes": lambda rng, n: np.where(rng.random(n) < 0.5, rng.normal(0, 1, n), rng.normal(1e6, 1, n)),
    "few values": lambda rng, n: rng.poisson(3, n).astype(float),
    "counts": lambda rng, n: rng.poisson(1e4, n).astype(float),
    "rising": lambda rng, n: np.arange(n) + rng.normal(0, 1, n),
    "falling": lambda rng, n: -np.arange(n) + rng.normal(0, 1, n),
    "rhythm": lambda rng, n: np.sin(np.arange(n) / 100) + rng.normal(0, 0.1, n),
}


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("is_transformed", [False, True])
def test_rank_errors_are_within_one_percent_and_a_third_of_one_at_the_tails(name: str, is_transformed: bool) -> None:
    rng = np.random.default_rng(2)
    n_rows, n = 12, 20_000
    values = np.array([LEVELS[name](rng, n) for _ in range(n_rows)])
    parts = np.full(n, -1)
    state = learned(values, parts, 0, is_transformed=is_transformed)
    ordered = np.sort(values, axis=1)
    for asked, bound in [((0.001, 0.01, 0.02), 0.003), ((0.98, 0.99, 0.999), 0.003), ((0.2, 0.4, 0.5), 0.01),
                         ((0.6, 0.75, 0.9), 0.01)]:  # fmt: skip
        found = bands(state, [-1], is_transformed=is_transformed, quantiles=np.array([*asked, 0.25, 0.75]))
        for q, values_of_q in zip(asked, found[[1, 0, 2], :, 0], strict=True):
            for row, value in zip(ordered, values_of_q, strict=True):
                # A value that takes several ranks is right for all of them; rounding by logarithms is no other value.
                slack = 1e-12 * abs(value) if is_transformed else 0.0
                low, high = np.searchsorted(row, value - slack), np.searchsorted(row, value + slack, side="right")
                assert low / n - bound <= q <= high / n + bound


@settings(deadline=None, max_examples=40)
@given(matrices(HUGE), st.booleans())
def test_trap_12_bands_of_huge_values_are_finite_and_in_order(values: np.ndarray, is_transformed: bool) -> None:
    state = learned(values, np.zeros(values.shape[1], dtype=np.int64), 1, is_transformed=is_transformed)
    yhat, lower, upper = bands(state, [0], is_transformed=is_transformed, iqr_threshold=1.0)
    known = np.isfinite(values).any(axis=1)
    assert np.isfinite(yhat[known]).all()
    assert (lower[known] <= yhat[known]).all()
    assert (yhat[known] <= upper[known]).all()
    if is_transformed:
        assert (np.isfinite(lower) & np.isfinite(upper))[known].all()


def test_a_sketch_that_grows_or_shrinks_leaves_its_neighbours_as_they_are() -> None:
    rng = np.random.default_rng(3)
    values, parts = rng.normal(0, 1, (2, 4000)), rng.integers(0, 4, 4000)
    mean, weight, end, _, _ = learned(values, parts, 4, n_columns=20)
    for i in range(2):
        for part in range(4):
            own = values[i, parts == part][None]
            alone = learned(own, np.zeros(own.shape[1], dtype=np.int64), 1, n_columns=20)
            a, b = end[i, part - 1] if part else 0, end[i, part]
            assert_array_equal(mean[i, a:b], alone[0][0, : alone[2][0, 0]])
            assert_array_equal(weight[i, a:b], alone[1][0, : alone[2][0, 0]])
            assert (np.diff(mean[i, a:b]) >= 0).all()
            assert b - a < 20
        assert not mean[i, end[i, -1] :].any()
        assert not weight[i, end[i, -1] :].any()


def test_old_weights_that_have_decayed_away_do_no_harm() -> None:
    values = np.concatenate([np.full((1, 50), 1e6), np.random.default_rng(4).normal(0, 1, (1, 20_000))], axis=1)
    for decay in (0.9, 0.1, 5e-324):
        state = learned(values, np.zeros(values.shape[1], dtype=np.int64), 1, decay, 20)
        yhat, lower, upper = bands(state, [0], 20, decay=decay)
        assert -4 < lower[0, 0] <= yhat[0, 0] <= upper[0, 0] < 4
        if decay < 0.01:
            assert_allclose([yhat[0, 0], lower[0, 0], upper[0, 0]], values[0, -1], atol=1e-3)


def test_kernels_are_compiled_once() -> None:
    assert all(len(getattr(k, "signatures", [()])) <= 1 for k in (quantile_learn, quantile_predict_update))
