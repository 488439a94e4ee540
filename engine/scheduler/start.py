"""When a scheduler's first fit is: `start_from` turned into a time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from engine.frame import align_down
from engine.scheduler.plan import Pace

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def parse_start(text: str, tz: str) -> datetime | tuple[int, int]:
    """An aware moment, or an (hour, minute) of each day in `tz`.

    Raises
    ------
    ValueError : the text is neither an ISO 8601 date and time nor HH:MM.
    """
    if match := _CLOCK.fullmatch(text.strip()):
        return int(match[1]), int(match[2])
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError('expected an ISO 8601 date and time, or a clock time like "08:00"') from None
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(tz))


def start_from_ms(text: str, tz: str, fit_every_ms: int, now_ms: int) -> int:
    """The first fit's time, not before now: a moment in the past moves on by whole `fit_every`, a clock time to
    tomorrow's same clock time (also across a change of daylight saving time).
    """
    start = parse_start(text, tz)
    if isinstance(start, datetime):
        start_ms = round(start.timestamp() * 1000)
        return start_ms if start_ms >= now_ms else start_ms - align_down(start_ms - now_ms, fit_every_ms)
    zone = ZoneInfo(tz)
    now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone)
    today = now.replace(hour=start[0], minute=start[1], second=0, microsecond=0)
    if round(today.timestamp() * 1000) < now_ms:
        today = (now + timedelta(days=1)).replace(hour=start[0], minute=start[1], second=0, microsecond=0)
    return round(today.timestamp() * 1000)


def at_once_ms(paces: Iterable[Pace], infer_every_ms: int, now_ms: int) -> int:
    """A first fit's tick that makes it due now for every query."""
    return min(align_down(now_ms - p.settle_ms - p.delay_ms, infer_every_ms) for p in paces)
