"""What happens to a metric, when the envelope alarms and when it stops. One-minute steps, default arguments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from engine import score
from engine.frame import F64, Frame, Query
from engine.models.envelope import TemporalEnvelope
from engine.models.envelope_args import EnvelopeHolidays
from engine.settings import Duration
from kernels._jit import B1

STEP_MS, DAY = 60_000, 1_440
N = 21 * DAY
START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
WHEN = 14 * DAY + 700
T = np.arange(N)
RHYTHM = 100 + 20 * np.sin(2 * np.pi * T / DAY)
USUAL = RHYTHM + np.random.default_rng(5).normal(0, 1, N)


def columns(y: F64, start: datetime = START, tz: str = "UTC", **arguments: Any) -> Mapping[str, F64]:
    """All columns of one series, from its first point on."""
    model = TemporalEnvelope(**arguments)
    times = int(start.timestamp() * 1000) + STEP_MS * np.arange(y.size)
    frame = Frame(np.arange(1), times, np.ascontiguousarray(y[None]), STEP_MS, tz)
    prediction, _ = model.infer(model.fresh(frame.series, frame), frame)
    found = score.apply(score.resolve(model, Query("q", "q", STEP_MS, tz)), model.warm_up, prediction, frame)
    return {name: column[0] for name, column in found.items()}


def alarms(y: F64, **arguments: Any) -> B1:
    """(T,) where the score is above 1."""
    return columns(y, **arguments)["anomaly_score"] > 1


def changed(begin: int, end: int | None, by: F64 | float) -> F64:
    """The usual series with something added from a step on."""
    y = USUAL.copy()
    y[begin:end] += by
    return y


def per_day(found: B1) -> list[int]:
    return found.reshape(-1, DAY).sum(axis=1).tolist()


def test_nothing_wrong_alarms_less_than_once_a_day() -> None:
    assert alarms(USUAL)[7 * DAY :].sum() <= 14


def test_a_spike_alarms_at_once_and_leaves_no_trace() -> None:
    found = columns(changed(WHEN, WHEN + 1, 30))
    assert found["anomaly_score"][WHEN] > 2
    assert not (found["anomaly_score"][WHEN + 1 : WHEN + 60] > 1).any()
    assert np.abs(found["yhat"] - RHYTHM)[WHEN + 1 : WHEN + 60].max() < 2


def test_a_level_shift_alarms_for_minutes_and_is_the_new_normal_within_the_hour() -> None:
    found = columns(changed(WHEN, None, 30))
    anomalous = found["anomaly_score"] > 1
    assert anomalous[WHEN]
    assert not anomalous[WHEN + 20 : WHEN + DAY].any()
    assert np.abs(found["yhat"] - RHYTHM - 30)[WHEN + 60 : WHEN + DAY].mean() < 1


def test_a_shift_waits_for_the_changepoint_window() -> None:
    """Until as many residuals of one sign as configured have come, the level follows little."""
    late = {}
    for window in (4, 40):
        found = columns(changed(WHEN, None, 30), changepoint_window=window, loss_reactivity=1)
        late[window] = 30 - (found["yhat"] - RHYTHM)[WHEN + 12]
    assert late[4] < 0.8 * late[40]


@pytest.mark.parametrize("hours_before", [1, 4, 10])
def test_a_fit_that_ends_in_a_new_level_starts_from_it_without_a_false_season(hours_before: int) -> None:
    y, now = changed(WHEN - 60 * hours_before, None, 100), slice(WHEN + 60, WHEN + DAY)
    found = columns(y)
    error = np.abs(found["yhat"] - RHYTHM - 100)[now]
    assert error.mean() < 2
    assert error.max() < 5
    assert (found["anomaly_score"][now] > 1).sum() <= 2


@pytest.mark.parametrize("minutes", [60, 360])
def test_missing_hours_are_no_reason_to_alarm(minutes: int) -> None:
    y = USUAL.copy()
    y[WHEN : WHEN + minutes] = np.nan
    assert not alarms(y)[WHEN : WHEN + minutes + 120].any()


def test_a_series_that_was_dead_for_days_returns_quietly_or_alarms_for_a_new_level() -> None:
    back = WHEN + 3 * DAY + 300
    same, higher = USUAL.copy(), changed(back, None, 200)
    same[WHEN:back] = higher[WHEN:back] = np.nan
    assert not alarms(same)[back : back + 300].any()
    found = alarms(higher)[back:]
    assert found[0]
    assert not found[30:300].any()


def test_a_line_gone_flat_in_its_band_is_no_alarm_and_one_gone_to_zero_alarms_at_once() -> None:
    flat, zero = USUAL.copy(), USUAL.copy()
    flat[WHEN:] = flat[WHEN]
    zero[WHEN:] = 0
    assert not alarms(flat)[WHEN : WHEN + 120].any()
    found = alarms(zero)[WHEN:]
    assert found[0]
    assert not found[30:DAY].any()


def test_long_zero_ranks_above_the_usual_without_alarming() -> None:
    zero = USUAL.copy()
    zero[WHEN:] = 0
    found = columns(zero)["anomaly_score"]
    assert np.median(found[WHEN + 60 : WHEN + DAY]) > 3 * np.median(found[WHEN - DAY : WHEN])


def test_slow_drift_is_followed() -> None:
    drift = 0.01 * np.maximum(0, T - WHEN)
    found = columns(USUAL + drift)
    assert (found["anomaly_score"][WHEN:] > 1).sum() <= 14
    assert np.abs(found["yhat"] - RHYTHM - drift)[WHEN:].mean() < 1.5


def test_more_noise_alarms_when_it_begins_and_is_learned() -> None:
    y = RHYTHM + np.where(T >= WHEN, 5, 1) * (USUAL - RHYTHM)
    found = columns(y)
    assert (found["anomaly_score"] > 1)[WHEN : WHEN + 60].any()
    assert (found["anomaly_score"] > 1)[WHEN + 60 : WHEN + 2 * DAY].sum() <= 4
    width = found["yhat_upper"] - found["yhat_lower"]
    assert np.median(width[WHEN + DAY : WHEN + 2 * DAY]) > 3 * np.median(width[WHEN - DAY : WHEN])


def test_the_band_follows_the_noise_through_the_day() -> None:
    noise = np.where(T % DAY < DAY // 2, 0.3, 2.0) * np.random.default_rng(6).normal(0, 1, N)
    found = columns(100 + noise)
    width = (found["yhat_upper"] - found["yhat_lower"])[14 * DAY :].reshape(-1, DAY)
    assert np.median(width[:, 900:1400]) > 2 * np.median(width[:, 200:700])


def test_a_counter_like_ramp_is_steady() -> None:
    ramp = np.cumsum(np.random.default_rng(7).poisson(5, N)).astype(np.float64)
    assert alarms(ramp)[DAY:].sum() <= 20


def test_a_job_that_runs_daily_alarms_twice_and_no_more() -> None:
    job = np.where((T % DAY >= 200) & (T % DAY < 215), 50.0, 0.0)
    found = alarms(100 + (USUAL - RHYTHM) + job).reshape(-1, DAY)[:, 195:225].sum(axis=1)
    assert found[1] > 0
    assert found[4:].sum() == 0


def test_a_quiet_series_alarms_for_a_burst_however_long_it_was_quiet() -> None:
    """The band does not grow while nothing happens: after weeks it is as narrow as after the first burst."""
    quiet = np.zeros(60 * DAY)
    quiet[5 * DAY : 5 * DAY + 10] = 11
    quiet[50 * DAY + 333] = 11
    found = columns(quiet)
    assert found["anomaly_score"][5 * DAY] > 2
    assert found["yhat_upper"][10 * DAY : 50 * DAY].max() < 5
    assert found["anomaly_score"][50 * DAY + 333] > 2


@pytest.mark.parametrize(("usual", "burst"), [(1.0, 0.0), (0.0, 40.0)], ids=["up", "errors"])
@pytest.mark.parametrize("is_same_time", [True, False], ids=["same time of day", "any time"])
def test_a_series_that_hardly_changes_alarms_at_each_outage(usual: float, burst: float, is_same_time: bool) -> None:
    """Ten minutes each five days are no nightly job; the alarm ends within a quarter of an hour of the outage."""
    y = np.full(60 * DAY, usual)
    begins = [d * DAY + (300 if is_same_time else 137 * d % 1400) for d in range(10, 60, 5)]
    for begin in begins:
        y[begin : begin + 10] = burst
    found = alarms(y)
    assert all(found[begin] for begin in begins)
    for begin in begins:
        found[begin : begin + 25] = False
    assert not found.any()


def test_a_spiky_season_is_learned_to_the_minute() -> None:
    job = np.where((T % DAY >= 200) & (T % DAY < 215), 50.0, 0.0)
    found = columns(100 + (USUAL - RHYTHM) + job, seasonalities=["hod_spiky"])
    assert np.abs(found["yhat"] - 100 - job)[14 * DAY :].max() < 4


def local(n_days: int, zone: str, start: datetime) -> list[datetime]:
    return [(start + timedelta(minutes=m)).astimezone(ZoneInfo(zone)) for m in range(n_days * DAY)]


def test_civil_time_moves_with_daylight_saving() -> None:
    """Rush at noon in Berlin: on 29 March it comes an hour earlier by UTC."""
    start, noise = datetime(2026, 3, 1, tzinfo=UTC), np.random.default_rng(8).normal(0, 0.5, 35 * DAY)
    clock = np.array([moment.hour + moment.minute / 60 for moment in local(35, "Europe/Berlin", start)])
    y = 50 + 40 * np.exp(-0.5 * ((clock - 12) / 0.7) ** 2) + noise
    after = slice(28 * DAY, 30 * DAY)
    error = {tz: np.abs(columns(y, start, tz)["yhat"] - (y - noise))[after].max() for tz in ("Europe/Berlin", "UTC")}
    assert error["Europe/Berlin"] < 0.5 * error["UTC"]


def test_a_holiday_is_learned_once_and_expected_the_next_time() -> None:
    """A shop is closed on days of its own; without the setting each of them alarms at opening time."""
    moments = local(50, "UTC", START)
    closed = {"2026-03-20", "2026-03-27", "2026-04-03", "2026-04-10", "2026-04-17"}
    is_closed = np.array([f"{m:%Y-%m-%d}" in closed for m in moments])
    hour = np.array([m.hour + m.minute / 60 for m in moments])
    busy = 100 * np.exp(-0.5 * ((hour - 13) / 1.5) ** 2)
    y = 20 + np.where(is_closed, 0, busy) + np.random.default_rng(9).normal(0, 1, is_closed.size)
    holidays = EnvelopeHolidays(special_events=sorted(closed), group=True)
    last = is_closed & (np.arange(is_closed.size) >= 40 * DAY)
    with_them, without = (columns(y, holidays=h)["yhat"][last] for h in (holidays, EnvelopeHolidays()))
    assert np.abs(with_them - 20).max() < 6 < np.abs(without - 20).max()


def test_forecasts_know_season_and_trend_and_their_band_holds_nearly_all() -> None:
    noise = USUAL - RHYTHM
    found = columns(RHYTHM + noise, forecast_at=[Duration.parse("1h"), Duration.parse("1d")])
    for name, ahead in (("1h", 60), ("1d", DAY)):
        now = np.arange(14 * DAY, N - DAY)
        expected, y = found[f"yhat_{name}"][now], RHYTHM[now + ahead] + noise[now + ahead]
        assert np.abs(expected - RHYTHM[now + ahead]).mean() < 0.5
        inside = (y >= found[f"yhat_lower_{name}"][now]) & (y <= found[f"yhat_upper_{name}"][now])
        assert inside.mean() > 0.99


def test_a_new_series_begins_cold_and_is_useful_within_the_hour() -> None:
    found = columns(changed(100, 101, 30)[:200])
    assert (found["anomaly_score"][:16] == 0).all()
    assert found["anomaly_score"][100] > 1


def test_a_low_loss_reactivity_keeps_an_outlier_out_of_the_level() -> None:
    after = {k: columns(changed(WHEN, WHEN + 5, 40), loss_reactivity=k)["yhat"][WHEN + 6] for k in (1.0, 1e9)}
    assert after[1.0] - RHYTHM[WHEN + 6] < 4 < after[1e9] - RHYTHM[WHEN + 6]


def test_threshold_quantiles_and_alpha_do_what_they_say() -> None:
    def width(**arguments: Any) -> tuple[float, float]:
        found = columns(USUAL, **arguments)
        now = slice(14 * DAY, None)
        below, above = found["yhat"] - found["yhat_lower"], found["yhat_upper"] - found["yhat"]
        # Not the median: the band is wider for a while after each alarm, and narrow ones have many.
        return float(np.quantile(below[now], 0.05)), float(np.quantile(above[now], 0.05))

    usual = width()
    assert width(iqr_threshold=4.0)[1] > 1.5 * usual[1]
    assert width(iqr_threshold=1.0)[1] < 0.8 * usual[1]
    low, high = width(quantiles=[0.05, 0.6])
    assert low / high > 1.2 * usual[0] / usual[1]
    late = {a: 30 - (columns(changed(WHEN, None, 30), alpha=a)["yhat"] - RHYTHM)[WHEN + 45] for a in (0.0025, 0.02)}
    assert late[0.0025] > 3 * abs(late[0.02])
