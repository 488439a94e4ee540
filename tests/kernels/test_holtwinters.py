"""Holt-Winters smoothing against its naive twin and against recorded fits of statsmodels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from kernels.holtwinters import fit_holt_winters, forecast_holt_winters
from kernels.holtwinters_search import (
    ALPHA,
    BETA,
    DAMPING,
    FIRST_LEVEL,
    FIRST_TREND,
    GAMMA,
    LEVEL,
    N_POINTS,
    N_SCALARS,
    SEASON_KIND,
    SPREAD,
    TREND_KIND,
)
from kernels.holtwinters_start import find_start
from tests.naive_holtwinters import Form, Start, one_step, start_values

KINDS = (None, "add", "mul")
FORMS = [Form(t, s, d) for t in KINDS for s in KINDS for d in (False, True) if t or not d]
GOLDEN = Path(__file__).parent.parent / "golden" / "holtwinters" / "series.npz"
M = 12


def fit(y: np.ndarray, form: Form, m: int = M) -> tuple[np.ndarray, np.ndarray]:
    rows = np.ascontiguousarray(np.atleast_2d(y))
    scalars, season = np.full((len(rows), N_SCALARS), np.nan), np.full((len(rows), m if form.seasonal else 0), np.nan)
    fit_holt_winters(rows, KINDS.index(form.trend), KINDS.index(form.seasonal), form.damped, scalars, season)
    return scalars, season


def forecast(steps: list[int], scalars: np.ndarray, season: np.ndarray, part: float = 0.0) -> np.ndarray:
    out = np.full((len(scalars), len(steps)), np.nan)
    forecast_holt_winters(np.array(steps), np.full(len(steps), part), scalars, season, out)
    return out


def parameters(scalars: np.ndarray) -> tuple[float, float, float, float]:
    alpha, beta, gamma, phi = (float(scalars[k]) for k in (ALPHA, BETA, GAMMA, DAMPING))
    return alpha, beta, gamma, phi


def started(scalars: np.ndarray, season: list[float]) -> Start:
    """The start values that the search ended with; it leaves those of the season as they are."""
    return Start(float(scalars[FIRST_LEVEL]), float(scalars[FIRST_TREND]), season)


def positive_row(seed: int, n_steps: int = 5 * M, gaps: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(n_steps)
    y = 50 + 0.1 * t + 5 * np.sin(2 * np.pi * t / M) + rng.normal(0, 1, n_steps)
    y[1:][rng.random(n_steps - 1) < gaps] = np.nan
    return y


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("gaps", [0.0, 0.1])
def test_start_values_are_those_of_the_definition(form: Form, gaps: float) -> None:
    y = positive_row(3, gaps=gaps)
    season = np.full(M if form.seasonal else 1, np.nan)
    level, trend = find_start(y, KINDS.index(form.trend), KINDS.index(form.seasonal), season)
    expected = start_values(y.tolist(), form, M)
    assert_allclose([level, trend], [expected.level, expected.trend], rtol=1e-4, atol=1e-4)
    assert_allclose(season, expected.season or [0.0], atol=1e-4)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_state_spread_and_forecast_follow_from_the_found_parameters(form: Form, gaps: float) -> None:
    y = positive_row(4, n_steps=5 * M + 5, gaps=gaps)
    scalars, season = fit(y, form)
    pattern = np.empty(M if form.seasonal else 1)
    find_start(y, KINDS.index(form.trend), KINDS.index(form.seasonal), pattern)
    start = started(scalars[0], pattern.tolist() if form.seasonal else [])
    # A forecast is what one-step prediction gives when nothing is there to correct it.
    expected, *_ = one_step([*y.tolist(), *[math.nan] * 30], form, start, *parameters(scalars[0]))
    errors = (y - np.array(expected[: y.size]))[np.isfinite(y)]
    n_free = 2 + 2 * bool(form.trend) + (M + 1) * bool(form.seasonal) + form.damped
    assert scalars[0, SPREAD] == pytest.approx(math.sqrt(np.sum(errors**2) / (errors.size - n_free)), rel=1e-9)
    assert scalars[0, N_POINTS] == errors.size
    assert_allclose(forecast(list(range(1, 31)), scalars, season)[0], expected[y.size :], rtol=1e-9)


def test_losses_are_those_of_statsmodels_and_forecasts_no_worse() -> None:
    with np.load(GOLDEN) as golden:
        y, kinds, sse, later = golden["thousandths"] / 1000, golden["form"], golden["sse"], golden["later"]
    ratios = np.empty((2, len(y)))
    for i, row in enumerate(y):
        form = Form(KINDS[kinds[i, 0]], KINDS[kinds[i, 1]], bool(kinds[i, 2]))
        scalars, _ = fit(row[:-M], form)
        start = started(scalars[0], start_values(row[:-M].tolist(), form, M).season)
        expected, *_ = one_step(row.tolist(), form, start, *parameters(scalars[0]))
        errors = row - np.array(expected)
        ratios[:, i] = np.sum(errors[:-M] ** 2) / sse[i], math.sqrt(np.mean(errors[-M:] ** 2)) / later[i]
    assert np.mean(ratios[0] <= 1.01) >= 0.95
    assert np.median(ratios[0]) < 1.001
    # With one season ahead to judge by, single series differ either way.
    assert np.median(ratios[1]) <= 1.0


def test_a_row_that_could_have_no_season_has_none() -> None:
    y = np.tile(positive_row(5, 2 * M), (4, 1))
    y[1, 0] = np.nan
    y[2, : M - 1] = np.nan
    y[3, M // 3 : -M // 3] = np.nan
    scalars, season = fit(y, Form("add", "add"))
    assert_array_equal(scalars[:, SEASON_KIND], [1, 0, 0, 0])
    assert_array_equal(season[1:], 0.0)
    alone, _ = fit(y[1:], Form("add", None))
    assert_array_equal(scalars[1:], alone)


def test_values_that_are_not_positive_get_additive_parts() -> None:
    y = np.stack([positive_row(6), positive_row(6) - 50])
    scalars, season = fit(y, Form("mul", "mul"))
    assert_array_equal(scalars[:, [TREND_KIND, SEASON_KIND]], [[2, 2], [1, 1]])
    alone = fit(y[1], Form("add", "add"))
    assert_array_equal(scalars[1:], alone[0])
    assert_array_equal(season[1:], alone[1])


def test_a_gap_at_the_start_shifts_nothing() -> None:
    y = positive_row(7)
    late = np.concatenate([np.full(17, np.nan), y])
    for form in FORMS:
        a, b = fit(y, form), fit(late, form)
        assert_array_equal(a[0], b[0])
        assert_array_equal(a[1], b[1])


def test_what_is_no_number_to_sum_is_missing() -> None:
    y = positive_row(8)
    holes = y.copy()
    y[[7, 20, 33, 40]] = np.nan
    holes[[7, 20, 33, 40]] = np.inf, -np.inf, np.nan, 1e200
    assert_array_equal(fit(holes, Form("add", "add"))[0], fit(y, Form("add", "add"))[0])


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_constant_stays_as_it_is(form: Form) -> None:
    scalars, season = fit(np.full(3 * M, 7.5), form)
    assert scalars[0, SPREAD] == 0.0
    assert_array_equal(forecast([1, 5, 1000], scalars, season)[0], 7.5)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=40),
    st.sampled_from(FORMS),
    st.integers(2, 8),
)
def test_no_row_breaks_it(values: list[float], form: Form, m: int) -> None:
    scalars, season = fit(np.array(values), form, m)
    n_points = int(np.isfinite(values).sum())
    assert scalars[0, N_POINTS] == (n_points if n_points >= 2 else 0)
    assert np.isfinite(scalars).all()
    assert np.isfinite(season).all()
    rows = np.array([values, [math.nan] * len(values), values])
    both = fit(rows, form, m)
    assert_array_equal(both[0][2], scalars[0])
    assert_array_equal(both[1][2], season[0])


def test_times_between_steps_are_interpolated_and_times_before_the_end_carry_the_last_state_back() -> None:
    scalars, season = fit(positive_row(9), Form("add", "add"))
    whole = forecast([1, 2, 3], scalars, season)[0]
    assert_allclose(forecast([1, 2], scalars, season, part=0.25)[0], 0.75 * whole[:-1] + 0.25 * whole[1:])
    trend = forecast([M + 1], scalars, season)[0, 0] - whole[0]
    assert_allclose(forecast([1 - M], scalars, season)[0, 0], whole[0] - trend)
    assert scalars[0, LEVEL] == pytest.approx(np.mean(forecast([0], scalars, season) - season[0, -1]))
