"""The score policies from their definition, in exact fractions, one point at a time."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple


class Rules(NamedTuple):
    """Pairs are (below, above); `min_rel_dev` in percent."""

    direction: str = "both"
    min_dev: tuple[float, float] = (0.0, 0.0)
    min_rel_dev: tuple[float, float] = (0.0, 0.0)
    data_range: tuple[float, float] = (-math.inf, math.inf)
    outside_score: float = 1.01
    scale: tuple[float, float] = (1.0, 1.0)
    clip: bool = False


class Point(NamedTuple):
    score: float
    yhat: float
    lower: float
    upper: float


NOTHING = Point(math.nan, math.nan, math.nan, math.nan)


def band(rules: Rules, yhat: float, lower: float, upper: float) -> tuple[float, float, float]:
    """The scaled and clipped band of one point."""
    low = yhat - abs(yhat - lower) * rules.scale[0]
    high = yhat + abs(upper - yhat) * rules.scale[1]
    if rules.clip:
        yhat, low, high = (sorted([rules.data_range[0], v, rules.data_range[1]])[1] for v in (yhat, low, high))
    return yhat, low, high


def passes(rules: Rules, y: float, yhat: float) -> bool:
    """Whether direction, both filters and the expectation's own validity leave a score standing."""
    if not rules.data_range[0] <= yhat <= rules.data_range[1]:
        return False
    if rules.direction == "above_expected" and y <= yhat:
        return False
    if rules.direction == "below_expected" and y >= yhat:
        return False
    deviation, side = abs(Fraction(y) - Fraction(yhat)), int(y > yhat)
    if rules.min_dev[side] > 0 and deviation <= Fraction(rules.min_dev[side]):
        return False
    share = Fraction(rules.min_rel_dev[side])
    return not (share > 0 and yhat != 0 and 100 * deviation <= share * abs(Fraction(yhat)))


def weighed(ratio: Fraction, unusual: Fraction) -> Fraction:
    """Outside: the excess times the weight. Near the bound: as it is. Further in: the weight alone, but 0 at yhat."""
    if ratio > 1:
        return 1 + (ratio - 1) * unusual
    if ratio > Fraction(0.95):
        return ratio
    return Fraction(0.95) * unusual * min(Fraction(1), ratio / Fraction(0.005))


def score_point(
    rules: Rules,
    y: float,
    *,
    learned: int,
    warm_up: int,
    yhat: float,
    lower: float,
    upper: float,
    unusual: float | None = None,
) -> Point:
    """One point of a model with a band. No band at all is NaN in all three."""
    if not math.isfinite(y):
        return NOTHING
    if math.isnan(yhat):
        score = 0.0 if learned < warm_up else math.nan
    else:
        raw = band(rules._replace(clip=False), yhat, lower, upper)
        says_nothing = rules.clip and (raw[1] > rules.data_range[1] or raw[2] < rules.data_range[0])
        yhat, lower, upper = band(rules, yhat, lower, upper)
        exact, centre = Fraction(y), Fraction(yhat)
        width = Fraction(upper) - centre if y >= yhat else centre - Fraction(lower)
        width = max(width, Fraction(1e-9) * abs(centre), Fraction(1e-12))
        ratio = min(abs(exact - centre) / width, Fraction(10**6))
        score = float(ratio if unusual is None else weighed(ratio, Fraction(unusual)))
        if learned < warm_up or says_nothing or not passes(rules, y, yhat):
            score = 0.0
    if not rules.data_range[0] <= y <= rules.data_range[1]:
        score = rules.outside_score if math.isnan(score) else max(score, rules.outside_score)
    return Point(score, yhat, lower, upper)
