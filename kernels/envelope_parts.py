"""Steps of the temporal envelope's recursion on the scalars of one row; `kernels.envelope` says how they fit."""

from __future__ import annotations

import math

from kernels._jit import F64, lean_inline
from kernels.envelope_state import (
    ABOVE,
    ALARM,
    BASE,
    BELOW,
    BRIEF,
    CALM,
    COUNT,
    DEVIATION,
    FAST,
    HOLD,
    HOUR_COUNT,
    HOUR_DEVIATION,
    HOUR_MEAN,
    HOUR_SPREAD,
    LAG,
    LEAST,
    LEVEL,
    LIFE,
    LONG,
    LOOSE,
    MEAN,
    MID,
    N_STREAMS,
    POWER,
    PREVIOUS,
    RUN,
    SEASON_COUNT,
    SEASON_CROSS,
    SEASON_SQUARE,
    SEASON_WEIGHT,
    SHIFTED,
    SLOPE,
    SLOW,
    SMOOTHED,
    SMOOTHED_LAG,
    SPREAD,
    Rates,
)
from kernels.envelope_threshold import LARGEST_RESIDUAL, threshold


@lean_inline
def rate_of(rate: float, count: float) -> float:
    """Rate of an average that is a plain mean while it is young."""
    return max(rate, 1.0 / count)


@lean_inline
def stream_rate(k: int, rates: Rates, count: float) -> float:
    """Rate of a stream's level."""
    return rate_of(rates.fast if k == FAST else (rates.mid if k == MID else rates.slow), count)


@lean_inline
def expected(k: int, s: F64, season: float, rates: Rates) -> float:
    """What a stream expects its input to be: its level, moved as the profile has moved since."""
    if k == SLOW:
        season = s[SMOOTHED_LAG] + rate_of(rates.smooth, s[COUNT] + 1.0) * (season - s[SMOOTHED_LAG])
    return float(s[LEVEL + k] + s[SEASON_WEIGHT] * (season - s[LAG + k]))


@lean_inline
def set_scales(s: F64, scales: F64) -> None:
    """Size of each stream's residuals on each side.

    Between short and long memory, with floors: a share of the size over life, half of the smallest change, and what
    float digits allow. A gap adds the spread around the base.
    """
    for k in range(N_STREAMS):
        floor = max(0.5 * s[LEAST], 1e-9 * abs(s[LEVEL + k]))
        for side in range(2):
            j = 2 * k + side
            scale = max(
                math.sqrt(math.sqrt(s[BRIEF + k]) * math.sqrt(s[LONG + j])), 0.2 * math.sqrt(s[LIFE + j]), floor
            )
            if s[LOOSE] > 0.0:
                scale = math.sqrt(scale * scale + s[LOOSE] * s[LOOSE] * s[SPREAD])
            scales[j] = scale


@lean_inline
def band(s: F64, scales: F64, season: float, size: float, rates: Rates) -> tuple[float, float, float]:
    """Expectation and bounds of the next value: where all streams are inside their thresholds.

    `size` is the threshold. Where no value is inside all, the bounds are close around the middle of the contradiction.
    """
    reach = size * (1.0 + 0.5 * s[ALARM])
    lower, upper, least = -math.inf, math.inf, math.inf
    smooth = rate_of(rates.smooth, s[COUNT] + 1.0)
    for k in range(N_STREAMS):
        center = expected(k, s, season, rates)
        below = rates.width_below * reach * scales[2 * k]
        above = rates.width_above * reach * scales[2 * k + 1]
        least = min(least, below, above)
        low, high = center - below, center + above
        if k == SLOW:  # its residual is that of a smoothed value: solved for the value
            low = s[SMOOTHED] + (low - s[SMOOTHED]) / smooth
            high = s[SMOOTHED] + (high - s[SMOOTHED]) / smooth
        lower, upper = max(lower, low), min(upper, high)
    margin = 0.25 * least
    if upper - lower < 2.0 * margin:
        middle = 0.5 * lower + 0.5 * upper
        lower, upper = middle - margin, middle + margin
    center = min(max(expected(MID, s, season, rates), lower + margin), upper - margin)
    return center, lower, upper


@lean_inline
def largest_residual(s: F64, scales: F64, value: float, season: float, rates: Rates) -> float:
    """The largest residual of the streams in its scale."""
    largest = 0.0
    for k in range(N_STREAMS):
        error = residual(k, s, value, season, rates)
        scale = scales[2 * k + (ABOVE if error >= 0.0 else BELOW)]
        if error != 0.0:
            largest = max(largest, LARGEST_RESIDUAL if abs(error) >= LARGEST_RESIDUAL * scale else abs(error) / scale)
    return largest


