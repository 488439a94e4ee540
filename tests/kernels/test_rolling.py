"""Rolling quantiles against numpy's of each window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kernels.rolling import rolling_add, rolling_predict_update
from tests.naive_quantile import window_quantiles
from tests.strategies import HUGE, cuts, matrices

WIDTHS = st.sampled_from([1, 2, 3, 7, 16, 100])
QUANTILES = st.sampled_from([0.5, 0.75, 0.9, 0.99, 0.999999])


def fresh(n_rows: int, width: int) -> list[Any]:
    return [*(np.full((n_rows, width), np.inf) for _ in range(2)), np.zeros(n_rows, dtype=np.int64)]


def predicted(
    values: np.ndarray, width: int, quantile: float, iqr_threshold: float = 0.0, state: list[Any] | None = None
) -> tuple[list[Any], list[np.ndarray]]:
    """State and (yhat, lower, upper) after one call."""
    state = fresh(values.shape[0], width) if state is None else state
    band = [np.empty_like(values) for _ in range(3)]
    rolling_predict_update(values, quantile, iqr_threshold, *state, *band)
    return state, band


@settings(deadline=None)
@given(matrices(max_rows=3), WIDTHS, QUANTILES)
def test_bands_are_numpys_quantiles_of_the_window_before_bit_for_bit(
    values: np.ndarray, width: int, quantile: float
) -> None:
    _, band = predicted(values, width, quantile)
    for i, row in enumerate(values.tolist()):
        for t in range(len(row)):
            expected = window_quantiles(row[:t], width, [0.5, 1 - quantile, quantile])
            assert_array_equal([column[i, t] for column in band], expected)


@pytest.mark.parametrize("digits", [0, 1, 15])
@pytest.mark.parametrize("width", [1, 2, 29, 288])
def test_long_rows_with_gaps_and_repeats(width: int, digits: int) -> None:
    rng = np.random.default_rng(width)
    row = (rng.normal(0, 1, 1500).cumsum() / 20 + rng.normal(0, 1, 1500)).round(digits)
    row[rng.random(1500) < 0.1] = np.nan
    _, band = predicted(row.reshape(1, -1), width, 0.95, 1.5)
    for t in range(0, 1500, 7):
        center, low, high, q1, q3 = window_quantiles(row[:t].tolist(), width, [0.5, 1 - 0.95, 0.95, 0.25, 0.75])
        margin = 1.5 * (q3 - q1) / 2
        assert_array_equal([column[0, t] for column in band], [center, low - margin, high + margin])


@settings(deadline=None)
@given(matrices(), WIDTHS)
def test_the_state_is_the_window_and_the_window_in_order(values: np.ndarray, width: int) -> None:
    (ring, ordered, seen), _ = predicted(values, width, 0.9)
    filled = fresh(values.shape[0], width)
    rolling_add(values, filled[0], filled[2])
    assert_array_equal(filled[0], ring)
    assert_array_equal(filled[2], seen)
    assert_array_equal(np.sort(ring, axis=1), ordered)
    for i, row in enumerate(values):
        finite = row[np.isfinite(row)]
        assert seen[i] == finite.size
        assert_array_equal(np.sort(finite[-width:]), ordered[i, : min(width, finite.size)])


@settings(deadline=None)
@given(matrices(max_rows=3), WIDTHS, st.data())
def test_pieces_give_the_state_and_the_bands_of_the_whole_bit_for_bit(
    values: np.ndarray, width: int, data: st.DataObject
) -> None:
    whole, band = predicted(values, width, 0.9)
    state, columns = fresh(values.shape[0], width), []
    for piece in data.draw(cuts(values.shape[1])):
        state, part = predicted(np.ascontiguousarray(values[:, piece]), width, 0.9, state=state)
        columns.append(part)
    for a, b in zip(state, whole, strict=True):
        assert_array_equal(a, b)
    for parts, expected in zip(zip(*columns, strict=True), band, strict=True):
        assert_array_equal(np.concatenate(parts, axis=1), expected)


@pytest.mark.parametrize("digits", [0, 15])
@pytest.mark.parametrize("width", [1, 29, 288])
def test_many_steps_at_once_give_the_state_and_the_bands_of_few_bit_for_bit(width: int, digits: int) -> None:
    rng = np.random.default_rng(width)
    values = rng.normal(0, 2, (3, 1000)).round(digits)
    values[rng.random(values.shape) < 0.1] = np.nan
    values[2] = np.nan
    # The first 100 steps fill a part of the widest window, the next 700 begin within it.
    by_ranks, by_steps = fresh(3, width), fresh(3, width)
    for piece in (slice(0, 100), slice(100, 800), slice(800, 1000)):
        by_ranks, band = predicted(np.ascontiguousarray(values[:, piece]), width, 0.9, 1.0, by_ranks)
        for t in range(piece.start, piece.stop):
            by_steps, single = predicted(values[:, t : t + 1].copy(), width, 0.9, 1.0, by_steps)
            assert_array_equal([b[:, 0] for b in single], [b[:, t - piece.start] for b in band])
        for a, b in zip(by_ranks, by_steps, strict=True):
            assert_array_equal(a, b)


def test_pieces_of_a_very_long_row_meet_without_a_seam() -> None:
    row = np.random.default_rng(5).normal(0, 1, 9_000)
    row[::13] = np.nan
    (ring, ordered, seen), band = predicted(row.reshape(1, -1), 29, 0.9)
    for t in [*range(4_090, 4_130), *range(8_185, 8_230), 8_999]:
        expected = window_quantiles(row[t - 100 : t].tolist(), 29, [0.5, 1 - 0.9, 0.9])
        assert_array_equal([column[0, t] for column in band], expected)
    last = row[np.isfinite(row)][-29:]
    assert_array_equal(np.sort(last), ordered[0])
    assert_array_equal(np.sort(ring[0]), ordered[0])
    assert seen[0] == np.isfinite(row).sum()


@settings(deadline=None)
@given(matrices(max_rows=6), WIDTHS)
def test_rows_do_not_interact(values: np.ndarray, width: int) -> None:
    state, band = predicted(values, width, 0.9)
    for i in range(values.shape[0]):
        alone, single = predicted(values[i : i + 1].copy(), width, 0.9)
        for a, b in zip([*alone, *single], [*state, *band], strict=True):
            assert_array_equal(a, b[i : i + 1])


@settings(deadline=None)
@given(matrices(HUGE, max_rows=2))
def test_huge_values_give_ordered_bands(values: np.ndarray) -> None:
    _, (yhat, lower, upper) = predicted(values, 7, 0.9)
    known = ~np.isnan(yhat)
    assert (lower[known] <= yhat[known]).all()
    assert (yhat[known] <= upper[known]).all()


def test_what_is_no_number_or_too_large_takes_no_place() -> None:
    state, band = predicted(np.array([[1.0, np.nan, np.inf, 1.1e300, 3.0, np.nan, 9.0]]), 2, 0.5)
    assert_array_equal(band[0][0], [np.nan, 1, 1, 1, 1, 2, 2])
    assert_array_equal(state[1][0], [3, 9])


def test_the_kernels_are_compiled_once() -> None:
    for compiled in (rolling_add, rolling_predict_update):
        assert len(getattr(compiled, "signatures", [()])) <= 1
