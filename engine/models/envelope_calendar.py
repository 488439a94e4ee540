"""Where in a seasonal profile each step is: presets of the envelope's `seasonalities`, and its holidays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from engine.frame import F64, I64
from engine.models.civil import DAY_MS, civil_ms, public_holidays
from kernels.envelope_state import Calendar

_HOUR_MS, _QUARTER_MS = 3_600_000, 900_000
_WEEK_MS = 7 * DAY_MS
_YEAR_MS = 365.2425 * DAY_MS
# The calendar repeats after 28 years but for moved holidays; a state's bins are those of all names in these years.
_YEARS = range(2010, 2050)
_HOLIDAY_BINS = 24


class Shape(NamedTuple):
    """A component of the profile: bins over a period, joined by lines (smooth) or not, and its memory in periods."""

    period_ms: float
    n_bins: int
    is_smooth: bool
    memory: int


Preset = Literal[
    "hod_smooth", "hod_spiky", "hod_plateau", "dow_smooth", "dow_spiky", "dow_plateau", "weekpart_plateau",
    "month_smooth", "month_plateau",
]  # fmt: skip
SHAPES: dict[Preset, Shape] = {
    "hod_smooth": Shape(DAY_MS, 96, True, 14),
    "hod_spiky": Shape(DAY_MS, 288, False, 14),
    "hod_plateau": Shape(DAY_MS, 24, False, 14),
    "dow_smooth": Shape(_WEEK_MS, 28, True, 6),
    "dow_spiky": Shape(_WEEK_MS, 168, False, 6),
    "dow_plateau": Shape(_WEEK_MS, 7, False, 6),
    "weekpart_plateau": Shape(_WEEK_MS, 2, False, 6),
    "month_smooth": Shape(_YEAR_MS, 12, True, 3),
    "month_plateau": Shape(_YEAR_MS, 12, False, 3),
}


class Holidays(NamedTuple):
    """Countries by code or name, yearly ``MM-DD`` or single ``YYYY-MM-DD`` days; `is_group`: one response for all."""

    countries: tuple[str, ...] = ()
    days: tuple[str, ...] = ()
    is_group: bool = False

    @property
    def n_bins(self) -> int:
        """Bins of the holidays' responses."""
        n_kinds = len(_kinds(self)) if self.countries or self.days else 0
        return _HOLIDAY_BINS * (min(n_kinds, 1) if self.is_group else n_kinds)


def n_bins(seasonalities: Sequence[Preset], holidays: Holidays) -> int:
    """Bins of a whole profile; at least one, as a kernel wants."""
    return max(1, sum(SHAPES[name].n_bins for name in seasonalities) + holidays.n_bins)


def calendar(
    seasonalities: Sequence[Preset],
    holidays: Holidays,
    timestamps_ms: I64,
    step_ms: int,
    tz: str,
    ahead_ms: Sequence[int] = (),
) -> Calendar:
    """Bins of every step, and of the steps `ahead_ms` after it, by the zone's wall clock."""
    # Components with longer periods learn what shorter ones leave: the first comes first.
    names = sorted(seasonalities, key=lambda name: SHAPES[name].period_ms)
    clocks = [civil_ms(timestamps_ms + ahead, tz) for ahead in (0, *ahead_ms)]
    parts = [[_places(name, clock) for name in names] for clock in clocks]
    has_holidays = holidays.n_bins > 0
    if has_holidays:
        for part, clock in zip(parts, clocks, strict=True):
            part.append(_holiday_places(holidays, clock))
    offset = 0
    sizes = [SHAPES[name].n_bins for name in names] + [holidays.n_bins] * has_holidays
    shape = (len(clocks), timestamps_ms.size, len(sizes))
    left, right, share = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64), np.zeros(shape)
    for j, size in enumerate(sizes):
        for k, part in enumerate(parts):
            a, b, part_share = part[j]
            left[k, :, j] = np.where(a >= 0, a + offset, -1)
            right[k, :, j] = np.where(b >= 0, b + offset, -1)
            share[k, :, j] = part_share
        offset += size
    shapes = [SHAPES[name] for name in names] + [Shape(DAY_MS, _HOLIDAY_BINS, True, 10)] * has_holidays
    rest = np.array([max(1.0, s.memory * s.period_ms / s.n_bins / step_ms) for s in shapes])
    prior = rest.copy()
    prior[:1] = 0.0
    if has_holidays:
        prior[-1] = 0.0
    is_holiday = np.zeros(len(shapes), np.int64)
    is_holiday[len(names) :] = 1
    hour, quarter = clocks[0] // _HOUR_MS % 24, clocks[0] // _QUARTER_MS % 96
    return Calendar(
        hour, quarter, left, right, share, rest, prior, is_holiday, np.array(ahead_ms, np.float64) / step_ms
    )