@lean_inline
def residual(k: int, s: F64, value: float, season: float, rates: Rates) -> float:
    """Value (smoothed for the slow stream) less what the stream expects."""
    if k == SLOW:
        value = s[SMOOTHED] + rate_of(rates.smooth, s[COUNT] + 1.0) * (value - s[SMOOTHED])
    return value - expected(k, s, season, rates)


@lean_inline
def unusual(s: F64, hours: F64, hour: int, value: float, excess: float, rates: Rates) -> float:
    """How far the series is from all its past, 0..1; `excess` is the largest residual in thresholds.

    Half by the overall mean, half by that of the civil hour, each in mean absolute deviations; a recent excess adds.
    """
    calm = s[CALM] + rate_of(rates.calm, s[COUNT] + 1.0) * (value - s[CALM])
    far = 0.0
    if s[DEVIATION] > 0.0:
        far = abs(calm - s[MEAN]) / s[DEVIATION]
        scale = 0.5 * s[HOUR_DEVIATION] + 0.5 * hours[HOUR_SPREAD, hour]
        if hours[HOUR_COUNT, hour] > 0.0 and scale > 0.0:
            far = 0.5 * far + 0.5 * abs(calm - hours[HOUR_MEAN, hour]) / scale
    far = min(far, 1e9)
    hold = s[HOLD] * rates.fade
    if excess > 0.8:
        hold = max(hold, min(excess / 0.8, 3.0))
    s[HOLD] = hold
    return float((far / (far + 5.0) + 0.1 * hold) / 1.3)


@lean_inline
def learn_past(s: F64, hours: F64, hour: int, value: float, rates: Rates) -> None:
    """Means and mean absolute deviations over life, overall and of the civil hour."""
    n = s[COUNT] + 1.0
    s[CALM] += rate_of(rates.calm, n) * (value - s[CALM])
    s[MEAN] += (value - s[MEAN]) / n
    s[DEVIATION] += (abs(value - s[MEAN]) - s[DEVIATION]) / n
    hours[HOUR_COUNT, hour] += 1.0
    hours[HOUR_MEAN, hour] += (value - hours[HOUR_MEAN, hour]) / hours[HOUR_COUNT, hour]
    apart = abs(value - hours[HOUR_MEAN, hour])
    hours[HOUR_SPREAD, hour] += (apart - hours[HOUR_SPREAD, hour]) / hours[HOUR_COUNT, hour]
    s[HOUR_DEVIATION] += (apart - s[HOUR_DEVIATION]) / n


@lean_inline
def learn_scale(k: int, s: F64, error: float, rates: Rates) -> None:
    """Squared residuals: over a short memory, and by side over a long one and over life.

    Not robust on purpose: the scale rises inside a burst, so a burst alarms once.
    """
    n, square = s[COUNT] + 1.0, error * error
    s[BRIEF + k] += rate_of(rates.brief, n) * (square - s[BRIEF + k])
    for side in range(2):
        part = 2.0 * square if (side == ABOVE) == (error >= 0.0) else 0.0
        s[LONG + 2 * k + side] += rate_of(rates.long, n) * (part - s[LONG + 2 * k + side])
        s[LIFE + 2 * k + side] += (part - s[LIFE + 2 * k + side]) / n


@lean_inline
def learn_least(s: F64, value: float, largest: float) -> None:
    """The smallest change, which grows by a thousandth with each change: a coarser step may take its place.

    A change beyond the threshold is not how the series moves; a series that does not change keeps its smallest one.
    """
    change = abs(value - s[PREVIOUS])
    if change > 0.0 and largest <= threshold(s):
        s[LEAST] = 1.001 * (change if s[LEAST] == 0.0 else min(change, s[LEAST]))


@lean_inline
def learn_weight(s: F64, value: float, season: float, rates: Rates) -> None:
    """Regress the mid stream's residual on the profile's move: a profile of noise gets no weight."""
    s[SEASON_COUNT] += 1.0
    move = season - s[LAG + MID]
    raw = value - s[LEVEL + MID]
    rate = rate_of(rates.weight, s[SEASON_COUNT])
    s[SEASON_CROSS] += rate * (raw * move - s[SEASON_CROSS])
    s[SEASON_SQUARE] += rate * (move * move - s[SEASON_SQUARE])
    if s[SEASON_SQUARE] > 0.0 and s[SEASON_COUNT] >= rates.day_points:
        s[SEASON_WEIGHT] = min(max(s[SEASON_CROSS] / s[SEASON_SQUARE], 0.0), 1.0)


