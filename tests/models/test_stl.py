"""Seasonal trend decomposition's own claims; what holds for every model is in test_contract.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from engine import score
from engine.frame import Frame, Query, State
from engine.models.stl import SeasonalTrend, StlArgs
from engine.settings import decode_hook
from tests.strategies import frame_of

HOUR, DAY = 3_600_000, 24
START = 480_007 * HOUR


def configured(**fields: Any) -> SeasonalTrend:
    """A model as a configuration makes it."""
    return msgspec.convert({"class": "std", "period": DAY, **fields}, SeasonalTrend, dec_hook=decode_hook)


def hours(n_steps: int, seed: int = 0) -> np.ndarray:
    t = np.arange(n_steps)
    return 50 + 10 * np.sin(2 * np.pi * t / DAY) + np.random.default_rng(seed).normal(0, 1, n_steps)


def frame(values: np.ndarray, first: int = 0) -> Frame:
    return frame_of(values, START + first * HOUR, HOUR)


def columns(model: SeasonalTrend, state: State, later: Frame) -> tuple[dict[str, np.ndarray], State]:
    """What would be written."""
    prediction, state = model.infer(state, later)
    policy = score.resolve(model, Query("q", "up", HOUR))
    return score.apply(policy, model.warm_up, prediction, later), state


def test_points_after_the_fit_are_expected_at_trend_plus_season() -> None:
    y = hours(1000)
    model = configured(provide_series=["anomaly_score", "y", "yhat", "trend", "seasonal", "resid"])
    found, _ = columns(model, model.fit_rows(frame(y[:480])), frame(y[480:], 480))
    pure = 10 * np.sin(2 * np.pi * np.arange(480, 1000) / DAY)
    assert np.abs(found["yhat"][0] - 50 - pure).mean() < 0.6
    assert_allclose(found["trend"] + found["seasonal"], found["yhat"])
    assert_allclose(found["resid"], y[480:] - found["yhat"])
    assert 0.001 < (found["anomaly_score"] > 1).mean() < 0.03


def test_extra_series_are_there_only_when_named() -> None:
    model = configured(provide_series=["anomaly_score", "resid"])
    later = frame(hours(5), 96)
    prediction, _ = model.infer(model.fit_rows(frame(hours(96))), later)
    assert set(prediction.extra) == {"resid"}
    assert configured().infer(configured().fit_rows(frame(hours(96))), later)[0].extra == {}


def test_gaps_do_not_shift_phases() -> None:
    y = hours(960)
    model = configured()
    state = model.fit_rows(frame(y[:480]))
    # Nine days and a half without any frame, then one that starts in the middle of a day.
    found, _ = columns(model, state, frame(y[708:], 708))
    expected = 50 + 10 * np.sin(2 * np.pi * np.arange(708, 960) / DAY)
    assert np.abs(found["yhat"][0] - expected).mean() < 0.6
    # A frame of the same points with the hours between as gaps.
    gaps = y[480:].copy()
    gaps[: 708 - 480] = np.nan
    same, _ = columns(model, state, frame(gaps, 480))
    assert_array_equal(same["yhat"][:, 708 - 480 :], found["yhat"])


def test_a_fit_does_not_depend_on_where_its_window_starts_in_a_season() -> None:
    y = hours(500)
    for first in (0, 5, 23):
        model = configured()
        state = model.fit_rows(frame(y[first:480], first))
        found, _ = columns(model, state, frame(y[480:], 480))
        assert np.abs(found["yhat"][0] - 50 - 10 * np.sin(2 * np.pi * np.arange(480, 500) / DAY)).mean() < 0.7


def test_robust_fits_forget_outliers() -> None:
    y = hours(480)
    spoiled = y.copy()
    spoiled[[100, 420, 436]] += 200
    shifts = []
    for is_robust in (False, True):
        model = configured(args={"robust": is_robust})
        clean, dirty = (model.fit_rows(frame(values)) for values in (y, spoiled))
        shifts.append(np.abs(clean.columns["season"] - dirty.columns["season"]).max())
    assert shifts[0] > 10
    assert shifts[1] < 0.05 * shifts[0]


def test_robust_updates_bound_what_a_spike_leaves_behind() -> None:
    y = hours(600)
    y[500] += 200
    left = []
    for is_robust in (False, True):
        model = configured(args={"robust": is_robust})
        found, _ = columns(model, model.fit_rows(frame(y[:480])), frame(y[480:], 480))
        left.append(found["yhat"][0, 44] - (50 + 10 * np.sin(2 * np.pi * 524 / DAY)))
        assert found["anomaly_score"][0, 20] > 10
    assert left[0] > 20
    assert abs(left[1]) < 3


def test_a_score_counts_after_two_periods() -> None:
    model = configured(min_n_samples_seen=3)
    assert model.warm_up == 2 * DAY
    assert configured(period=1, min_n_samples_seen=3).warm_up == 3
    y = hours(120)
    y[[30, 100]] += 100
    later = frame(y)
    found, state = columns(model, model.fresh(later.series, later), later)
    assert_array_equal(found["anomaly_score"][0, : 2 * DAY], 0.0)
    assert found["anomaly_score"][0, 100] > 1
    assert_array_equal(state.columns["seen"], [120])


def test_a_period_of_one_is_a_level() -> None:
    model = configured(period=1)
    y = np.random.default_rng(1).normal(5, 1, 200)
    found, state = columns(model, model.fit_rows(frame(y[:150])), frame(y[150:], 150))
    assert np.abs(found["yhat"] - 5).mean() < 1
    assert state.columns["season"].shape == (1, 1)


def test_lengths_are_made_odd_and_those_of_statsmodels() -> None:
    assert [StlArgs().trend_length(p) for p in (12, 24, 288)] == [23, 47, 551]
    assert [StlArgs().low_pass_length(p) for p in (12, 7, 288)] == [13, 9, 289]


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({"extrapolate_trend": 3}, "args.extrapolate_trend: is not honoured; expected some of seasonal, trend, "),
        ({"seasonal": 1}, "args.seasonal: 1, expected `int` >= 3"),
        ({"seasonal": 8}, "args.seasonal: 8, expected an odd number >= 3"),
        ({"trend": 23}, "args.trend: 23, expected an odd number above the period (24)"),
        ({"low_pass": 26}, "args.low_pass: 26, expected an odd number above the period (24)"),
        ({"model": "multiplicative"}, "args.model: 'multiplicative', invalid enum value 'multiplicative'"),
        ({"two_sided": True}, "args.two_sided: true, expected false"),
        ({"robust": "maybe"}, "args.robust: 'maybe', expected `bool`, got `str`"),
    ],
)
def test_what_would_not_be_honoured_is_a_problem(args: dict[str, Any], problem: str) -> None:
    (found,) = configured(args=args).check()
    assert found.startswith(problem)


def test_arguments_of_old_configurations_load() -> None:
    assert configured(args={"model": "additive", "two_sided": False}).check() == []


def test_state_is_32_bytes_and_8_for_each_phase() -> None:
    state = configured().fit_rows(frame_of(np.stack([hours(96)] * 100), START, HOUR))
    assert state.size_bytes == 100 * (32 + 8 * DAY)


def test_periods_that_are_not_given_are_found_for_each_series() -> None:
    t = np.arange(720)
    values = 50 + np.random.default_rng(1).normal(size=(4, t.size))
    values += 8 * np.stack([np.sin(2 * np.pi * t / p) for p in (24, 1e9, 6, 24)])
    found = configured(period=None, args={"robust": True})
    state = found.fit_rows(frame(values[:, :600]))
    assert_array_equal(state.columns["period"], [24, 1, 6, 24])
    whole, end = columns(found, state, frame(values[:, 600:], 600))
    for row, period in enumerate((24, 1, 6, 24)):
        given = configured(period=period, args={"robust": True})
        alone = given.fit_rows(frame(values[row : row + 1, :600]))
        expected, expected_end = columns(given, alone, frame(values[row : row + 1, 600:], 600))
        for name, column in expected.items():
            assert_array_equal(whole[name][row], column[0], err_msg=name)
        assert_array_equal(end.columns["season"][row, :period], expected_end.columns["season"][0])


def test_a_series_with_a_period_of_its_own_is_cold_for_two_of_them() -> None:
    values = np.stack([hours(480), np.random.default_rng(1).normal(size=480)])
    model = configured(period=None)
    state = model.fit_rows(frame(values))
    few = state.updated(seen=np.array([47, 47]))
    assert_array_equal(model.infer(few, frame(values[:, :1], 480))[0].seen, [model.warm_up - 1, 47])
    enough = state.updated(seen=np.array([48, 48]))
    assert_array_equal(model.infer(enough, frame(values[:, :1], 480))[0].seen, [model.warm_up, 48])


def test_a_series_with_a_period_of_its_own_is_cold_as_long_in_one_batch_as_point_by_point() -> None:
    values = hours(600)[None]
    model = configured(period=None)
    state = model.fit_rows(frame(values[:, :480])).updated(seen=np.array([40]))
    whole = columns(model, state, frame(values[:, 480:500], 480))[0]["anomaly_score"]
    singles = []
    for t in range(480, 500):
        found, state = columns(model, state, frame(values[:, t : t + 1], t))
        singles.append(found["anomaly_score"][0, 0])
    assert_array_equal(whole[0], singles)
    assert not whole[0, :8].any()
    assert whole[0, 8:].all()


def test_phases_of_a_period_that_was_found_keep_to_the_wall_clock() -> None:
    change = 1_774_746_000_000  # 2026-03-29T01:00Z, summer time in Berlin
    times = change - 20 * DAY * HOUR + HOUR * np.arange(25 * DAY)
    wall = (times // HOUR + 1 + (times >= change)) % DAY
    values = 50 + 20.0 * (wall == 9) + np.random.default_rng(1).normal(0, 0.5, times.size)
    model = configured(period=None, args={"robust": True})

    def part(first: int, last: int) -> Frame:
        return Frame(np.zeros(1, np.int64), times[first:last], values[None, first:last].copy(), HOUR, "Europe/Berlin")

    prediction, _ = model.infer(model.fit_rows(part(0, 20 * DAY)), part(20 * DAY, 25 * DAY))
    assert np.abs(prediction.yhat[0] - values[20 * DAY :]).max() < 10


@pytest.mark.parametrize("period", [DAY, 7 * DAY, None])
@pytest.mark.parametrize("change", ["2023-11-05", "2023-03-12"])
@pytest.mark.parametrize("days_after", [-1, 3, 9])
def test_trap_44_a_season_of_days_keeps_to_the_wall_clock(period: int | None, change: str, days_after: int) -> None:
    # New York changes its clocks that many days before the fit window ends, or a day after it.
    zone, effects = ZoneInfo("America/New_York"), np.random.default_rng(6).normal(0, 10, DAY)
    end_ms = int((datetime.fromisoformat(change).replace(tzinfo=zone) + timedelta(days_after)).timestamp()) * 1000
    times = end_ms + HOUR * np.arange(-28 * DAY, 4 * DAY)
    clocks = np.array([datetime.fromtimestamp(t / 1000, zone).hour for t in times])
    y = effects[clocks] + np.random.default_rng(7).normal(0, 0.1, times.size)
    past = Frame(np.arange(1), times[: 28 * DAY], y[None, : 28 * DAY], HOUR, "America/New_York")
    later = Frame(np.arange(1), times[28 * DAY :], y[None, 28 * DAY :], HOUR, "America/New_York")
    model = configured(period=period)
    state = model.fit_rows(past)
    prediction, _ = model.infer(state, later)
    assert prediction.yhat is not None
    assert prediction.yhat_upper is not None
    assert np.abs(prediction.yhat - later.values).max() < 1.0
    # Nor is the band wider than the noise makes it, by errors of an hour within the window.
    assert (prediction.yhat_upper - prediction.yhat)[0, 0] < 2.5 * 0.5


def test_a_season_that_is_no_number_of_days_knows_no_clock() -> None:
    times = int(datetime(2023, 11, 1, tzinfo=UTC).timestamp()) * 1000 + HOUR * np.arange(20 * DAY)
    effects = np.random.default_rng(8).normal(0, 10, 7)
    values = effects[np.arange(times.size) % 7][None]
    frames = [Frame(np.arange(1), times[part], values[:, part].copy(), HOUR, "America/New_York")
              for part in (slice(80), slice(80, None))]  # fmt: skip
    model = configured(period=7)
    prediction, _ = model.infer(model.fit_rows(frames[0]), frames[1])
    assert_allclose(prediction.yhat, frames[1].values, atol=1e-6)
