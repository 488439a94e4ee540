"""The regressors of a Prophet model: which there are, and their values at any times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.frame import F64, I64
from engine.models.civil import DAY_MS, civil_ms, public_holidays
from engine.models.prophet_args import ProphetArgs, civil_day

# Period in days, order, and from which span on and below which spacing `auto` has it, as in the package.
_BUILT_IN = {"yearly": (365.25, 10, 730.0, math.inf), "weekly": (7.0, 3, 14.0, 7.0), "daily": (1.0, 4, 2.0, 1.0)}
# Of wall-clock seasonalities: the period in days, the order, the built-in one each replaces where that is automatic.
_CLOCKS = {
    "minute": (1 / 24, 3, ""),
    "hod": (1.0, 4, "daily"),
    "dow": (7.0, 3, "weekly"),
    "month": (365.25, 3, "yearly"),
}
_N_VALUES = {"minute": 60, "hod": 24, "dow": 7, "month": 12}


@dataclass(frozen=True, slots=True)
class Seasonality:
    """A periodic part: Fourier terms up to `order`, or for order 0 one level for each value of the clock `name`."""

    name: str
    period: float
    order: int
    prior_scale: float
    mode: str
    is_civil: bool
    min_span: float = 0.0
    max_spacing: float = math.inf

    @property
    def n_columns(self) -> int:
        return 2 * self.order if self.order else _N_VALUES[self.name]


@dataclass(frozen=True, slots=True)
class Design:
    """Regressors at some times.

    Parameters
    ----------
    names : (K,) the component that each column belongs to. is_holiday : (K,).
    features : (T, K). rules : (4, K) as `fit_changepoints` takes them.
    """

    names: tuple[str, ...]
    is_holiday: NDArray[np.bool_]
    features: F64
    rules: F64


def clock_seasonalities(items: Sequence[Any], is_cyclical: bool, args: ProphetArgs) -> list[Seasonality]:
    """Seasonalities of the wall clock from their names or dicts.

    Those with a `fourier_order`, and all if `is_cyclical`, are Fourier series; others have one level for each value.
    """
    found = []
    for item in items:
        given: Mapping[str, Any] = {"name": item} if isinstance(item, str) else item
        period, order, _ = _CLOCKS[given["name"]]
        found.append(
            Seasonality(
                name=given["name"],
                period=period,
                order=given.get("fourier_order", order if is_cyclical else 0),
                prior_scale=given.get("prior_scale") or args.seasonality_prior_scale,
                mode=given.get("mode") or args.seasonality_mode,
                is_civil=True,
            )
        )
    return found


def seasonalities(
    custom: Sequence[Mapping[str, Any]],
    clocks: Sequence[Seasonality],
    args: ProphetArgs,
    span: float,
    *,
    is_civil: bool,
) -> list[Seasonality]:
    """All seasonalities that a series of at most `span` days may have.

    A built-in one that is automatic gives way to a custom one of its name and to the clock's of its period; one that
    is asked for replaces the custom one, as in the package.
    """
    scale, mode = args.seasonality_prior_scale, args.seasonality_mode
    found = {
        c["name"]: Seasonality(
            c["name"],
            float(c["period"]),
            c["fourier_order"],
            c.get("prior_scale") or scale,
            c.get("mode") or mode,
            is_civil,
        )
        for c in custom
    }
    replaced = {_CLOCKS[clock.name][2] for clock in clocks}
    for name, (period, order, min_span, max_spacing) in _BUILT_IN.items():
        asked = getattr(args, f"{name}_seasonality")
        if asked == "auto":
            if name not in found and name not in replaced and span >= min_span:
                found[name] = Seasonality(name, period, order, scale, mode, is_civil, min_span, max_spacing)
        elif asked:
            found[name] = Seasonality(name, period, order if asked is True else asked, scale, mode, is_civil)
    return [*found.values(), *clocks]


def holiday_days(args: ProphetArgs, days: I64) -> dict[tuple[str, int], set[int]]:
    """By holiday and offset from it, the days since 1970 on which it falls, for the years of `days`."""
    found: dict[tuple[str, int], set[int]] = {}
    for row in args.holidays or []:
        for offset in range(row.lower_window, row.upper_window + 1):
            found.setdefault((row.holiday, offset), set()).add(civil_day(row.ds) + offset)
    if args.country_holidays is not None and days.size:
        first, last = (int(d.astype("datetime64[D]").astype("datetime64[Y]").astype(int)) for d in (days[0], days[-1]))
        for year in range(first, last + 1):
            for name, numbers in public_holidays(args.country_holidays, year + 1970).items():
                found.setdefault((name, 0), set()).update(numbers)
    return found


def seen_holidays(args: ProphetArgs, timestamps_ms: I64, tz: str) -> list[tuple[str, int]]:
    """Holidays and offsets that occur at these times, sorted. Others cannot be learned: their effect stays 0."""
    days = np.unique(civil_ms(timestamps_ms, tz) // DAY_MS)
    present = {int(day) for day in days}
    return sorted(key for key, numbers in holiday_days(args, days).items() if numbers & present)


def design(
    parts: Sequence[Seasonality], holidays: Sequence[tuple[str, int]], args: ProphetArgs, timestamps_ms: I64, tz: str
) -> Design:
    """The regressors' values: seasonalities in order, then holidays."""
    civil = civil_ms(timestamps_ms, tz)
    days = civil // DAY_MS
    features = np.zeros((timestamps_ms.size, sum(part.n_columns for part in parts) + len(holidays)))
    names: list[str] = []
    rules: list[tuple[float, float, float, float]] = []
    for part in parts:
        clock = civil if part.is_civil else timestamps_ms
        columns = features[:, len(names) : len(names) + part.n_columns]
        if part.order:
            _fill_fourier(clock / DAY_MS, part.period, columns)
        else:
            columns[np.arange(clock.size), _clock_values(part.name, clock)] = 1.0
        is_factor = float(part.mode == "multiplicative")
        names += [part.name] * part.n_columns
        rules += [(part.prior_scale, is_factor, part.min_span, part.max_spacing)] * part.n_columns
    scales = {row.holiday: row.prior_scale for row in args.holidays or []}
    is_factor = float((args.holidays_mode or args.seasonality_mode) == "multiplicative")
    calendar = holiday_days(args, days) if holidays else {}
    for key in holidays:
        features[:, len(names)] = np.isin(days, sorted(calendar.get(key, ())))
        names.append(key[0])
        rules.append((scales.get(key[0]) or args.holidays_prior_scale, is_factor, 0.0, math.inf))
    is_holiday = np.arange(len(names)) >= len(names) - len(holidays)
    return Design(tuple(names), is_holiday, features, np.array(rules, dtype=np.float64).reshape(-1, 4).T.copy())


def _fill_fourier(days: F64, period: float, out: F64) -> None:
    """Columns sin, cos of each order, as in the package's `fourier_series`."""
    for order in range(1, out.shape[1] // 2 + 1):
        phase = order / period * (2.0 * np.pi * days)
        out[:, 2 * order - 2] = np.sin(phase)
        out[:, 2 * order - 1] = np.cos(phase)


def _clock_values(name: str, civil: I64) -> I64:
    """(T,) from 0: the minute, hour of day, day of week (Monday first) or month of wall-clock times."""
    if name == "minute":
        return civil // 60_000 % 60
    if name == "hod":
        return civil // 3_600_000 % 24
    if name == "dow":
        return (civil // DAY_MS + 3) % 7
    return (civil // DAY_MS).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
