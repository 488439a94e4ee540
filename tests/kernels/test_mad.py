"""Medians of sketches: the definition's where a sketch is exact, the stated distribution's where it is not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from kernels.mad import mad_predict_update, sketch_mad, sketch_median
from kernels.sketch import block_size
from tests.kernels.test_sketch import fresh, learned
from tests.naive_quantile import median_and_mad, rank_error, share_up_to
from tests.strategies import HUGE, matrices

DECAYS = st.sampled_from([1.0, 0.996, 0.7, 1e-9])


def predicted(values: np.ndarray, decay: float, n_kept: int) -> tuple[list[Any], list[np.ndarray]]:
    """State and (yhat, lower, upper) of one pass, threshold 1."""
    state, band = fresh(values.shape[0], n_kept), [np.empty_like(values) for _ in range(3)]
    mad_predict_update(values, decay, 1.0, block_size(n_kept), *state, *band)
    return state, band


def answers(values: np.ndarray, n_kept: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Median and deviation of each row by its sketch."""
    mean, weight, mixed, size, total, *_ = learned(values, 1.0, n_kept)
    rows = [(m, w, x, int(n), float(s)) for m, w, x, n, s in zip(mean, weight, mixed, size, total, strict=True)]
    medians = [sketch_median(*row) for row in rows]
    return np.array(medians), np.array([sketch_mad(*row, c) for row, c in zip(rows, medians, strict=True)])


@settings(deadline=None)
@given(matrices(max_rows=3, max_steps=30), DECAYS)
def test_bands_are_the_weighted_medians_of_the_steps_before(values: np.ndarray, decay: float) -> None:
    state, (yhat, lower, upper) = predicted(values, decay, 64)
    for a, b in zip(state, learned(values, decay, 64), strict=True):
        assert_array_equal(a, b)
    for i, row in enumerate(values.tolist()):
        for t in range(len(row)):
            median, mad = median_and_mad(row[:t], decay)
            assert_array_equal([yhat[i, t], lower[i, t], upper[i, t]], [median, median - mad, median + mad])


@pytest.mark.parametrize("n_values", [1, 2, 3, 4, 99, 100])
def test_few_values_give_numpys_medians_bit_for_bit(n_values: int) -> None:
    values = np.random.default_rng(n_values).lognormal(0, 3, (20, n_values))
    medians, mads = answers(values)
    assert_array_equal(medians, np.median(values, axis=1))
    assert_array_equal(mads, np.median(np.abs(values - np.median(values, axis=1, keepdims=True)), axis=1))


@pytest.mark.parametrize("kind", ["constant", "bits", "poisson", "half zero"])
def test_repeated_values_give_numpys_medians_however_many(kind: str) -> None:
    rng = np.random.default_rng(8)
    values = {
        "constant": np.full((5, 9000), 0.1),
        "bits": (rng.random((5, 9001)) < 0.499).astype(float),
        "poisson": rng.poisson(40, (5, 9000)).astype(float),
        "half zero": np.where(rng.random((5, 9000)) < 0.52, 0.0, rng.integers(1, 99, (5, 9000))),
    }[kind]
    medians, mads = answers(values)
    assert_array_equal(medians, np.median(values, axis=1))
    assert_array_equal(mads, np.median(np.abs(values - np.median(values, axis=1, keepdims=True)), axis=1))


