import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.periodogram import clipped_differences, harmonic_evidence, repetition, slot_means
from tests.strategies import matrices


@given(matrices(), st.integers(1, 7), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_slot_means_are_means_of_what_is_finite(values: np.ndarray, width: int, first: int) -> None:
    slots = np.arange(values.shape[1]) // width - first
    out = np.empty((values.shape[0], 4))
    slot_means(values, slots, out)
    for i, row in enumerate(values):
        for j in range(4):
            there = [x for x, s in zip(row, slots, strict=True) if s == j and math.isfinite(x)]
            if there:
                assert out[i, j] == pytest.approx(sum(there) / len(there), rel=1e-9, abs=1e-6)
            else:
                assert math.isnan(out[i, j])


def test_differences_are_clipped_at_five_robust_deviations() -> None:
    y = np.array([[0.0, 1.0, 0.0, 1.0, 0.0, 100.0, math.nan, 3.0, 4.0]])
    out = np.empty((1, 8))
    clipped_differences(y, out)
    np.testing.assert_allclose(out, [[1, -1, 1, -1, 5 * 1.4826, 0, 0, 1]])


def test_differences_of_a_constant_are_zero() -> None:
    out = np.empty((1, 4))
    clipped_differences(np.full((1, 5), 3.0), out)
    assert (out == 0).all()


def test_the_chance_of_one_harmonic_is_that_of_an_exponential_over_the_mean_of_others() -> None:
    power = np.ones((1, 60))
    power[0, 20] = 9.0
    out = np.empty(1)
    harmonic_evidence(power, 20, np.array([1]), np.array([1]), out)
    assert out[0] == pytest.approx((1 + 9 / 16) ** -16)


def test_harmonics_that_do_not_count_and_those_of_neighbours_are_left_out() -> None:
    power = np.ones((1, 60))
    power[0, [4, 8, 16]] = 1e9
    power[0, 12] = 3.0
    out = np.empty(1)
    harmonic_evidence(power, 4, np.array([0, 0, 1]), np.array([1]), out)
    assert out[0] == pytest.approx((1 + 3 / 12) ** -12)


def test_chances_of_noise_are_not_too_small() -> None:
    noise = np.random.default_rng(1).normal(size=(4000, 12 * 24))
    out = np.empty(4000)
    counts = np.array([1, 2, 3, 5, 8])
    harmonic_evidence(np.abs(np.fft.rfft(noise)) ** 2, 12, np.ones(8, dtype=np.int64), counts, out)
    for chance in (0.1, 0.01, 0.001):
        assert (out < chance).mean() < chance + 3 * math.sqrt(chance / 4000)


def naive_repetition(row: list[float], period: int) -> float:
    """Mean of z times the mean of z's other cycles, over that of z squared; z is the row about its moving mean."""
    n = len(row)
    z = []
    for t in range(n):
        first = min(max(t - period // 2, 0), n - period)
        there = [x for x in row[first : first + period] if not math.isnan(x)]
        z.append(row[t] - sum(there) / len(there) if there else math.nan)
    sizes = sorted(abs(x) for x in z if not math.isnan(x))
    limit = 6 * 1.4826 * float(np.median(sizes)) if sizes else 0.0
    z = [min(max(x, -limit), limit) if limit > 0 and not math.isnan(x) else x for x in z]
    both = own = 0.0
    for t in range(n):
        others = [z[u] for u in range(t % period, n, period) if u != t and not math.isnan(z[u])]
        if others and not math.isnan(z[t]):
            both += z[t] * sum(others) / len(others)
            own += z[t] ** 2
    return both / own if own > 0 else 0.0


@pytest.mark.parametrize("seed", range(5))
def test_repetition_equals_its_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    row = rng.normal(size=60) + 2 * np.sin(2 * np.pi * np.arange(60) / 12)
    row[rng.integers(0, 60, 6)] = math.nan
    row[rng.integers(0, 60)] += 80
    share = np.empty(1)
    repetition(row[None], 12, share)
    assert share[0] == pytest.approx(naive_repetition(row.tolist(), 12), rel=1e-9)
