"""Civil time of a zone: wall-clock milliseconds, and public holidays by day."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import holidays
import numpy as np
from holidays.registry import EntityLoader

from engine.frame import F64, I64, Frame

DAY_MS = 86_400_000
# Zones change their offset at whole quarters of an hour only.
_QUARTER_MS = 900_000
# As in the `prophet` package: a code that was in use for Turkey.
_RENAMED = {"TU": "TR"}


def civil_ms(timestamps_ms: I64, tz: str) -> I64:
    """(T,) the zone's wall clock at those times, as milliseconds since 1970-01-01T00:00 on that clock.

    Raises
    ------
    zoneinfo.ZoneInfoNotFoundError : there is no such zone.
    """
    if tz == "UTC":
        return timestamps_ms
    quarters, which = np.unique(timestamps_ms // _QUARTER_MS, return_inverse=True)
    offsets = np.array([_offset_ms(int(quarter), tz) for quarter in quarters], dtype=np.int64)
    return timestamps_ms + offsets[which.reshape(-1)]


@lru_cache(maxsize=200_000)
def _offset_ms(quarter: int, tz: str) -> int:
    offset = datetime.fromtimestamp(quarter * _QUARTER_MS / 1000, UTC).astimezone(ZoneInfo(tz)).utcoffset()
    assert offset is not None
    return round(offset.total_seconds() * 1000)


def season_clock(timestamps_ms: I64, season_ms: int, tz: str) -> I64:
    """(T,) the clock that a season keeps to: the zone's on the wall if it is whole days, else UTC; milliseconds."""
    return civil_ms(timestamps_ms, tz) if season_ms > 0 and season_ms % DAY_MS == 0 else timestamps_ms


def season_places(frame: Frame, period: int) -> I64:
    """(T,) steps since the epoch on the clock that a season of `period` steps keeps to."""
    return season_clock(frame.timestamps_ms, period * frame.step_ms, frame.tz) // frame.step_ms


def laid_out(values: F64, places: I64) -> tuple[F64, I64]:
    """Values (S, T) at consecutive places: NaN where a clock skipped some, the second ones where it repeated some."""
    if places.size == 0 or (np.diff(places) == 1).all():
        return values, places
    laid = np.arange(places.min(), places.max() + 1)
    out = np.full((values.shape[0], laid.size), np.nan)
    is_first = np.zeros(places.size, dtype=np.bool_)
    is_first[np.unique(places, return_index=True)[1]] = True
    out[:, places[is_first] - laid[0]] = values[:, is_first]
    again = places[~is_first] - laid[0]
    out[:, again] = np.where(np.isfinite(values[:, ~is_first]), values[:, ~is_first], out[:, again])
    return out, laid


def find_country(name: str) -> Callable[..., Any] | None:
    """The calendar of a country by code or name (``US``, ``united states``), None where there is none."""
    known = _calendars()
    return getattr(holidays, known[key]) if (key := _plain(_RENAMED.get(name, name))) in known else None


@lru_cache(maxsize=1)
def _calendars() -> Mapping[str, str]:
    """The package's names of calendars by their letters and digits alone."""
    return {_plain(name): name for name in dir(holidays) if isinstance(getattr(holidays, name), EntityLoader)}


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


@lru_cache(maxsize=256)
def public_holidays(country: str, year: int) -> Mapping[str, tuple[int, ...]]:
    """By English name the days of a year that are a country's holidays, as days since 1970-01-01."""
    calendar = find_country(country)
    assert calendar is not None
    days: dict[str, list[int]] = {}
    found = calendar(expand=False, language="en_US", years=[year])
    for date in sorted(found):
        number = (datetime(date.year, date.month, date.day, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
        for name in found.get_list(date):
            days.setdefault(name, []).append(number)
    return {name: tuple(numbers) for name, numbers in days.items()}
