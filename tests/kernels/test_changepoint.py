"""The fit of trends with changepoints: its optimality conditions, from a posterior with all columns built."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kernels import changepoint_row as row
from kernels.changepoint import fit_changepoints
from kernels.changepoint_gram import add_products, feature_products
from kernels.l1 import solve_l1
from kernels.trend_noise import deviation, deviation_table, normal_quantile
from tests import naive_map

GROWTH = {"linear": row.LINEAR, "logistic": row.LOGISTIC, "flat": row.FLAT}
DAYS = np.arange(300) / 24
TAU = 0.05


def features_at(days: np.ndarray) -> np.ndarray:
    angle = 2 * np.pi * np.outer(days, [1, 2, 1 / 7])
    return np.ascontiguousarray(np.hstack([np.sin(angle), np.cos(angle)]))


def rows(n: int = 3, seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    bend = 0.5 * np.maximum(DAYS - 4, 0) - np.maximum(DAYS - 8, 0)
    level = 20 * 10.0 ** np.arange(n)[:, None]
    return level + 3 * np.sin(2 * np.pi * DAYS) + bend + rng.normal(size=(n, DAYS.size))


def fit(y: np.ndarray, *, growth: str = "linear", factors: tuple[int, ...] = (), n_changepoints: int = 12,
        cap: float = np.nan, floor: float = np.nan, minmax: bool = False, given: Any = (), min_span: float = 0.0,
        prior: float = 10.0) -> dict[str, np.ndarray]:  # fmt: skip
    features = features_at(DAYS[: y.shape[1]])
    n_features, n_changes = features.shape[1], max(n_changepoints, len(given))
    rules = np.zeros((4, n_features))
    rules[row.PRIOR_SCALE], rules[row.MAX_SPACING], rules[row.MIN_SPAN] = prior, np.inf, min_span
    rules[row.IS_FACTOR, list(factors)] = 1.0
    options = np.array([GROWTH[growth], n_changepoints, 0.8, TAU, float(minmax), cap, floor])
    out = {
        "scalars": np.zeros((len(y), row.N_POINTS + 1)),
        "changepoints": np.zeros((len(y), n_changes)),
        "changes": np.zeros((len(y), n_changes)),
        "coefficients": np.zeros((len(y), n_features)),
    }
    given_days = np.array(given, dtype=np.float64)
    fit_changepoints(y, DAYS[: y.shape[1]], features, rules, options, given_days, *out.values())
    return out


def assert_optimal(
    y: np.ndarray,
    found: dict[str, np.ndarray],
    i: int,
    growth: str = "linear",
    factors: tuple[int, ...] = (),
    cap: float = np.nan,
    prior: float = 10.0,
) -> None:
    """No direction makes the posterior of row i higher: gradients vanish, or are held by the Laplace priors' kinks."""
    has = np.isfinite(y[i])
    s = found["scalars"][i]
    t = (DAYS[has] - s[row.START]) / s[row.SPAN]
    z = (y[i, has] - s[row.SHIFT]) / s[row.SCALE]
    is_factor = np.isin(np.arange(6), factors)
    scaled_cap = (cap - s[row.SHIFT]) / s[row.SCALE]
    n_changes = int(s[row.N_CHANGES])
    c = found["changepoints"][i][:n_changes]
    theta = np.concatenate([[s[row.SLOPE], s[row.OFFSET]], found["coefficients"][i], found["changes"][i][:n_changes]])
    sigma = s[row.SIGMA]

    def posterior(theta: np.ndarray, sigma: float) -> float:
        mean = naive_map.expected(t, features_at(DAYS)[has], is_factor, c, growth, scaled_cap,
                                  theta[0], theta[1], theta[8:], theta[2:8])  # fmt: skip
        free = theta[:8] ** 2 @ np.array([0.04, 0.04, *[prior**-2] * 6]) / 2
        return naive_map.log_likelihood(z, mean, sigma) - float(free)

    gradient = np.empty(theta.size)
    for j in range(theta.size):
        step = np.zeros(theta.size)
        step[j] = 1e-5
        gradient[j] = (posterior(theta + step, sigma) - posterior(theta - step, sigma)) / 2e-5
    if growth == "flat":
        gradient[0] = 0.0
    limit = 1 / TAU
    assert np.abs(gradient[:8]).max() < 1e-3 * limit
    changes, held = theta[8:], gradient[8:]
    moved = changes != 0
    assert_allclose(held[moved], np.sign(changes[moved]) * limit, rtol=1e-3)
    assert (np.abs(held[~moved]) <= limit * (1 + 1e-3)).all()
    assert abs(posterior(theta, sigma * 1.0001) - posterior(theta, sigma * 0.9999)) < 1e-5 * z.size


