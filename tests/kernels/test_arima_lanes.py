"""Errors of several sets of parameters side by side: each lane has those of the definition, also across gaps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kernels.arima_lanes import N_LANES, REACH, REACH_ERRORS, dot, short_errors
from tests.naive_arima import one_step_errors


def lanes(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Small random polynomials and constants of all lanes."""
    rng = np.random.default_rng(seed)
    own, average = rng.normal(0, 0.2, (N_LANES, REACH + 1)), rng.normal(0, 0.3, (N_LANES, REACH_ERRORS + 1))
    own[:, 0] = average[:, 0] = 1.0
    return own, average, rng.normal(0, 1, N_LANES)


def test_each_lane_has_the_errors_of_the_definition() -> None:
    y = np.random.default_rng(1).normal(10, 3, 200)
    own, average, constant = lanes(2)
    errors = np.zeros((N_LANES, y.size))
    short_errors(y, REACH, own, average, constant, y, errors)
    for k in range(N_LANES):
        assert_allclose(errors[k], one_step_errors(y.tolist(), own[k].tolist(), average[k].tolist(), constant[k]))


def test_a_missing_value_is_its_own_prediction() -> None:
    y = np.random.default_rng(3).normal(10, 3, 200)
    own, average, constant = lanes(4)
    y[[50, 51, 120]] = np.nan
    errors = np.zeros((N_LANES, y.size))
    short_errors(y, REACH, own, average, constant, y, errors)
    for k in range(N_LANES):
        filled = y.copy()
        for t in np.flatnonzero(np.isnan(y)):
            filled[t] = 0.0
            filled[t] = -one_step_errors(filled.tolist(), own[k].tolist(), average[k].tolist(), constant[k])[t]
        assert_allclose(
            errors[k], one_step_errors(filled.tolist(), own[k].tolist(), average[k].tolist(), constant[k]), atol=1e-9
        )


@pytest.mark.parametrize("start", range(REACH))
def test_what_would_lie_before_the_row_is_nothing(start: int) -> None:
    y = np.random.default_rng(5).normal(10, 3, 50)
    own, average, constant = lanes(6)
    own[:, start + 1 :] = 0.0
    errors = np.zeros((N_LANES, y.size))
    short_errors(y, start, own, average, constant, y, errors)
    for k in range(N_LANES):
        expected = one_step_errors(y.tolist(), own[k, : start + 1].tolist(), average[k].tolist(), constant[k])
        assert_allclose(errors[k], expected)


def test_a_sum_of_products_keeps_nan() -> None:
    x = np.ones(100)
    x[70] = np.nan
    assert np.isnan(dot(x, np.ones(100)))
    assert dot(np.ones(100), np.arange(100.0)) == 4950.0
