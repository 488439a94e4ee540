"""A level and a season that learn point by point, from the definition."""

from __future__ import annotations

import math
from collections.abc import Sequence


class NaiveSeasonal:
    """Predicts each point from those before it, then learns it."""

    def __init__(self, period: int, gains: tuple[float, float], decay: float, is_robust: bool) -> None:
        self.gains, self.decay, self.is_robust, self.period = gains, decay, is_robust, period
        self.level = 0.0
        self.season: dict[int, float] = {}
        self.errors: list[float] = []
        self.seen = 0

    @property
    def spread(self) -> float:
        """Root of the decayed mean of squared errors at known phases."""
        n = len(self.errors)
        weights = [self.decay ** (n - 1 - k) for k in range(n)]
        squares = sum(w * e * e for w, e in zip(weights, self.errors, strict=True))
        return math.sqrt(squares / sum(weights)) if n else 0.0

    def step(self, y: float, phase: int) -> tuple[float, float, float]:
        """Expected value, spread and seasonal effect before the point."""
        effect = self.season.get(phase, 0.0)
        told = (self.level + effect, self.spread, effect) if self.seen else (math.nan, math.nan, effect)
        if not math.isfinite(y):
            return told
        if self.seen == 0:
            self.level, self.season[phase], self.seen = y, 0.0, 1
            return told
        error, spread = y - told[0], told[1]
        is_known = phase in self.season
        if is_known:
            self.errors.append(error)
        if self.is_robust and self.seen >= 2 * self.period and spread > 0:
            error = max(-4.05 * spread, min(4.05 * spread, error))
        gain = max(self.gains[0], 1 / (self.seen + 1))
        own = max(self.gains[1], 1 / (self.seen // self.period + 1)) if is_known else 1.0
        self.level += gain * error
        self.season[phase] = effect + own * (1 - gain) * error
        self.seen += 1
        return told

    def run(self, values: Sequence[float], phases: Sequence[int]) -> list[tuple[float, float, float]]:
        """All steps."""
        return [self.step(y, phase) for y, phase in zip(values, phases, strict=True)]