def test_linear_fit_is_the_most_probable_one() -> None:
    y = rows()
    found = fit(y)
    for i in range(3):
        assert_optimal(y, found, i)
    assert (found["changes"] != 0).any()


def test_narrow_priors_of_regressors_count() -> None:
    y = rows()
    assert_optimal(y, fit(y, prior=0.01), 0, prior=0.01)


def test_rows_with_gaps_late_starts_and_infinities_are_optimal() -> None:
    y = rows()
    rng = np.random.default_rng(1)
    y[0, rng.random(DAYS.size) < 0.1] = np.nan
    y[1, :170] = np.nan
    y[2, 30:40] = np.inf
    y[2, 250:] = -np.inf
    found = fit(y)
    for i in range(3):
        assert_optimal(y, found, i)
    assert_array_equal(found["scalars"][:, row.N_POINTS], np.isfinite(y).sum(axis=1))


def test_changepoints_are_spread_by_position_among_the_rows_own_points() -> None:
    y = rows(1)
    y[0, 10:100] = np.nan
    found = fit(y)
    own = DAYS[np.isfinite(y[0])]
    positions = np.linspace(0, int(np.floor(own.size * 0.8)) - 1, 13).round().astype(int)[1:]
    assert_allclose(found["changepoints"][0], own[positions] / own[-1])


def test_factors_are_optimal() -> None:
    y = rows()[:1] * (1 + 0.3 * np.sin(2 * np.pi * DAYS))
    y[0, 40:60] = np.nan
    assert_optimal(y, fit(y, factors=(0, 3)), 0, factors=(0, 3))


def test_flat_growth_is_optimal_and_has_no_slope() -> None:
    y = rows(1)
    found = fit(y, growth="flat")
    assert_optimal(y, found, 0, growth="flat")
    assert found["scalars"][0, row.SLOPE] == 0.0
    assert found["scalars"][0, row.N_CHANGES] == 0


@pytest.mark.parametrize("floor", [np.nan, -4.0])
@pytest.mark.parametrize("minmax", [False, True])
def test_logistic_growth_is_optimal(floor: float, minmax: bool) -> None:
    rng = np.random.default_rng(3)
    y = (10 / (1 + np.exp(3 - 0.6 * DAYS)) + 0.3 * np.sin(2 * np.pi * DAYS) + 0.2 * rng.normal(size=DAYS.size))[None]
    found = fit(y, growth="logistic", cap=12.0, floor=floor, minmax=minmax)
    assert_optimal(y, found, 0, growth="logistic", cap=12.0)


def test_given_changepoints_outside_a_row_are_left_out() -> None:
    y = rows(2)
    y[1, :150] = np.nan
    found = fit(y, n_changepoints=0, given=(-1.0, 3.0, 9.0, 40.0))
    assert_array_equal(found["scalars"][:, row.N_CHANGES], [2, 1])
    assert_optimal(y, found, 0)
    assert_optimal(y, found, 1)


def test_a_regressor_needs_its_span() -> None:
    y = rows(2)
    y[1, :200] = np.nan
    found = fit(y, min_span=DAYS[-1])
    assert (found["coefficients"][0] != 0).all()
    assert (found["coefficients"][1] == 0).all()