def streams(n_rows: int, n_steps: int) -> dict[str, np.ndarray]:
    """Shapes of metrics, and orders in which sketches could go wrong."""
    rng, shape = np.random.default_rng(6), (n_rows, n_steps)
    normal, times = rng.normal(0, 1, shape), np.arange(n_steps)
    return {
        "normal": normal,
        "cauchy": rng.standard_cauchy(shape),
        "lognormal": rng.lognormal(0, 2, shape),
        "two modes": np.where(rng.random(shape) < 0.6, normal - 5, 5 + normal / 10),
        "many zeros": np.where(rng.random(shape) < 0.4, 0, rng.exponential(1, shape)),
        "large counts": rng.poisson(1e4, shape).astype(float),
        "rising": np.sort(normal, axis=1),
        "falling": -np.sort(-normal, axis=1),
        "daily rhythm": 10 * np.sin(times / 45) + normal,
        "levels": np.repeat(rng.normal(0, 1, (n_rows, n_steps // 400)), 400, axis=1) + normal / 100,
    }


@pytest.mark.parametrize("kind", streams(1, 400))
def test_rank_errors_of_long_streams(kind: str) -> None:
    values = streams(20, 12_000)[kind]
    medians, mads = answers(values)
    errors = [rank_error(row, median, 0.5) for row, median in zip(values, medians, strict=True)]
    assert max(errors) < 0.01
    assert np.mean(errors) < 0.0025
    spread = [rank_error(np.abs(v - m), d, 0.5) for v, m, d in zip(values, medians, mads, strict=True)]
    assert max(spread) < 0.01
    assert np.mean(spread) < 0.004


@pytest.mark.parametrize("kind", streams(1, 400))
@pytest.mark.parametrize("quantile", [0.01, 0.99])
def test_rank_errors_at_the_tails(kind: str, quantile: float) -> None:
    values = streams(20, 12_000)[kind]
    mean, weight, mixed, size, *_ = learned(values, 1.0, 200)
    for i, row in enumerate(values):
        x = np.quantile(row, quantile)
        up_to, n = [share_up_to(at, mean[i, : size[i]], weight[i, : size[i]], mixed[i]) for at in (x, np.inf)]
        assert (row < x).mean() - 0.003 <= up_to / n <= (row <= x).mean() + 0.003


def test_rank_errors_between_two_tight_levels() -> None:
    # Nothing lies between the levels, where the median of half the rows is: a centroid there would have no rank.
    rng = np.random.default_rng(5)
    values = np.where(rng.random((120, 20_000)) < 0.5, 0.0, 1000.0) + rng.normal(0, 1, (120, 20_000))
    medians, mads = answers(values)
    spread = [rank_error(np.abs(v - m), d, 0.5) for v, m, d in zip(values, medians, mads, strict=True)]
    assert max(spread) < 0.009
    assert max(rank_error(row, median, 0.5) for row, median in zip(values, medians, strict=True)) < 0.009


def test_a_larger_sketch_errs_less() -> None:
    values = np.random.default_rng(6).normal(0, 1, (20, 12_288))  # whole blocks of all sizes
    means = [np.mean(np.abs(answers(values, n)[0] - np.median(values, axis=1))) for n in (20, 200, 2000)]
    assert means[0] > 3 * means[1] > 6 * means[2]


CENTROIDS = st.lists(st.tuples(st.integers(-20, 20), st.integers(1, 9), st.booleans()), min_size=1, max_size=12)


@settings(deadline=None)
@given(CENTROIDS)
def test_both_medians_halve_the_distribution_of_any_sketch(centroids: list[tuple[int, int, bool]]) -> None:
    columns = [list(c) for c in zip(*sorted(centroids), strict=True)]
    mean, weight, mixed = np.array(columns[0], float), np.array(columns[1], float), np.array(columns[2], bool)
    total = float(weight.sum())
    row: Any = (mean, weight, mixed, len(mean), total)
    center = sketch_median(*row)
    tiny = 1e-9
    assert share_up_to(center - tiny, mean, weight, columns[2]) <= total / 2 + 1e-6
    assert share_up_to(center + tiny, mean, weight, columns[2]) >= total / 2 - 1e-6
    mad = sketch_mad(*row, center)

    def within(distance: float) -> float:
        below = share_up_to(center - distance, mean, weight, columns[2], strictly=True)
        return share_up_to(center + distance, mean, weight, columns[2]) - below

    assert mad >= 0
    assert mad < tiny or within(mad - tiny) <= total / 2 + 1e-6
    assert within(mad + tiny) >= total / 2 - 1e-6


@settings(deadline=None)
@given(matrices(HUGE, max_rows=2), DECAYS)
def test_huge_values_give_ordered_bands(values: np.ndarray, decay: float) -> None:
    _, (yhat, lower, upper) = predicted(values, decay, 20)
    known = ~np.isnan(yhat)
    assert (lower[known] <= yhat[known]).all()
    assert (yhat[known] <= upper[known]).all()


@pytest.mark.parametrize("decay", [1.0, 0.99])
def test_a_decay_follows_a_new_level(decay: float) -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.normal(0, 1, 3000), rng.normal(50, 3, 600)]).reshape(1, -1)
    _, (yhat, lower, _) = predicted(values, decay, 200)
    if decay == 1.0:
        assert yhat[0, -1] < 1
    else:
        assert yhat[0, -1] == pytest.approx(50, abs=1.5)
        assert yhat[0, -1] - lower[0, -1] == pytest.approx(3 * 0.6745, rel=0.3)
    assert math.isnan(yhat[0, 0])


def test_the_kernel_is_compiled_once() -> None:
    assert len(getattr(mad_predict_update, "signatures", [()])) <= 1
