"""`std` with several periods: MSTL as statsmodels computes it, carried on point by point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose

from engine.frame import F64, Frame
from engine.models.mstl import decompose, stretches
from engine.models.stl import SeasonalTrend, StlArgs, smoothers
from tests.strategies import START_MS, STEP_MS

SHORT, LONG = 12, 60
N = 12 * LONG


def frame_of(y: F64, first: int = 0) -> Frame:
    values = np.ascontiguousarray(np.atleast_2d(y))
    times = START_MS + STEP_MS * (first + np.arange(values.shape[1], dtype=np.int64))
    return Frame(np.arange(values.shape[0]), times, values, STEP_MS)


def wave(t: F64) -> F64:
    return 20 + 3 * np.sin(2 * np.pi * t / SHORT) + 5 * np.cos(2 * np.pi * t / LONG) + np.cos(6 * np.pi * t / LONG)


def noisy(n: int, n_rows: int = 1) -> F64:
    return wave(np.arange(n)) + np.random.default_rng(4).normal(0, 0.3, (n_rows, n))


def test_the_decomposition_equals_statsmodels() -> None:
    stored = np.load(Path(__file__).parents[1] / "golden/mstl/series.npz")
    y = stored["y"][None]

    def tables(k: int) -> Any:
        args = StlArgs(seasonal=11 + 4 * k, trend_jump=1, low_pass_jump=1)
        return smoothers((SHORT, LONG)[k], args, y.shape[1])

    seasons, trend = decompose(y, (SHORT, LONG), StlArgs().options, tables)
    for found, wanted in zip(seasons, stored["seasons"], strict=True):
        assert_allclose(found[0], wanted, atol=1e-8)
    assert_allclose(trend[0], stored["trend"], atol=1e-8)


def test_both_seasons_are_predicted() -> None:
    y = noisy(N + 300)
    errors = {}
    for period in ([SHORT, LONG], SHORT):
        model = SeasonalTrend(period=period)
        state = model.fit_rows(frame_of(y[:, :N]))
        prediction, _ = model.infer(state, frame_of(y[:, N:], N))
        assert prediction.yhat is not None
        errors[str(period)] = np.sqrt(np.mean((prediction.yhat[0] - wave(np.arange(N, N + 300))) ** 2))
    assert errors[str([SHORT, LONG])] < 0.3 < 3 * errors[str([SHORT, LONG])] < errors[str(SHORT)]


def test_one_by_one_equals_at_once() -> None:
    y = noisy(N + 200, 3)
    y[1, N + 20 : N + 90] = np.nan
    y[2, N + 5] = np.inf
    model = SeasonalTrend(period=[LONG, SHORT], args={"robust": True})
    state = model.fit_rows(frame_of(y[:, :N]))
    whole, after = model.infer(state, frame_of(y[:, N:], N))
    singles = []
    for t in range(200):
        prediction, state = model.infer(state, frame_of(y[:, N + t : N + t + 1], N + t))
        singles.append((prediction.yhat, prediction.yhat_upper))
    for k, column in enumerate((whole.yhat, whole.yhat_upper)):
        assert_allclose(np.concatenate([s[k] for s in singles], axis=1), column, rtol=1e-12)
    for name, column in after.columns.items():
        assert_allclose(state.columns[name], column, rtol=1e-12)


def test_a_window_too_short_for_the_longer_season_has_the_shorter_one() -> None:
    y = noisy(100)
    state = SeasonalTrend(period=[SHORT, LONG]).fit_rows(frame_of(y))
    assert not state.columns["season_1"].any()
    assert np.ptp(state.columns["season"]) > 4


def test_stretches_hold_each_phase_once_and_end_where_a_clock_jumps() -> None:
    places = np.array([5, 6, 7, 8, 9, 8, 9, 10, 14, 15])
    found = [places[part].tolist() for part in stretches(places, 3)]
    assert found == [[5, 6, 7], [8, 9], [8, 9, 10], [14, 15]]


@pytest.mark.parametrize("period", [[], [12, 12], [12, 1]])
def test_periods_must_differ_and_mean_something(period: list[int]) -> None:
    problems = SeasonalTrend(period=period).check()
    assert [problem.split(":")[0] for problem in problems] == ["period"]


def test_a_list_of_one_is_that_period() -> None:
    y = noisy(N)
    one, listed = (SeasonalTrend(period=p).fit_rows(frame_of(y)) for p in (SHORT, [SHORT]))
    for name, column in one.columns.items():
        assert_allclose(listed.columns[name], column)
    assert msgspec.convert({"class": "std", "period": [12, 60]}, SeasonalTrend).periods == (12, 60)
