"""The multivariate envelope as its page says it, one row after the other, with numpy's linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.frame import F64
from kernels.envelope_mv_state import L2, MAX, JointRates
from kernels.envelope_state import Calendar

TAIL = 0.003


def aggregate(ratio: F64, how: int) -> float:
    return float(ratio.max() if how == MAX else np.sqrt((ratio**2).mean()) if how == L2 else ratio.mean())


class Envelope:
    """State of one group, and the outputs so far as lists of rows."""

    def __init__(self, rates: JointRates, sketch: F64, n_channels: int, n_bins: int) -> None:
        self.rates, self.sketch = rates, sketch
        zeros = np.zeros(n_channels)
        self.level, self.least, self.low, self.high, self.run, self.blame, self.squares = (
            zeros.copy() for _ in range(7)
        )
        self.tail, self.previous = zeros.copy(), zeros.copy()
        self.profile, self.visits = np.zeros((n_channels, n_bins)), np.zeros(n_bins)
        rank = sketch.shape[1]
        self.basis, self.moments, self.loadings = (np.zeros((n_channels, rank)) for _ in range(3))
        self.n = self.moved = 0
        self.weight = self.total = self.distance_sum = self.distance_weight = self.smoothed = 0.0
        self.joint_tail = self.band_tail = self.relief = 0.0
        self.joint_run, self.next = 0, 0
        self.out: dict[str, list[Any]] = {"yhat": [], "lower": [], "upper": [], "far": [], "blame": []}

    @property
    def mean(self) -> float:
        return max(self.distance_sum / self.distance_weight, 0.3) if self.distance_weight else 0.3

    @property
    def threshold(self) -> float:
        return 1 + (1.1 - self.relief) * (1 + 300 / max(self.moved, 1)) * max(np.exp(self.joint_tail) - 1, 0.02)

    def step(self, y: F64, calendar: Calendar, t: int) -> None:
        if not np.isfinite(y).all():
            for name, rows in self.out.items():
                rows.append(np.nan if name == "far" else np.full(y.size, np.nan))
            return
        r = self.rates
        if self.n == 0:
            self.level, self.previous = y.copy(), y.copy()
        left, right, share = calendar.left[0, t], calendar.right[0, t], calendar.share[0, t]
        on = left >= 0
        season = self.profile[:, left[on]] @ (1 - share[on]) + self.profile[:, right[on]] @ share[on]
        yhat = self.level + season
        deviation = np.sqrt(self.squares / self.weight) if self.weight else np.zeros(y.size)
        size = np.maximum.reduce([deviation, 0.05 * self.least, 1e-9 * abs(self.level), np.full(y.size, 1e-12)])
        heavy = np.maximum(1, 1.13 * np.exp(self.tail))
        width = max(1.0, 1.1 * np.exp(self.band_tail))
        spread = self.high - self.low
        below = width * heavy * np.maximum(r.fence * spread - self.low, max(0.2 * r.width_below, 1e-3) * size)
        above = width * heavy * np.maximum(r.fence * spread + self.high, max(0.2 * r.width_above, 1e-3) * size)
        size = np.where(self.least == 0, np.maximum(size, 0.05 * abs(y - self.previous)), size)
        error = y - yhat
        z = error / size
        half = np.where(error >= 0, above, below)
        ratio = abs(error) / half
        own = self.own()
        correlation = self.loadings @ self.loadings.T + np.diag(own)
        distance = float(np.sqrt(z @ np.linalg.inv(correlation) @ z))
        self._write(y, yhat, below, above, distance)
        self._learn(y, error, size, z, ratio, half, width, heavy, distance, (left, right, share, calendar))

    def own(self) -> F64:
        return np.asarray(1 - (self.loadings**2).sum(axis=1))

    def limited(self, distance: float) -> float:
        return min(distance, 10 * self.mean) if self.moved > 50 else distance

    def _smooth(self) -> float:
        return 1.0 if self.moved < 16 else self.rates.smooth

    def _write(self, y: F64, yhat: F64, below: F64, above: F64, distance: float) -> None:
        far = 0.0
        if self.moved:
            limited = self.limited(distance)
            smoothed = self.smoothed + self._smooth() * (limited - self.smoothed)
            far = max(min(smoothed, 3 * limited) / self.mean - 0.5, 0) / (self.threshold - 0.5) / self.rates.width
        for name, row in zip(("yhat", "lower", "upper", "far"), (yhat, yhat - below, yhat + above, far), strict=True):
            self.out[name].append(row)

    def _learn(
        self, y: F64, error: F64, size: F64, z: F64, ratio: F64, half: F64, width: float, heavy: F64, distance: float,
        places: tuple[Any, ...],
    ) -> None:  # fmt: skip
        r, n = self.rates, self.n + 1
        step = max(0.01, 1 / (TAIL * n + 20))
        change = abs(y - self.previous)
        is_least = (change > 0) & ((self.least == 0) | (change < self.least))
        self.least, self.previous = np.where(is_least, change, self.least), y.copy()
        sign = np.sign(error)
        self.run = np.where(ratio <= 1, 0, np.where(self.run * sign > 0, self.run, 0) + sign)
        of_side = np.where(error >= 0, r.width_above, r.width_below)
        reference = np.where(of_side > 0.05, half / (width * heavy * np.maximum(of_side, 1e-9)), 3.37 * size)
        gain = 2.5 * size * max(0.003, 1 / (0.4 * n + 10))
        self.low = np.minimum(self.low + gain * (r.low - (error <= self.low)), 0)
        self.high = np.maximum(self.high + gain * (r.high - (error <= self.high)), 0)
        if n > 16:
            is_beyond = np.log(np.maximum(abs(error) / reference, 1e-9)) > self.tail
            self.tail = np.maximum(self.tail + step * (is_beyond - TAIL), -1)
        self._learn_levels(error, size, n, places)
        self.n = n
        if self.least.any():
            self._learn_together(error, size, z, ratio, width, distance)
        self.out["blame"].append(self.blame)

    def _learn_together(self, error: F64, size: F64, z: F64, ratio: F64, width: float, distance: float) -> None:
        r, n = self.rates, self.moved + 1
        step = max(0.01, 1 / (TAIL * n + 20))
        band = aggregate(ratio, r.aggregation) * width * r.width
        self.band_tail += step * ((np.log(max(band, 1e-9)) > self.band_tail) - TAIL)
        limit = 10 * self.mean if n > 51 else np.inf
        self.blame = self.blame + self._smooth() * (np.minimum(abs(z), limit) ** 2 - self.blame)
        weight = self._learn_distance(distance, n, step)
        self._learn_factors(error, size, z, weight)
        self.moved = n

    def _learn_levels(self, error: F64, size: F64, n: int, places: tuple[Any, ...]) -> None:
        r = self.rates
        rate = np.full(error.size, max(r.level, 1 / n))
        if n > 16:
            is_shift = abs(self.run) >= r.shift_after
            error = np.where(is_shift, error, np.clip(error, -r.clip * size, r.clip * size))
            rate = np.where(is_shift, np.maximum(rate, 1 / r.shift_after), rate)
        self.level = self.level + rate * error
        rest = error - rate * error
        left, right, share, calendar = places
        is_special = ((calendar.is_holiday == 1) & (left >= 0)).any()
        for j in range(left.size):
            if left[j] < 0 or (is_special and calendar.is_holiday[j] == 0):
                continue
            for place, part in ((left[j], 1 - share[j]), (right[j], share[j])):
                if part > 0:
                    self.visits[place] += part
                    learned = max(1 / (self.visits[place] + calendar.prior[j]), 1 / calendar.rest[j])
                    self.profile[:, place] += min(learned, 1.0) * part * rest

    def _learn_distance(self, distance: float, n: int, step: float) -> float:
        limited = self.limited(distance)
        self.smoothed += self._smooth() * (limited - self.smoothed)
        if self.distance_weight >= self.rates.memory:
            self.distance_sum *= 1 - 1 / self.rates.memory
            self.distance_weight *= 1 - 1 / self.rates.memory
        self.distance_sum, self.distance_weight = self.distance_sum + limited, self.distance_weight + 1
        if n > 16:
            is_alarm = self.smoothed > self.mean * self.threshold
            self.relief = float(np.clip(self.relief + 0.03 * (0.0004 - is_alarm), 0, 1.1 - 1))
            if np.log(max(self.smoothed / self.mean, 1e-9)) > self.joint_tail:
                self.joint_run += 1
                self.joint_tail += (1 - TAIL) * step * (1 if self.joint_run <= 8 else 0.1)
            else:
                self.joint_run = 0
                self.joint_tail -= TAIL * step
        return limited / distance if distance > 0 else 1.0

    def _learn_factors(self, error: F64, size: F64, z: F64, weight: float) -> None:
        memory = self.rates.memory
        if self.weight >= memory:
            self.squares, self.weight = self.squares * (1 - 1 / memory), self.weight * (1 - 1 / memory)
        self.squares, self.weight = self.squares + weight * error**2, self.weight + weight
        n, n_start = self.moved - 16, self.sketch.shape[0]
        if n < 0:
            return
        if n < n_start:
            self.moments = self.moments + np.outer(z, self.sketch[n])
        else:
            self.total += weight
            self.moments = self.moments + weight * np.outer(z, z @ self.basis)
        if n + 1 == n_start:
            self.next = 2 * n_start
            self.basis = self._orthonormal(z)[0]
            self.moments = np.zeros_like(self.moments)
        elif n + 1 == self.next:
            if self.next < 288:
                self.distance_sum, self.distance_weight = self.distance_sum / 8, self.distance_weight / 8
            self.next += min(self.next, 288)
            self.basis, lengths, found = self._orthonormal(z)
            self.moments = found * lengths
            loadings = found * np.sqrt(lengths / self.total)
            common = (loadings**2).sum(axis=1, keepdims=True)
            self.loadings = loadings * np.sqrt(0.85 / np.maximum(common, 1))
            if self.total > memory:
                self.moments, self.total = self.moments * (memory / self.total), memory

    def _orthonormal(self, z: F64) -> tuple[F64, F64, F64]:
        """New directions, the length of what each adds, and the directions without those that add nothing."""
        q, upper = np.linalg.qr(self.moments)
        q, lengths = q * np.sign(np.diag(upper)), abs(np.diag(upper))
        whole = np.linalg.norm(self.moments, axis=0)
        is_new = lengths > 1e-9 * whole
        found = np.where(is_new, q, 0.0)
        return np.where(is_new, q, z[:, None]), np.where(is_new, lengths, 0.0), found
