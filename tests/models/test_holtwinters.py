"""Holt-Winters' own claims; what holds for every model is in test_contract.py, the kernels' in test_holtwinters.py."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine import score
from engine.errors import ModelError
from engine.frame import Frame, State
from engine.models.holtwinters import HoltWinters
from engine.settings import decode_hook
from kernels.holtwinters_search import SEASON_KIND, SPREAD, TREND_KIND
from tests.strategies import frame_of

MINUTE, HOUR = 60_000, 3_600_000
START = 480_000 * HOUR
DAY = 24


def configured(**fields: Any) -> HoltWinters:
    """A model as a configuration makes it."""
    return msgspec.convert({"class": "holtwinters", **fields}, HoltWinters, dec_hook=decode_hook)


def hours(n_steps: int, seed: int = 0) -> np.ndarray:
    t = np.arange(n_steps)
    return 50 + 10 * np.sin(2 * np.pi * t / DAY) + np.random.default_rng(seed).normal(0, 1, n_steps)


def fitted(model: HoltWinters, values: np.ndarray, step_ms: int = HOUR) -> State:
    return model.fit_rows(frame_of(values, START, step_ms))


def after(model: HoltWinters, state: State, start_ms: int, n_steps: int, step_ms: int = HOUR) -> Any:
    """Predictions at later times."""
    times = start_ms + step_ms * np.arange(n_steps)
    values = np.zeros((state.series.size, n_steps))
    return model.infer(state, Frame(state.series, times, values, step_ms))[0]


def test_a_forecast_does_not_depend_on_when_it_is_asked_for() -> None:
    model = configured(seasonality="1d", args={"trend": "add", "damped_trend": True})
    state = fitted(model, hours(240))
    whole = after(model, state, START + 240 * HOUR, 100)
    for k in (0, 1, 37, 99):
        alone = after(model, state, START + (240 + k) * HOUR, 1)
        assert alone.yhat[0, 0] == whole.yhat[0, k]
    noiseless = 50 + 10 * np.sin(2 * np.pi * np.arange(240, 340) / DAY)
    assert np.abs(whole.yhat[0] - noiseless).mean() < 0.6


def test_a_factor_that_leads_beyond_all_numbers_still_gives_a_band() -> None:
    model = configured(args={"trend": "mul", "seasonal": None})
    state = fitted(model, 10.0 ** np.arange(1, 9)[None])
    prediction = after(model, state, START + 8 * HOUR, 900)
    for column in (prediction.yhat, prediction.yhat_lower, prediction.yhat_upper):
        assert np.isfinite(column).all()
    assert (np.diff(prediction.yhat[0]) >= 0).all()
    columns = score.apply(score.Policy(), 0, prediction, frame_of(np.ones((1, 900)), START + 8 * HOUR, HOUR))
    assert (columns["anomaly_score"] > 1).all()


def test_the_band_is_the_threshold_times_the_deviation_of_one_step_errors() -> None:
    model = configured(seasonality="1d", z_threshold=3)
    state = fitted(model, hours(240))
    found = after(model, state, START + 240 * HOUR, 30)
    assert_allclose(found.yhat_upper - found.yhat, 3 * state.columns["scalars"][0, SPREAD])
    assert_allclose(found.yhat - found.yhat_lower, 3 * state.columns["scalars"][0, SPREAD])
    assert 0.8 < state.columns["scalars"][0, SPREAD] < 1.4


def test_forecast_at_is_the_prediction_of_the_later_time() -> None:
    model = configured(seasonality="1d", forecast_at=["90m", "1d"])
    state = fitted(model, hours(240))
    now, then = after(model, state, START + 240 * HOUR, 5), after(model, state, START + 264 * HOUR, 5)
    assert set(now.extra) == {f"{name}_{at}" for name in ("yhat", "yhat_lower", "yhat_upper") for at in ("90m", "1d")}
    assert_array_equal(now.extra["yhat_1d"], then.yhat)
    assert_array_equal(now.extra["yhat_upper_1d"], then.yhat_upper)
    later = after(model, state, START + 241 * HOUR, 6).yhat
    assert_allclose(now.extra["yhat_90m"], (later[:, :-1] + later[:, 1:]) / 2)


def test_gathered_points_predict_at_the_original_times() -> None:
    quarters = np.repeat(hours(240), 4)
    by_hour, by_quarter = configured(frequency="1h", seasonality="1d"), configured(seasonality="1d")
    gathered = fitted(by_hour, quarters, 15 * MINUTE)
    same = fitted(by_quarter, hours(240))
    assert_allclose(gathered.columns["season"], same.columns["season"])
    # The mean of 0:00, 0:15, 0:30 and 0:45 belongs to 0:22:30.
    assert int(gathered.shared["end_ms"][0]) == START + 239 * HOUR + 22 * MINUTE + 30_000
    middle = START + 240 * HOUR + 22 * MINUTE + 30_000
    exact = after(by_hour, gathered, middle, 10).yhat
    assert_allclose(exact, after(by_quarter, same, START + 240 * HOUR, 10).yhat)
    between = after(by_hour, gathered, middle + 15 * MINUTE, 9).yhat
    assert_allclose(between, 0.75 * exact[:, :-1] + 0.25 * exact[:, 1:])


def test_a_frequency_below_the_step_is_the_step() -> None:
    plain, fine = configured(seasonality="1d"), configured(frequency="1m", seasonality="1d")
    counted = configured(frequency="1m", args={"seasonal_periods": 24 * 60})
    states = [fitted(model, hours(96)) for model in (plain, fine, counted)]
    for state in states[1:]:
        assert_array_equal(state.columns["season"], states[0].columns["season"])


def test_without_a_season_or_with_too_few_points_for_one_there_is_none() -> None:
    values = hours(240)
    assert fitted(configured(args={"seasonal": None}), values).columns["season"].shape == (1, 0)
    assert fitted(configured(seasonality="1d", args={"seasonal": None}), values).columns["season"].shape == (1, 0)
    assert fitted(configured(seasonality="1d"), values[:47]).columns["season"].shape == (1, 0)
    assert fitted(configured(seasonality="1d"), values[:48]).columns["season"].shape == (1, 24)
    late = np.stack([values, values])
    late[1, :200] = np.nan
    assert_array_equal(fitted(configured(seasonality="1d"), late).columns["scalars"][:, SEASON_KIND], [1, 0])


def test_seasons_that_are_not_given_are_found_for_each_series() -> None:
    t = np.arange(720)
    noise = np.random.default_rng(1).normal(size=(4, t.size))
    values = 50 + noise + 8 * np.stack([np.sin(2 * np.pi * t / p) for p in (24, 1e9, 6, 24)])
    found = configured()
    state = fitted(found, values)
    assert_array_equal(state.columns["period"], [24, 0, 6, 24])
    start = START + t.size * HOUR
    prediction = after(found, state, start, 60)
    for rows, model in (([0, 3], configured(seasonality="1d")), ([2], configured(seasonality="6h")),
                        ([1], configured(args={"seasonal": None}))):  # fmt: skip
        given = after(model, fitted(model, values[rows]), start, 60)
        assert_array_equal(prediction.yhat[rows], given.yhat)
        assert_array_equal(prediction.yhat_upper[rows], given.yhat_upper)


@pytest.mark.parametrize(
    ("args", "kinds"),
    [
        ({}, [0, 1]),
        ({"trend": "add"}, [1, 1]),
        ({"trend": "additive", "seasonal": "multiplicative"}, [1, 2]),
        ({"trend": "mul", "seasonal": "mul", "damped": True}, [2, 2]),
        ({"initialization_method": "estimated", "seasonal_periods": 24}, [0, 1]),
    ],
)
def test_arguments_choose_the_form(args: dict[str, Any], kinds: list[int]) -> None:
    model = configured(seasonality="1d", args=args)
    assert model.check() == []
    assert_array_equal(fitted(model, hours(240)).columns["scalars"][0, [TREND_KIND, SEASON_KIND]], kinds)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"args": {"use_boxcox": True}}, "args.use_boxcox: is not honoured; expected some of trend, damped_trend, "),
        ({"args": {"trend": "linear"}}, "args.trend: 'linear', invalid enum value 'linear'"),
        ({"args": {"seasonal_periods": 1}}, "args.seasonal_periods: 1, expected `int` >= 2"),
        ({"args": {"damped_trend": True}}, "args.damped_trend: true, expected args.trend beside it"),
        ({"frequency": "0s"}, "frequency: 0s, expected a time like 5m"),
        ({"frequency": "7m", "seasonality": "1d"}, "seasonality: 1d, expected twice or more times frequency (7m)"),
        ({"forecast_at": ["-1h"]}, "forecast_at: -1h, expected a time ahead like 1h"),
    ],
)
def test_what_would_not_be_honoured_is_a_problem(fields: dict[str, Any], problem: str) -> None:
    (found,) = configured(**fields).check()
    assert found.startswith(problem)


def test_too_short_a_window_is_said() -> None:
    with pytest.raises(ModelError, match="at least two steps"):
        fitted(configured(frequency="1h"), hours(3), 15 * MINUTE)


def test_state_is_96_bytes_and_8_for_each_phase() -> None:
    state = fitted(configured(seasonality="1d"), np.stack([hours(96)] * 100))
    assert sum(column.nbytes for column in state.columns.values()) == 100 * (96 + 8 * 24)


@pytest.mark.parametrize("fields", [{"seasonality": "1d"}, {"seasonality": "7d"}, {}])
@pytest.mark.parametrize("change", ["2023-11-05", "2023-03-12"])
@pytest.mark.parametrize("days_after", [-1, 3, 9])
def test_trap_44_a_season_of_days_keeps_to_the_wall_clock(fields: dict[str, str], change: str, days_after: int) -> None:
    # New York changes its clocks that many days before the fit window ends, or a day after it.
    zone = ZoneInfo("America/New_York")
    end_ms = int((datetime.fromisoformat(change).replace(tzinfo=zone) + timedelta(days_after)).timestamp()) * 1000
    times = end_ms + HOUR * np.arange(-28 * DAY, 4 * DAY)
    clocks = np.array([datetime.fromtimestamp(t / 1000, zone).hour for t in times])
    # Steep enough to miss by an hour: 2.6 an hour at noon.
    y = 10 * np.sin(2 * np.pi * clocks / DAY) + np.random.default_rng(7).normal(0, 0.1, times.size)
    parts = [Frame(np.arange(1), times[part], y[None, part].copy(), HOUR, "America/New_York")
             for part in (slice(28 * DAY), slice(28 * DAY, None))]  # fmt: skip
    model = configured(forecast_at=["1d"], **fields)
    prediction, _ = model.infer(model.fit_rows(parts[0]), parts[1])
    assert prediction.yhat is not None
    assert prediction.yhat_upper is not None
    assert np.abs(prediction.yhat - parts[1].values).max() < 1.0
    assert np.abs(prediction.extra["yhat_1d"][0, :-DAY] - parts[1].values[0, DAY:]).max() < 1.0
    assert (prediction.yhat_upper - prediction.yhat)[0, 0] < 2.5 * 0.3