@pytest.mark.parametrize("value", [0.0, 5.0, -1e12, 1e-9])
def test_a_constant_is_met_exactly(value: float) -> None:
    found = fit(np.full((1, DAYS.size), value))
    s = found["scalars"][0]
    assert s[row.OFFSET] * s[row.SCALE] == value
    assert s[row.SIGMA] == 1e-9
    assert not found["coefficients"].any()


def test_rows_without_two_points_are_not_fitted() -> None:
    y = np.full((3, DAYS.size), np.nan)
    y[1, 5] = 1.0
    y[2, [5, 9]] = 1.0, 2.0
    assert_array_equal(fit(y)["scalars"][:, row.N_POINTS], [0, 0, 2])
    assert fit(np.empty((0, DAYS.size)))["scalars"].shape[0] == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # without the JIT numpy tells of the overflow provoked here
def test_rows_beyond_arithmetic_are_not_fitted() -> None:
    y = rows(3)
    y[0] *= 1e-302
    y[1] += 100.0
    found = fit(y, growth="logistic", cap=60.0)["scalars"]
    assert_array_equal(found[:, row.N_POINTS], [0, DAYS.size, DAYS.size])
    assert (
        (fit(y, growth="logistic", cap=60.0, minmax=True)["scalars"][1, row.N_POINTS]) == 0
    )  # the cap below its floor


def test_rows_do_not_interact_and_order_does_not_count() -> None:
    y = rows(6)
    y[1, 50:70] = np.nan
    y[4, :90] = np.nan
    whole, backwards = fit(y), fit(y[::-1].copy())
    alone = [fit(y[i : i + 1].copy()) for i in range(6)]
    for name, column in whole.items():
        assert_array_equal(column, backwards[name][::-1])
        assert_array_equal(column, np.concatenate([part[name] for part in alone]))


def test_a_large_offset_does_not_drown_the_noise() -> None:
    y = rows(1)
    found, shifted = fit(y, minmax=True), fit(y + 1e9, minmax=True)
    assert_allclose(shifted["scalars"][0, row.SIGMA], found["scalars"][0, row.SIGMA], rtol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.floats(0.0, 50.0), st.integers(0, 4))
def test_solve_l1_equals_coordinate_descent(seed: int, penalty: float, n_free: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 8)) @ np.diag(10.0 ** rng.uniform(-1, 1, 8))
    gram, linear = x.T @ x, x.T @ rng.normal(size=40) * 5
    ridge = np.where(np.arange(8) < n_free, 0.3, 0.0)
    found, active = np.zeros(8), np.zeros(8, dtype=np.bool_)
    done = solve_l1(gram, linear, ridge, penalty, n_free, found, np.empty((8, 9)), active, np.empty(8), np.empty(8))
    assert done
    assert_allclose(found, naive_map.minimise_l1(gram, linear, ridge, penalty, n_free), atol=1e-8)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_products_over_present_steps(share: float) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 4))
    where = np.flatnonzero(rng.random(50) < share)
    total, out = np.zeros((4, 4)), np.empty((4, 4))
    add_products(features, 0, 50, 1.0, total)
    feature_products(features, where, total, out)
    assert_allclose(out, features[where].T @ features[where], atol=1e-12)


def test_bounds_of_noise_and_bends_equal_a_simulation() -> None:
    rng = np.random.default_rng(2)
    table, level = deviation_table(0.95), normal_quantile(0.95)
    assert_allclose(level, 1.959963984540054, rtol=1e-12)
    n = 200_000
    for rate in (0.02, 0.5, 4.0, 30.0):
        counts = rng.poisson(rate, n)
        which = np.repeat(np.arange(n), counts)
        jumps = rng.random(which.size) * rng.laplace(size=which.size)
        moved = np.bincount(which, jumps, n)
        for ratio in (0.0, 0.3, 2.0, 50.0):
            width = np.quantile(np.abs(rng.normal(size=n) + ratio * moved), 0.95)
            assert_allclose(level * deviation(rate, ratio, table), width, rtol=0.02)
