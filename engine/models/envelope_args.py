"""Arguments that both temporal envelopes share, checked and turned into what the kernels take."""

from __future__ import annotations

import math
import re
from statistics import NormalDist
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from engine.models.base import Model
from engine.models.civil import find_country
from engine.models.envelope_calendar import Holidays, Preset
from engine.settings import Settings
from kernels.envelope_state import Rates

_DAY_S = 86_400.0
_EVENT = re.compile(r"(?:\d{4}-)?(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])")
# Normal quantiles are unbounded at 0 and 1.
_LEAST_SHARE = 1e-4


class EnvelopeHolidays(Settings, frozen=True, kw_only=True):
    """``holidays`` of the envelope: calendars by country and days of one's own."""

    countries: list[str] = []
    special_events: list[str] | dict[str, Any] = []
    group: bool = False

    @property
    def event_days(self) -> list[str]:
        """Days as text; of a mapping from names, the values."""
        events = self.special_events
        days = events if isinstance(events, list) else [d for v in events.values() for d in _listed(v)]
        return [str(day) for day in days]

    def parsed(self) -> Holidays:
        """As the calendar takes them."""
        return Holidays(tuple(self.countries), tuple(self.event_days), self.group)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class EnvelopeModel(Model, frozen=True, kw_only=True):
    """What the univariate and the multivariate envelope have in common: its arguments."""

    fit_by: ClassVar[Literal["time", "rows"]] = "time"
    is_online: ClassVar[bool] = True

    quantiles: list[Annotated[float, Meta(ge=0, le=1)]] = field(default_factory=lambda: [0.25, 0.75])
    iqr_threshold: Annotated[float, Meta(ge=0)] = 2.0
    alpha: Annotated[float, Meta(gt=0, le=1)] = 0.005
    loss_reactivity: Annotated[float, Meta(gt=0)] = 5.0
    min_n_samples_seen: Annotated[int, Meta(ge=1)] = 16
    changepoint_window: Annotated[int, Meta(ge=1)] = 16
    seasonalities: list[Preset] = field(default_factory=lambda: ["hod_smooth", "dow_smooth"])
    holidays: EnvelopeHolidays = EnvelopeHolidays()

    @property
    def warm_up(self) -> int:
        return self.min_n_samples_seen

    def check(self) -> list[str]:
        """Problems that single fields cannot show, each as key, value, what was expected."""
        problems = []
        if len(self.quantiles) != 2 or self.quantiles[0] >= self.quantiles[1]:
            problems.append(f"quantiles: {self.quantiles}, expected two numbers in [0, 1], the second one larger")
        if len(set(self.seasonalities)) < len(self.seasonalities):
            problems.append(f"seasonalities: {self.seasonalities}, expected each one once")
        if wrong := [d for d in self.holidays.event_days if not _EVENT.fullmatch(d)]:
            problems.append(f"holidays.special_events: {wrong}, expected days like 12-24 or 2026-12-24")
        if missing := [c for c in self.holidays.countries if find_country(c) is None]:
            problems.append(f"holidays.countries: {missing}, expected codes or names like US or UnitedStates")
        if self.args:
            problems.append(f"args: {sorted(self.args)}, expected none: this class has no inner library")
        return problems

    def rates(self, step_ms: int) -> Rates:
        """The recursion's settings for a step.

        Time constants are given for one-minute steps; for others they stay half-way between the same number of points
        and the same time: times the cube root of 60 s / step. `alpha` scales those of the levels, 0.005 being neutral.
        """
        step_s = step_ms / 1000
        factor = math.cbrt(60.0 / step_s)
        slower = 0.005 / self.alpha

        def rate(points: float) -> float:
            return 1.0 / max(1.5, points * factor)

        low, high = self._widths()
        day = _DAY_S / step_s
        return Rates(
            step_ms=float(step_ms),
            fast=rate(2.5),
            mid=rate(20.0 * slower),
            slow=rate(40.0 * slower),
            smooth=rate(3.0),
            brief=rate(60.0),
            long=rate(2880.0),
            calm=rate(2.5),
            fade=math.exp(-rate(60.0)),
            base=1.0 / max(1.5, 2.0 * day * slower),
            weight=1.0 / max(1.5, 3.0 * day),
            width_below=low,
            width_above=high,
            clip=self.loss_reactivity,
            shift_after=float(self.changepoint_window),
            base_shift_after=float(max(self.changepoint_window, round(day / 4))),
            warm_up=float(self.min_n_samples_seen),
            day_points=day,
        )

    def _widths(self) -> tuple[float, float]:
        """Half-widths below and above, 1 for the defaults: those of the same fences on a normal distribution."""

        def fences(low: float, high: float, threshold: float) -> tuple[float, float]:
            a, b = (NormalDist().inv_cdf(min(max(q, _LEAST_SHARE), 1 - _LEAST_SHARE)) for q in (low, high))
            return max(threshold * (b - a) - a, 0.0), max(threshold * (b - a) + b, 0.0)

        unit = fences(0.25, 0.75, 2.0)
        below, above = fences(self.quantiles[0], self.quantiles[1], self.iqr_threshold)
        return below / unit[0], above / unit[1]
