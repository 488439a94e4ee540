"""The temporal envelope of one series, step by step in plain Python, as docs/models/envelope.md defines it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kernels.envelope_state import Calendar, Rates


class Step(NamedTuple):
    yhat: float
    lower: float
    upper: float
    unusual: float


NOTHING = Step(math.nan, math.nan, math.nan, 0.0)


@dataclass
class Mean:
    """A plain mean while it is young, then one that forgets at `rate`."""

    rate: float
    value: float = 0.0

    def share(self, n: int) -> float:
        return max(self.rate, 1 / n)

    def add(self, value: float, n: int) -> None:
        self.value += self.share(n) * (value - self.value)


@dataclass
class Stream:
    """One level with the sizes of its residuals: short memory, and by side long memory and life."""

    level: Mean
    lag: Mean
    brief: Mean
    long: list[Mean]
    life: list[Mean]

    def expects(self, season: float, weight: float) -> float:
        return self.level.value + weight * (season - self.lag.value)

    def scale(self, side: int, floor: float, extra: float) -> float:
        between = (self.brief.value * self.long[side].value) ** 0.25
        return math.hypot(max(between, 0.2 * math.sqrt(self.life[side].value), floor), extra)

    def learn_scale(self, error: float, n: int) -> None:
        self.brief.add(error**2, n)
        for side in (0, 1):
            mine = (error >= 0) == (side == 1)
            self.long[side].add(2 * error**2 if mine else 0.0, n)
            self.life[side].add(2 * error**2 if mine else 0.0, n)


@dataclass
class Envelope:
    """State of one series; `step` predicts and learns one point."""

    rates: Rates
    calendar: Calendar
    n_bins: int
    n: int = 0
    streams: list[Stream] = field(default_factory=list)

    def __post_init__(self) -> None:
        r = self.rates
        self.streams = [
            Stream(Mean(a), Mean(a), Mean(r.brief), [Mean(r.long), Mean(r.long)], [Mean(0), Mean(0)])
            for a in (r.fast, r.mid, r.slow)
        ]
        self.smoothed, self.smoothed_lag, self.calm = Mean(r.smooth), Mean(r.smooth), Mean(r.calm)
        self.profile, self.visits = [0.0] * self.n_bins, [0.0] * self.n_bins
        self.cross, self.square, self.n_weight, self.weight = Mean(r.weight), Mean(r.weight), 0, 0.0
        self.base, self.slope, self.spread, self.power = 0.0, 0.0, Mean(r.base), Mean(r.base)
        self.tail, self.margin = math.log(3.3), math.log(1.3)
        self.run = self.far_run = 0
        self.least = self.loose = self.alarm = self.hold = self.season = 0.0
        self.mean, self.deviation, self.hour_deviation = Mean(0), Mean(0), Mean(0)
        self.hours = [(Mean(0), Mean(0), [0]) for _ in range(24)]
        self.peaks = [[0.0, 0.0] for _ in range(96)]
        self.visit, self.visit_peak = 0, 0.0
        self.previous, self.last_ms = math.nan, 0

    def season_at(self, t: int) -> tuple[float, bool]:
        total, is_known = 0.0, True
        for j in range(self.calendar.left.shape[2]):
            a, b, share = (x[0, t, j].item() for x in (self.calendar.left, self.calendar.right, self.calendar.share))
            if a < 0:
                continue
            total += (1 - share) * self.profile[a] + share * self.profile[b]
            is_known = is_known and not (j == 0 and self.visits[a] == self.visits[b] == 0)
        return total, is_known

    def step(self, t: int, time_ms: int, value: float) -> Step:
        is_point = math.isfinite(value) and abs(value) <= 1e150
        if self.n == 0:
            if is_point:
                for stream in self.streams:
                    stream.level.value = value
                for mean in (self.smoothed, self.calm, self.mean):
                    mean.value = value
                self.base = self.previous = value
                self.learn(t, time_ms, value, 0.0, True, 0.0)
            return NOTHING
        season, is_known = self.season_at(t)
        if not is_known:
            season = self.season
        n_missing = (time_ms - self.last_ms) / self.rates.step_ms - 1
        if is_point and n_missing >= 1:
            self.bridge(season, n_missing)
        size, usual = self.threshold(), self.peaks[self.calendar.quarter[t]][1]
        size = max(size, 1.2 * usual) if usual > 1.3 * size else size
        yhat, lower, upper = self.band(season, size)
        if not is_point:
            return Step(yhat, lower, upper, 0.0)
        largest = max(self.ratios(value, season))
        unusual = self.unusual(self.calendar.hour[t], value, largest / size)
        self.alarm *= self.rates.fade
        if not lower <= value <= upper and self.n >= self.rates.warm_up:
            self.alarm = 1.0
        self.learn(t, time_ms, value, season, is_known, largest)
        return Step(yhat, lower, upper, unusual)

    def bridge(self, season: float, n_missing: float) -> None:
        share = 1 - math.exp(-((n_missing * self.rates.slow) ** 2))
        for mean, goal in [
            *((s.level, self.base + season) for s in self.streams),
            *((s.lag, season) for s in self.streams),
            (self.smoothed, self.base + season),
            (self.smoothed_lag, season),
        ]:
            mean.value += share * (goal - mean.value)
        self.loose = max(self.loose, share)

    def threshold(self) -> float:
        size = max(math.exp(self.tail + self.margin), 2.0)
        return min(size, 4.95 * (size / 4.95) ** 0.5) if size > 4.95 else size

    def scales(self) -> list[tuple[float, float]]:
        extra = self.loose * math.sqrt(self.spread.value)
        floors = [max(0.5 * self.least, 1e-9 * abs(s.level.value)) for s in self.streams]
        return [(s.scale(0, f, extra), s.scale(1, f, extra)) for s, f in zip(self.streams, floors, strict=True)]

    def expected(self, k: int, season: float) -> float:
        if k == 2:
            season = self.smoothed_lag.value + self.smoothed.share(self.n + 1) * (season - self.smoothed_lag.value)
        return self.streams[k].expects(season, self.weight)

    def residuals(self, value: float, season: float) -> list[float]:
        smooth = self.smoothed.value + self.smoothed.share(self.n + 1) * (value - self.smoothed.value)
        return [v - self.expected(k, season) for k, v in enumerate((value, value, smooth))]

    def ratios(self, value: float, season: float) -> list[float]:
        pairs = zip(self.residuals(value, season), self.scales(), strict=True)
        return [0.0 if e == 0 else min(abs(e) / max(scale[int(e >= 0)], 1e-300), 1e6) for e, scale in pairs]

    def band(self, season: float, size: float) -> tuple[float, float, float]:
        reach = size * (1 + 0.5 * self.alarm)
        widths = [
            (self.rates.width_below * reach * below, self.rates.width_above * reach * above)
            for below, above in self.scales()
        ]
        centers = [self.expected(k, season) for k in range(3)]
        lows = [c - w[0] for c, w in zip(centers, widths, strict=True)]
        highs = [c + w[1] for c, w in zip(centers, widths, strict=True)]
        share, now = self.smoothed.share(self.n + 1), self.smoothed.value
        lower = max(*lows[:2], now + (lows[2] - now) / share)
        upper = min(*highs[:2], now + (highs[2] - now) / share)
        margin = 0.25 * min(min(w) for w in widths)
        if upper - lower < 2 * margin:
            middle = (lower + upper) / 2
            lower, upper = middle - margin, middle + margin
        return min(max(centers[1], lower + margin), upper - margin), lower, upper

    def unusual(self, hour: int, value: float, excess: float) -> float:
        calm = self.calm.value + self.calm.share(self.n + 1) * (value - self.calm.value)
        far = 0.0
        if self.deviation.value > 0:
            far = abs(calm - self.mean.value) / self.deviation.value
            center, spread, count = self.hours[hour]
            scale = (self.hour_deviation.value + spread.value) / 2
            if count[0] > 0 and scale > 0:
                far = (far + abs(calm - center.value) / scale) / 2
        self.hold *= self.rates.fade
        if excess > 0.8:
            self.hold = max(self.hold, min(excess / 0.8, 3.0))
        far = min(far, 1e9)
        return (far / (far + 5) + 0.1 * self.hold) / 1.3

    def learn(self, t: int, time_ms: int, value: float, season: float, is_known: bool, largest: float) -> None:
        n = self.n + 1
        errors = self.residuals(value, season)
        if n > 1 and is_known:
            self.learn_weight(value, season)
        self.learn_levels(n, value, season)
        if n > 1:
            self.learn_tail(n, largest)
            self.learn_peak(self.calendar.quarter[t], largest)
            for stream, error in zip(self.streams, errors, strict=True):
                stream.learn_scale(error, n)
        self.learn_past(n, self.calendar.hour[t], value)
        self.learn_profile(t, self.learn_base(n, value - self.base - season * is_known, season))
        change = abs(value - self.previous)
        if change > 0 and largest <= self.threshold():
            self.least = 1.001 * min(change, self.least or math.inf)
        self.loose *= 1 - self.rates.slow
        self.previous, self.season, self.last_ms, self.n = value, season, time_ms, n

    def learn_weight(self, value: float, season: float) -> None:
        self.n_weight += 1
        mid = self.streams[1]
        move = season - mid.lag.value
        self.cross.add((value - mid.level.value) * move, self.n_weight)
        self.square.add(move**2, self.n_weight)
        if self.square.value > 0 and self.n_weight >= self.rates.day_points:
            self.weight = min(max(self.cross.value / self.square.value, 0.0), 1.0)

    def learn_levels(self, n: int, value: float, season: float) -> None:
        error = value - self.expected(1, season)
        if error:
            sign = 1 if error > 0 else -1
            self.run = self.run + sign if self.run * sign > 0 else sign
        is_free = abs(self.run) >= self.rates.shift_after or n <= 16
        for k, stream in enumerate(self.streams):
            center = stream.expects(season, self.weight)
            limit = math.inf if is_free else self.rates.clip * math.sqrt(self.streams[min(k, 1)].brief.value)
            stream.level.add(center + min(max(value - center, -limit), limit), n)
            stream.lag.add(season, n)
        limit = math.inf if is_free else self.rates.clip * math.sqrt(self.streams[1].brief.value)
        self.smoothed.add(value - error + min(max(error, -limit), limit), n)
        self.smoothed_lag.add(season, n)

    def learn_tail(self, n: int, largest: float) -> None:
        is_beyond = largest > math.exp(self.tail + self.margin)
        step = max(0.02, 1 / (0.003 * n + 20))
        self.tail += step * ((largest > math.exp(self.tail)) - 0.003)
        if n > 300:
            self.margin = min(max(self.margin + 0.03 * (is_beyond - 0.0004), 0.0), math.log(1.3))

    def learn_peak(self, quarter: int, largest: float) -> None:
        if quarter != self.visit:
            kept = 0.95 if self.visit_peak > self.threshold() else 0.9
            self.peaks[self.visit] = sorted([*(kept * p for p in self.peaks[self.visit]), self.visit_peak])[:0:-1]
            self.visit, self.visit_peak = quarter, 0.0
        if largest < 1e6:
            self.visit_peak = max(self.visit_peak, largest)

    def learn_past(self, n: int, hour: int, value: float) -> None:
        self.calm.add(value, n)
        self.mean.add(value, n)
        self.deviation.add(abs(value - self.mean.value), n)
        center, spread, count = self.hours[hour]
        count[0] += 1
        center.add(value, count[0])
        spread.add(abs(value - center.value), count[0])
        self.hour_deviation.add(abs(value - center.value), n)

    def learn_base(self, n: int, error: float, season: float) -> float:
        rate = self.spread.share(n)
        limit, wide = (self.rates.clip * math.sqrt(m.value) if n > 100 else math.inf for m in (self.spread, self.power))
        taken = min(max(error, -limit), limit)
        self.spread.add(taken**2, n)
        self.power.add(error**2, n)
        sign = (error > limit) - (error < -limit)
        self.far_run = 0 if sign == 0 else self.far_run + sign if self.far_run * sign > 0 else sign
        if abs(self.far_run) >= self.rates.base_shift_after:
            self.base, self.far_run = self.calm.value - season, 0
        else:
            self.base += self.slope + rate * taken
            if n > 2 * self.rates.day_points:
                self.slope += rate**2 / 4 * taken
        return min(max(error, -wide), wide)

    def learn_profile(self, t: int, error: float) -> None:
        c = self.calendar
        active = [j for j in range(c.left.shape[2]) if c.left[0, t, j] >= 0]
        special = [j for j in active if c.is_holiday[j]]
        for j in special or active:
            share = c.share[0, t, j].item()
            for place, weight in ((c.left[0, t, j], 1 - share), (c.right[0, t, j], share)):
                if weight > 0:
                    self.visits[place] += weight
                    rate = max(1 / (self.visits[place] + c.prior[j].item()), 1 / c.rest[j].item())
                    self.profile[place] += min(rate, 1.0) * weight * error


def run(y: Sequence[float], timestamps_ms: Sequence[int], calendar: Calendar, rates: Rates, n_bins: int) -> list[Step]:
    """Every step of a series from the beginning."""
    envelope = Envelope(rates, calendar, n_bins)
    return [envelope.step(t, int(timestamps_ms[t]), float(v)) for t, v in enumerate(y)]
