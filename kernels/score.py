"""From a band to an anomaly score: scale, clip, ratio and every policy in one pass."""

from __future__ import annotations

import math

from kernels._jit import F64, I64, kernel

# A power of two, so exact: differences and multiples of huge values must not overflow.
_SMALLER = 2.0**-10
# Of the way to the bound: from where the distance counts alone, and below which a value is as expected.
_NEAR, _AT_YHAT = 0.95, 0.005


@kernel
def score_band(
    y: F64,
    seen: I64,
    warm_up: int,
    largest: float,
    direction: int,
    min_dev: F64,
    min_rel_dev: F64,
    data_range: F64,
    outside_score: float,
    scale: F64,
    clip: bool,
    unusual: F64,
    yhat: F64,
    lower: F64,
    upper: F64,
    out: F64,
) -> None:
    """Scale and clip a band in place, and score `y` against it.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN or inf: the score is NaN.
    seen : (S,) finite points that each row had learned before the first step.
    warm_up : scores count once a row has learned this many; before that they are 0.
    largest : values up to this in size are learned.
    direction : 0 both, 1 above only, -1 below only.
    min_dev, min_rel_dev : (2,) below and above; absolute, and percent of abs(yhat). At or under either: score 0.
        At yhat = 0 every deviation is infinite percent.
    data_range : (2,) closed. yhat outside: score 0. y outside: at least `outside_score`, whatever else holds.
    scale : (2,) factors of the lower and upper half-width.
    clip : clamp yhat and the band to `data_range` before scoring, so that yhat is never outside. Of a band with
        nothing in the range that leaves none: score 0.
    unusual : (S, T) or (0, 0) for none; 0..1, how far the row is from all its past. Outside the band it multiplies
        what the score has above 1; well inside the score is a share of it, so that a long stretch of the unusual ranks
        above noise without being anomalous.
    yhat, lower, upper : (S, T), updated in place so that lower <= yhat <= upper; NaN where there is no band, and
        made NaN where `y` is not finite: nothing is written for a point that does not exist.
    out : (S, T). 0 at yhat, 1 at a bound, linear beyond, at most 1e6; 0 without a band during warm-up, NaN after.

    Notes
    -----
    O(S T), allocates nothing. Rows are independent. A half-width is at least max(1e-9 abs(yhat), 1e-12), so that a
    constant series scores 0 at its constant and more than 1 off it. Shapes are trusted. Raises nothing.
    """
    n_series, n_steps = y.shape
    for i in range(n_series):
        learned = seen[i]
        for t in range(n_steps):
            x = y[i, t]
            if not math.isfinite(x):
                yhat[i, t] = lower[i, t] = upper[i, t] = out[i, t] = math.nan
                continue
            center = yhat[i, t]
            low = center - abs(center - lower[i, t]) * scale[0]
            high = center + abs(upper[i, t] - center) * scale[1]
            is_within = True
            if clip and low <= high:  # not with a NaN: what min() and max() make of it depends on their order
                is_within = high >= data_range[0] and low <= data_range[1]
                center = min(max(center, data_range[0]), data_range[1])
                low = min(max(low, data_range[0]), center)
                high = max(min(high, data_range[1]), center)
            yhat[i, t], lower[i, t], upper[i, t] = center, low, high
            if learned < warm_up:
                score = 0.0
            else:
                score = _ratio(x, center, low, high)
                if unusual.shape[0] > 0:
                    score = _ranked(score, unusual[i, t])
                if not is_within or not _counts(x, center, direction, min_dev, min_rel_dev, data_range):
                    score = 0.0
            if x < data_range[0] or x > data_range[1]:
                score = outside_score if math.isnan(score) else max(score, outside_score)
            out[i, t] = score
            learned += 1 if abs(x) <= largest else 0


@kernel
def _ratio(x: float, center: float, low: float, high: float) -> float:
    """Distance from the centre in half-widths of the side that x is on; NaN without a bound there."""
    width = _SMALLER * high - _SMALLER * center if x >= center else _SMALLER * center - _SMALLER * low
    floor = _SMALLER * max(1e-9 * abs(center), 1e-12)
    if width < floor:  # not max(): NaN must stay NaN
        width = floor
    distance = abs(_SMALLER * x - _SMALLER * center)
    return 1e6 if 1e-6 * distance >= width else distance / width


@kernel
def _ranked(ratio: float, unusual: float) -> float:
    """A ratio weighed by how unusual the row is: 0 at yhat and 1 at a bound stay, and it never falls as y moves out."""
    if ratio > 1.0:
        return 1.0 + (ratio - 1.0) * unusual
    if ratio <= _NEAR:
        return _NEAR * unusual * min(1.0, ratio / _AT_YHAT)
    return ratio


@kernel
def _counts(x: float, center: float, direction: int, min_dev: F64, min_rel_dev: F64, data_range: F64) -> bool:
    """Whether a deviation passes the policies: direction, both filters, and an expectation inside the range."""
    side = 1 if x > center else 0
    if (direction > 0 and x <= center) or (direction < 0 and x >= center):
        return False
    deviation = abs(_SMALLER * x - _SMALLER * center)
    if min_dev[side] > 0 and deviation <= _SMALLER * min_dev[side]:
        return False
    # Multiplied out: dividing by 100 would round 29 % of 100 to less than 29, and equality is filtered.
    if min_rel_dev[side] > 0 and center != 0 and 100.0 * deviation <= _SMALLER * abs(center) * min_rel_dev[side]:
        return False
    return not (center < data_range[0] or center > data_range[1])


@kernel
def score_given(
    y: F64, seen: I64, warm_up: int, largest: float, data_range: F64, outside_score: float, out: F64
) -> None:
    """Apply the policies that need no band to scores in `out`, (S, T), as `score_band` does."""
    n_series, n_steps = y.shape
    for i in range(n_series):
        learned = seen[i]
        for t in range(n_steps):
            x = y[i, t]
            if not math.isfinite(x):
                out[i, t] = math.nan
                continue
            score = 0.0 if learned < warm_up else out[i, t]
            score = 1e6 if score > 1e6 else score
            if x < data_range[0] or x > data_range[1]:
                score = outside_score if math.isnan(score) else max(score, outside_score)
            out[i, t] = score
            learned += 1 if abs(x) <= largest else 0
