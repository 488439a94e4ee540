"""Seasons are found where they are, and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from engine.frame import F64, I64
from engine.models.civil import civil_ms
from engine.seasons import DAY_MS, HOUR_MS, WEEK_MS, Season, find_seasons, main_season

MINUTE_MS = 60_000
START_MS = 19_700 * DAY_MS
N_SERIES = 250


def clock(step_minutes: int, days: float) -> I64:
    return START_MS + step_minutes * MINUTE_MS * np.arange(int(days * 1440 / step_minutes), dtype=np.int64)


def autoregressive(phi: float, shape: tuple[int, int], rng: np.random.Generator) -> F64:
    out = rng.normal(size=shape)
    out[:, 0] /= np.sqrt(1 - phi**2)
    for t in range(1, shape[1]):
        out[:, t] += phi * out[:, t - 1]
    return out


def noise(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> F64:
    """(S, T) series without a season."""
    plain = rng.normal(size=shape)
    times = np.arange(shape[1])
    if kind == "walk":
        return np.cumsum(plain, axis=1)
    if kind.startswith("ar "):
        return autoregressive(float(kind[3:]), shape, rng)
    if kind == "heavy tails":
        return rng.standard_t(3, size=shape)
    if kind == "rare counts":
        return rng.poisson(0.05, size=shape).astype(np.float64)
    if kind == "level shifts":
        return plain + np.cumsum((rng.random(shape) < 3 / shape[1]) * rng.normal(0, 20, shape), axis=1)
    if kind == "one box":
        start, length = rng.integers(0, shape[1], (shape[0], 1)), rng.integers(1, shape[1] // 2, (shape[0], 1))
        return plain + 15 * ((times >= start) & (times < start + length))
    if kind == "spikes":
        return plain + (rng.random(shape) < 0.002) * rng.normal(0, 50, shape)
    if kind == "trend":
        return plain + np.linspace(0, 100, shape[1])
    if kind == "smooth":
        return np.cumsum(np.cumsum(plain, axis=1), axis=1)
    if kind == "gaps":
        return np.where(rng.random(shape) < 0.3, np.nan, plain)
    return plain


KINDS = ("white", "walk", "ar 0.9", "ar 0.999", "heavy tails", "rare counts", "level shifts", "one box", "spikes",
         "trend", "smooth", "gaps")  # fmt: skip


@pytest.mark.parametrize(("step_minutes", "days"), [(5, 14), (60, 30), (5, 2.5)])
@pytest.mark.parametrize("kind", KINDS)
def test_no_season_is_invented(kind: str, step_minutes: int, days: float) -> None:
    times = clock(step_minutes, days)
    values = noise(kind, (N_SERIES, times.size), np.random.default_rng(7))
    found = find_seasons(values, times, step_minutes * MINUTE_MS)
    assert sum(1 for seasons in found if seasons) < 0.01 * N_SERIES


def daily(times: I64) -> F64:
    return np.sin(2 * np.pi * times / DAY_MS)


def weekly(times: I64) -> F64:
    return (1 + daily(times)) * np.where(times // DAY_MS % 7 < 2, 0.2, 1.0)


def hourly_job(times: I64) -> F64:
    return 5.0 * (times % HOUR_MS < 10 * MINUTE_MS)


@pytest.mark.parametrize(
    ("shape", "expected", "step_minutes", "days"),
    [
        pytest.param(daily, [DAY_MS], 5, 14, id="day"),
        pytest.param(daily, [DAY_MS], 60, 30, id="day, hourly points"),
        pytest.param(weekly, [DAY_MS, WEEK_MS], 5, 28, id="day and week"),
        pytest.param(hourly_job, [HOUR_MS], 5, 3, id="hour"),
        pytest.param(lambda t: 2 * daily(t) + hourly_job(t), [HOUR_MS, DAY_MS], 5, 14, id="hour and day"),
        pytest.param(lambda t: daily(4 * t) + 0.5 * daily(8 * t), [6 * HOUR_MS], 5, 14, id="six hours"),
        pytest.param(lambda t: np.sin(2 * np.pi * t / (40 * MINUTE_MS)), [40 * MINUTE_MS], 5, 7, id="40 minutes"),
        pytest.param(lambda t: np.sin(2 * np.pi * t / (37 * HOUR_MS)), [37 * HOUR_MS], 60, 60, id="37 hours"),
    ],
)
@pytest.mark.parametrize("kind", ["white", "spikes", "heavy tails"])
def test_a_season_of_the_size_of_the_noise_is_found(shape, expected, step_minutes, days, kind) -> None:
    times = clock(step_minutes, days)
    rng = np.random.default_rng(3)
    values = 1.2 * shape(times) + noise(kind, (40, times.size), rng)
    values[:, times.size // 3 : times.size // 3 + times.size // 50] = np.nan
    found = find_seasons(values, times, step_minutes * MINUTE_MS)
    right = sum([season.period_ms for season in seasons] == expected for seasons in found)
    assert right >= 36


def test_a_week_is_found_in_two_of_them() -> None:
    times = clock(5, 14)
    values = 3 * weekly(times) + noise("white", (40, times.size), np.random.default_rng(3))
    found = find_seasons(values, times, 5 * MINUTE_MS)
    assert all(WEEK_MS in [season.period_ms for season in seasons] for seasons in found)


def test_a_day_is_found_beside_a_level_shift_and_a_walk() -> None:
    times = clock(5, 14)
    rng = np.random.default_rng(5)
    walk = 0.05 * noise("walk", (40, times.size), rng)
    values = 2 * daily(times) + walk + noise("white", walk.shape, rng) + 10 * (times > times[2000])
    found = find_seasons(values, times, 5 * MINUTE_MS)
    assert sum([season.period_ms for season in seasons] == [DAY_MS] for seasons in found) >= 38


def test_counts_with_a_rhythm() -> None:
    times = clock(5, 14)
    rate = 0.3 * (1 + daily(times))
    values = np.random.default_rng(2).poisson(rate, (40, times.size)).astype(np.float64)
    found = find_seasons(values, times, 5 * MINUTE_MS)
    assert sum([season.period_ms for season in seasons] == [DAY_MS] for seasons in found) >= 38


@pytest.mark.parametrize("tz", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_a_change_of_clocks_moves_no_season(tz: str) -> None:
    """The rhythm of a zone keeps to its wall clock: read by that clock it repeats more exactly than by UTC."""
    zone = ZoneInfo(tz)
    midway = next(
        day for day in (datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=n) for n in range(120))
        if day.astimezone(zone).utcoffset() != (day + timedelta(days=1)).astimezone(zone).utcoffset()
    )  # fmt: skip
    times = int(midway.timestamp() * 1000) - 7 * DAY_MS + 5 * MINUTE_MS * np.arange(14 * 288, dtype=np.int64)
    wall = civil_ms(times, tz)
    values = 5.0 * (wall % DAY_MS // HOUR_MS == 9) + noise("white", (20, times.size), np.random.default_rng(1)) / 2
    by_clock = find_seasons(values, wall, 5 * MINUTE_MS)
    by_utc = find_seasons(values, times, 5 * MINUTE_MS)
    assert all([season.period_ms for season in seasons] == [DAY_MS] for seasons in by_clock)
    assert all(mine[0].share > sum(s.share for s in other) for mine, other in zip(by_clock, by_utc, strict=True))


def test_rows_do_not_depend_on_each_other() -> None:
    times = clock(5, 7)
    values = 2 * daily(times) + noise("white", (300, times.size), np.random.default_rng(4))
    whole = find_seasons(values, times, 5 * MINUTE_MS)
    assert find_seasons(np.ascontiguousarray(values[280:281]), times, 5 * MINUTE_MS)[0] == whole[280]


@pytest.mark.parametrize("value", [np.nan, 0.0, 5.0, 1e300])
@pytest.mark.parametrize("n_steps", [1, 2, 100, 3000])
def test_nothing_in_series_that_do_not_vary(value: float, n_steps: int) -> None:
    found = find_seasons(np.full((2, n_steps), value), clock(5, 14)[:n_steps], 5 * MINUTE_MS)
    assert found == [(), ()]


def test_a_step_that_no_clock_has() -> None:
    times = START_MS + 7 * MINUTE_MS * np.arange(3000, dtype=np.int64)
    values = np.sin(2 * np.pi * np.arange(3000) / 20)[None] + noise("white", (10, 3000), np.random.default_rng(1)) / 2
    found = find_seasons(values, times, 7 * MINUTE_MS)
    assert all([season.period_ms for season in seasons] == [140 * MINUTE_MS] for seasons in found)


def test_the_main_season_is_the_one_with_the_largest_share() -> None:
    assert main_season(()) is None
    assert main_season((Season(HOUR_MS, 0.2), Season(DAY_MS, 0.7))) == Season(DAY_MS, 0.7)