def _places(name: Preset, clock: I64) -> tuple[I64, I64, F64]:
    """Left bin, right bin and the share between them, of wall-clock milliseconds."""
    shape = SHAPES[name]
    if name == "weekpart_plateau":
        bins = ((clock // DAY_MS + 3) % 7 >= 5).astype(np.int64)  # 1970-01-01 was a Thursday
        return bins, bins, np.zeros(clock.size)
    if name.startswith("month"):
        day = (clock // DAY_MS).astype("datetime64[D]")
        month = day.astype("datetime64[M]")
        length = ((month + 1).astype("datetime64[D]") - month.astype("datetime64[D]")).astype(np.float64)
        in_month = (day - month.astype("datetime64[D]")).astype(np.float64) + clock % DAY_MS / DAY_MS
        position = month.astype(np.int64) % 12 + in_month / length
    else:
        start = 4 * DAY_MS if shape.period_ms == _WEEK_MS else 0  # weeks begin on Monday
        position = (clock - start) % shape.period_ms / (shape.period_ms / shape.n_bins)
    return _bins(position, shape)


def _bins(position: F64, shape: Shape) -> tuple[I64, I64, F64]:
    if not shape.is_smooth:
        bins = np.minimum(position.astype(np.int64), shape.n_bins - 1)
        return bins, bins, np.zeros(position.size)
    from_center = position - 0.5
    left = np.floor(from_center).astype(np.int64)
    return left % shape.n_bins, (left + 1) % shape.n_bins, from_center - left


def _holiday_places(holidays: Holidays, clock: I64) -> tuple[I64, I64, F64]:
    """As `_places`; the hours of a holiday do not join those of the day after."""
    kinds = _kinds(holidays)
    days, which = np.unique(clock // DAY_MS, return_inverse=True)
    numbers = np.array([_kind_of(holidays, kinds, int(day)) for day in days], dtype=np.int64)[which.reshape(-1)]
    position = clock % DAY_MS / (DAY_MS / _HOLIDAY_BINS) - 0.5
    inside = np.clip(position, 0, _HOLIDAY_BINS - 1)
    left = np.minimum(inside.astype(np.int64), _HOLIDAY_BINS - 2)
    first = (0 if holidays.is_group else numbers) * _HOLIDAY_BINS
    return (np.where(numbers >= 0, first + left, -1), np.where(numbers >= 0, first + left + 1, -1), inside - left)


def _kind_of(holidays: Holidays, kinds: dict[str, int], day: int) -> int:
    """The number of the first holiday on a day since 1970, -1 for none."""
    date = datetime.fromtimestamp(day * 86_400, UTC)
    return next((kinds[name] for name in _names_on(holidays, date) if name in kinds), -1)


def _names_on(holidays: Holidays, date: datetime) -> Iterator[str]:
    for day in (f"{date:%m-%d}", f"{date:%Y-%m-%d}"):
        if day in holidays.days:
            yield day
    number = (date - datetime(1970, 1, 1, tzinfo=UTC)).days
    for country in holidays.countries:
        yield from (f"{country} {name}" for name, days in public_holidays(country, date.year).items() if number in days)


@lru_cache(maxsize=64)
def _kinds(holidays: Holidays) -> dict[str, int]:
    """A number for each holiday that has a response of its own."""
    names = list(dict.fromkeys(holidays.days))
    for country in holidays.countries:
        found = {name for year in _YEARS for name in public_holidays(country, year)}
        names += [f"{country} {name}" for name in sorted(found)]
    return {name: k for k, name in enumerate(names)}
