"""Seasonal bins against the standard library's calendar, hour by hour through daylight saving."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from engine.models.envelope_calendar import SHAPES, Holidays, calendar, n_bins

ZONE = "Europe/Berlin"
HOUR_MS = 3_600_000
# Over the end of summer time, 2026-10-25.
START = datetime(2026, 10, 23, tzinfo=UTC)
TIMES_MS = int(START.timestamp() * 1000) + HOUR_MS // 4 * np.arange(6 * 96)
LOCAL = [(START + timedelta(minutes=15 * k)).astimezone(ZoneInfo(ZONE)) for k in range(TIMES_MS.size)]

CONSTANT = {
    "hod_spiky": lambda m: m.hour * 12 + m.minute // 5,
    "hod_plateau": lambda m: m.hour,
    "dow_spiky": lambda m: m.weekday() * 24 + m.hour,
    "dow_plateau": lambda m: m.weekday(),
    "weekpart_plateau": lambda m: int(m.weekday() >= 5),
    "month_plateau": lambda m: m.month - 1,
}


@pytest.mark.parametrize("name", CONSTANT)
def test_plateau_and_spiky_bins_are_those_of_the_wall_clock(name: str) -> None:
    places = calendar([name], Holidays(), TIMES_MS, HOUR_MS // 4, ZONE)
    expected = [CONSTANT[name](moment) for moment in LOCAL]
    assert places.left[0, :, 0].tolist() == places.right[0, :, 0].tolist() == expected
    assert not places.share.any()


@pytest.mark.parametrize(("name", "hours"), [("hod_smooth", 24), ("dow_smooth", 168)])
def test_smooth_bins_are_joined_by_lines_between_their_centres(name: str, hours: int) -> None:
    places = calendar([name], Holidays(), TIMES_MS, HOUR_MS // 4, ZONE)
    size = SHAPES[name].n_bins
    passed = [(m.hour + m.minute / 60 + (24 * m.weekday() if hours == 168 else 0)) * size / hours for m in LOCAL]
    left, right, share = (a[0, :, 0] for a in (places.left, places.right, places.share))
    assert ((right - left) % size == 1).all()
    np.testing.assert_allclose((left + 0.5 + share - passed + size / 2) % size, size / 2, atol=1e-9)


def test_the_hour_that_comes_twice_is_the_same_bin_twice() -> None:
    hours = calendar([], Holidays(), TIMES_MS, HOUR_MS // 4, ZONE).hour
    assert hours.tolist() == [m.hour for m in LOCAL]
    sunday = [m.day == 25 for m in LOCAL]
    assert (hours[sunday] == 2).sum() == 8


def test_components_stand_one_behind_the_other_shortest_first_and_fill_the_profile() -> None:
    names = ["month_smooth", "dow_plateau", "hod_plateau"]
    places = calendar(names, Holidays(), TIMES_MS, HOUR_MS // 4, ZONE)
    assert places.left[0, 0].tolist()[:2] == [LOCAL[0].hour, 24 + LOCAL[0].weekday()]
    assert 31 <= places.left[0, 0, 2] < 43
    assert n_bins(names, Holidays()) == 43
    assert n_bins([], Holidays()) == 1
    assert places.prior[0] == 0
    assert (places.prior[1:] > 0).all()


def test_forecast_offsets_have_the_bins_of_their_own_time() -> None:
    places = calendar(["hod_plateau"], Holidays(), TIMES_MS, HOUR_MS // 4, ZONE, [HOUR_MS, 24 * HOUR_MS])
    later = [m.astimezone(UTC) + timedelta(hours=1) for m in LOCAL]
    assert places.left[1, :, 0].tolist() == [m.astimezone(ZoneInfo(ZONE)).hour for m in later]
    assert places.steps_ahead.tolist() == [4, 96]


def test_holidays_of_countries_and_own_days_have_bins_on_their_days_only() -> None:
    start = datetime(2026, 12, 23, tzinfo=UTC)
    times = int(start.timestamp() * 1000) + HOUR_MS * np.arange(5 * 24)
    holidays = Holidays(("US",), ("12-24", "2026-12-26", "2025-12-27"))
    places = calendar([], holidays, times, HOUR_MS, "UTC")
    by_day = places.left[0, :, 0].reshape(5, 24)
    assert [(day >= 0).all() for day in by_day] == [False, True, True, True, False]
    assert (by_day[[0, 4]] == -1).all()
    numbers = by_day[1:4] // 24
    assert (numbers == numbers[:, :1]).all()
    assert len(set(numbers[:, 0].tolist())) == 3
    together = calendar([], holidays._replace(is_group=True), times, HOUR_MS, "UTC")
    assert set((together.left[0, :, 0] // 24).tolist()) == {-1, 0}
    assert n_bins([], holidays._replace(is_group=True)) == 24


def test_the_hours_of_a_holiday_do_not_reach_into_its_neighbours() -> None:
    times = int(datetime(2026, 12, 24, tzinfo=UTC).timestamp() * 1000) + HOUR_MS // 4 * np.arange(96)
    places = calendar([], Holidays((), ("12-24",)), times, HOUR_MS // 4, "UTC")
    left, right, share = (a[0, :, 0] for a in (places.left, places.right, places.share))
    assert left.min() == 0
    assert right.max() == 23
    assert ((share >= 0) & (share <= 1)).all()
    assert share[0] == 0
    assert share[-1] == 1
