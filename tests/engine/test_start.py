"""`start_from`, with answers from a calendar."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from engine.scheduler.plan import Pace, Progress, Schedule, due
from engine.scheduler.start import at_once_ms, parse_start, start_from_ms

H = 3_600_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "tz", "now", "expected"),
    [
        ("2026-03-01T10:00:00Z", "UTC", "2026-02-01T00:00:00Z", "2026-03-01T10:00:00Z"),
        # In the past: on by whole fit_every (6 h).
        ("2026-03-01T10:00:00Z", "UTC", "2026-03-02T11:00:00Z", "2026-03-02T16:00:00Z"),
        ("2026-03-01T10:00:00Z", "UTC", "2026-03-02T16:00:00Z", "2026-03-02T16:00:00Z"),
        # Without an offset the scheduler's zone counts.
        ("2026-07-01T10:00:00", "Europe/Berlin", "2026-06-01T00:00:00Z", "2026-07-01T08:00:00Z"),
        ("10:30", "UTC", "2026-03-02T10:29:00Z", "2026-03-02T10:30:00Z"),
        ("10:30", "UTC", "2026-03-02T10:31:00Z", "2026-03-03T10:30:00Z"),
        ("10:30", "America/New_York", "2026-01-10T12:00:00Z", "2026-01-10T15:30:00Z"),
        # Tomorrow's clock time, although tomorrow's summer time makes the day 23 hours long.
        ("08:00", "Europe/Berlin", "2026-03-28T09:00:00+01:00", "2026-03-29T08:00:00+02:00"),
    ],
)
def test_first_fit_time(text: str, tz: str, now: str, expected: str) -> None:
    got = start_from_ms(text, tz, 6 * H, ms(now))
    assert datetime.fromtimestamp(got / 1000, UTC) == datetime.fromisoformat(expected)


def test_without_start_from_every_query_is_fitted_at_once() -> None:
    now = ms("2026-03-01T10:20:33Z")
    paces = [
        Pace(60_000, 5_000),
        Pace(420_000, 30_000, -90_000),
        Pace(H, 5_000, 0, 50 * 60_000),
        Pace(10_000, 0, 3 * H),
    ]
    schedule = Schedule(24 * H, 6 * H, H, at_once_ms(paces, H, now))
    assert [[job.kind for job in due(schedule, pace, Progress(), now)] for pace in paces] == [["fit"]] * 4


@pytest.mark.parametrize("text", ["noon", "25:00", "10:60", "2026-13-01", ""])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected an ISO 8601 date"):
        parse_start(text, "UTC")
