"""Weighted medians from their definition, in fractions; the distribution that a sketch stands for; rank errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from engine.frame import F64


def weighted_median(values: Sequence[float], weights: Sequence[Fraction]) -> float:
    """The value with at most half of all weight on either side; the middle of two if there are two such values."""
    total, below = sum(weights, Fraction(0)), Fraction(0)
    pairs = sorted(zip(values, weights, strict=True))
    for k, (value, weight) in enumerate(pairs):
        below += weight
        if 2 * below > total:
            return value
        if 2 * below == total:
            return 0.5 * (value + pairs[k + 1][0])
    return math.nan


def median_and_mad(values: Sequence[float], decay: float) -> tuple[float, float]:
    """Median and raw median absolute deviation of the finite values; k later ones leave a weight of decay**k."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return math.nan, math.nan
    weights = [Fraction(decay) ** k for k in reversed(range(len(finite)))]
    median = weighted_median(finite, weights)
    return median, weighted_median([abs(v - median) for v in finite], weights)


def share_up_to(x: float, mean: F64, weight: F64, mixed: Sequence[bool], *, strictly: bool = False) -> float:
    """Weight of a sketch at or below `x` (below it if `strictly`).

    An exact centroid is a step at its mean. Half of a mixed one lies evenly between its mean and either neighbour's,
    or at its mean where there is no neighbour.
    """
    found, last = 0.0, len(mean) - 1

    def reaches(at: float) -> bool:
        return at < x if strictly else at <= x

    def between(start: float, end: float) -> float:
        if end == start:
            return float(reaches(start))
        return min(max((x - start) / (end - start), 0.0), 1.0)

    for k, (center, mass) in enumerate(zip(mean, weight, strict=True)):
        if not mixed[k]:
            found += mass * reaches(center)
            continue
        found += mass / 2 * (between(mean[k - 1], center) if k > 0 else reaches(center))
        found += mass / 2 * (between(center, mean[k + 1]) if k < last else reaches(center))
    return found


def rank_error(values: F64, answer: float, quantile: float) -> float:
    """How far the share of values that an answer divides off is from the one that was asked for; 0 on a tie."""
    return max((values < answer).mean() - quantile, quantile - (values <= answer).mean(), 0.0)


def window_quantiles(values: Sequence[float], n_last: int, shares: Sequence[float]) -> list[float]:
    """Quantiles of the last `n_last` finite values by numpy's linear interpolation; NaN without any."""
    finite = [v for v in values if math.isfinite(v)][-n_last:]
    return [float(np.quantile(finite, share)) if finite else math.nan for share in shares]