@lean_inline
def learn_levels(s: F64, value: float, season: float, rates: Rates) -> None:
    """Levels of the streams, and the profile through the same filters.

    A residual moves a level by at most `clip` scales, until as many of one sign have come as confirm a shift.
    """
    n = s[COUNT] + 1.0
    error = residual(MID, s, value, season, rates)
    if error > 0.0:
        s[RUN] = s[RUN] + 1.0 if s[RUN] > 0.0 else 1.0
    elif error < 0.0:
        s[RUN] = s[RUN] - 1.0 if s[RUN] < 0.0 else -1.0
    is_free = abs(s[RUN]) >= rates.shift_after or n <= 16.0
    for k in range(N_STREAMS):
        center = s[LEVEL + k] + s[SEASON_WEIGHT] * (season - s[LAG + k])
        limit = math.inf if is_free else rates.clip * math.sqrt(s[BRIEF + min(k, MID)])
        taken = center + min(max(value - center, -limit), limit)
        s[LEVEL + k] += stream_rate(k, rates, n) * (taken - s[LEVEL + k])
    smooth = rate_of(rates.smooth, n)
    limit = math.inf if is_free else rates.clip * math.sqrt(s[BRIEF + MID])
    s[SMOOTHED] += smooth * (value - error + min(max(error, -limit), limit) - s[SMOOTHED])
    s[SMOOTHED_LAG] += smooth * (season - s[SMOOTHED_LAG])
    for k in range(N_STREAMS):
        s[LAG + k] += stream_rate(k, rates, n) * (season - s[LAG + k])


@lean_inline
def learn_base(s: F64, error: float, season: float, rates: Rates) -> float:
    """Long-run level and spread; returns the error as far as one point may teach it to the profile, too.

    After as many points far off on one side as confirm a shift the base moves to where they are.
    """
    n = s[COUNT] + 1.0
    rate = rate_of(rates.base, n)
    limit = rates.clip * math.sqrt(s[SPREAD]) if n > 100.0 else math.inf
    taken = min(max(error, -limit), limit)
    wide = rates.clip * math.sqrt(s[POWER]) if n > 100.0 else math.inf
    s[SPREAD] += rate * (taken * taken - s[SPREAD])
    s[POWER] += rate * (error * error - s[POWER])
    if error > limit:
        s[SHIFTED] = s[SHIFTED] + 1.0 if s[SHIFTED] > 0.0 else 1.0
    elif error < -limit:
        s[SHIFTED] = s[SHIFTED] - 1.0 if s[SHIFTED] < 0.0 else -1.0
    else:
        s[SHIFTED] = 0.0
    if abs(s[SHIFTED]) >= rates.base_shift_after:
        s[BASE] = s[CALM] - season
        s[SHIFTED] = 0.0
    else:
        s[BASE] += s[SLOPE] + rate * taken
        if n > 2.0 * rates.day_points:
            s[SLOPE] += 0.25 * rate * rate * taken  # critically damped
    return min(max(error, -wide), wide)


@lean_inline
def bridge_gap(s: F64, season: float, n_missing: float, rates: Rates) -> None:
    """After a gap the levels are nearer to the long-run expectation, the more the longer it was, and less certain."""
    away = n_missing * rates.slow
    share = 1.0 - math.exp(-away * away)
    for k in range(N_STREAMS):
        s[LEVEL + k] += share * (s[BASE] + season - s[LEVEL + k])
        s[LAG + k] += share * (season - s[LAG + k])
    s[SMOOTHED] += share * (s[BASE] + season - s[SMOOTHED])
    s[SMOOTHED_LAG] += share * (season - s[SMOOTHED_LAG])
    s[LOOSE] = max(s[LOOSE], share)


@lean_inline
def forecast(s: F64, season: float, steps: float, rates: Rates) -> tuple[float, float]:
    """Expectation and spread some steps ahead.

    The deviation from the base fades as in an Ornstein-Uhlenbeck process, whose time constant follows from how much
    smaller its residuals from a moving level are than its spread: a random walk stays where it is, noise returns.
    """
    brief = 0.5 * (s[LONG + 2 * MID] + s[LONG + 2 * MID + 1])
    kept = 0.0
    if brief > 0.0 and s[SPREAD] > brief:
        kept = math.exp(-steps * rates.mid / (s[SPREAD] / brief - 1.0))
    away = s[LEVEL + MID] - s[LAG + MID] - s[BASE]
    spread = math.sqrt(max(s[SPREAD] * (1.0 - kept * kept), 0.0) + brief)
    return s[BASE] + s[SLOPE] * steps + season + kept * away, spread
