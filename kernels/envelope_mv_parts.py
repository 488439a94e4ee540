"""Steps of the multivariate envelope's recursion on each channel; `kernels.envelope_mv` says how they fit."""

from __future__ import annotations

import math

from kernels._jit import F64, lean_inline
from kernels.envelope_mv_state import (
    BAND_TAIL,
    COUNT,
    HIGH,
    L2,
    LEAST,
    LEVEL,
    LOW,
    MAX,
    MOVED,
    PREVIOUS,
    RUN,
    SQUARES,
    TAIL,
    WEIGHT,
    Channels,
    JointRates,
    Scratch,
)
from kernels.envelope_state import Calendar
from kernels.profile import learns, visit

# A standard deviation is at least this share of the smallest change: values may be rounded.
SIZE_OF_CHANGE = 0.05
# Share of points beyond the quantile that a threshold follows.
TAIL_SHARE = 0.003
# From that quantile of normal residuals to the default band: 3.37 / 2.97 standard deviations.
_TAIL_TO_BAND, _NORMAL_BAND = 1.13, 3.37
# Beyond the quantile by this factor of what it has above the mean lies the threshold of the aggregated deviations.
_BAND_MARGIN = 1.1


@lean_inline
def set_widths(c: int, s: F64, group: F64, width: float, rates: JointRates, scratch: Scratch) -> None:
    """Standard deviation and half-widths of a channel's residual before a row.

    The band reaches from quantile to quantile and `fence` times their distance further; a heavy tail widens it, and
    the group's width. Floors: shares of the standard deviation and of the smallest change, and what float digits allow.
    """
    deviation = math.sqrt(s[SQUARES] / group[WEIGHT]) if group[WEIGHT] > 0.0 else 0.0
    size = max(deviation, SIZE_OF_CHANGE * s[LEAST], 1e-9 * abs(s[LEVEL]), 1e-12)
    spread = s[HIGH] - s[LOW]
    wider = width * heaviness(s)
    scratch.size[c] = size
    scratch.below[c] = wider * max(rates.fence * spread - s[LOW], _least(rates.width_below) * size)
    scratch.above[c] = wider * max(rates.fence * spread + s[HIGH], _least(rates.width_above) * size)


@lean_inline
def _least(width: float) -> float:
    """Least half-width in standard deviations, for a band of that size."""
    return max(0.2 * width, 1e-3)


@lean_inline
def heaviness(s: F64) -> float:
    """How much wider than its quantiles say the tail of a channel makes its band."""
    return max(1.0, _TAIL_TO_BAND * math.exp(s[TAIL]))


@lean_inline
def aggregate(ratio: F64, aggregation: int) -> float:
    """One deviation of many: the largest, the mean or the root of the mean square."""
    total = 0.0
    for c in range(ratio.size):
        if aggregation == MAX:
            total = max(total, ratio[c])
        else:
            total += ratio[c] * ratio[c] if aggregation == L2 else ratio[c]
    if aggregation == MAX:
        return total
    return math.sqrt(total / ratio.size) if aggregation == L2 else total / ratio.size


@lean_inline
def band_width(group: F64) -> float:
    """Factor by which the bands of all channels are wider so that the aggregate is beyond 1 no more often than one."""
    return max(1.0, _BAND_MARGIN * math.exp(group[BAND_TAIL]))


@lean_inline
def has_moved(state: Channels) -> bool:
    """Whether any channel has changed yet."""
    largest = 0.0
    for c in range(state.scalars.shape[0]):
        largest = max(largest, state.scalars[c, LEAST])
    return largest > 0.0


@lean_inline
def tail_step(n: float) -> float:
    """Gain of a running high quantile of a logarithm after n points."""
    return max(0.01, 1.0 / (TAIL_SHARE * n + 20.0))


@lean_inline
def learn_band_tail(group: F64, joint: float, rates: JointRates) -> None:
    """The quantile of the aggregated deviations, as they would be with the default width."""
    step = tail_step(group[MOVED] + 1.0)
    is_beyond = math.log(max(joint * rates.width, 1e-9)) > group[BAND_TAIL]
    group[BAND_TAIL] += (1.0 - TAIL_SHARE) * step if is_beyond else -TAIL_SHARE * step


@lean_inline
def learn_channel(
    c: int, value: float, width: float, n_bins: int, rates: JointRates, state: Channels, scratch: Scratch
) -> None:
    """A channel's state after one more row, but for its sum of squares."""
    s, error, size = state.scalars[c], scratch.error[c], scratch.size[c]
    n = state.group[COUNT] + 1.0
    change = abs(value - s[PREVIOUS])
    if change > 0.0 and (s[LEAST] == 0.0 or change < s[LEAST]):
        s[LEAST] = change
    s[PREVIOUS] = value
    half, share = (scratch.above[c], rates.width_above) if error >= 0.0 else (scratch.below[c], rates.width_below)
    ratio = abs(error) / half
    if ratio <= 1.0:
        s[RUN] = 0.0
    else:
        s[RUN] = max(s[RUN], 0.0) + 1.0 if error > 0.0 else min(s[RUN], 0.0) - 1.0
    # The band as the default width would have it, before the tail widens it.
    reference = half / (width * heaviness(s) * share) if share > 0.05 else _NORMAL_BAND * size
    _learn_quantiles(s, error, size, reference, n, rates)
    _learn_level(s, state.profile[c], error, size, n, n_bins, rates, scratch)


@lean_inline
def _learn_quantiles(s: F64, error: float, size: float, reference: float, n: float, rates: JointRates) -> None:
    """Quantiles of a channel's residual and the weight of its tail, by stochastic approximation.

    Source: Robbins and Monro (1951), doi:10.1214/aoms/1177729586.
    """
    gain = 2.5 * size * max(0.003, 1.0 / (0.4 * n + 10.0))
    s[LOW] = min(s[LOW] + gain * (rates.low - (1.0 if error <= s[LOW] else 0.0)), 0.0)
    s[HIGH] = max(s[HIGH] + gain * (rates.high - (1.0 if error <= s[HIGH] else 0.0)), 0.0)
    if n > 16.0:
        is_beyond = math.log(max(abs(error) / reference, 1e-9)) > s[TAIL]
        moved = (1.0 - TAIL_SHARE) * tail_step(n) if is_beyond else -TAIL_SHARE * tail_step(n)
        s[TAIL] = max(s[TAIL] + moved, -1.0)


@lean_inline
def places(calendar: Calendar, t: int, visits: F64, scratch: Scratch) -> int:
    """Bins of the profile at a row and the rate at which each learns; how many there are."""
    n = 0
    for j in range(calendar.left.shape[2]):
        if not learns(calendar, t, j):
            continue
        a, b, share = calendar.left[0, t, j], calendar.right[0, t, j], calendar.share[0, t, j]
        if share < 1.0:
            scratch.bins[n], scratch.gains[n] = a, visit(calendar, j, a, 1.0 - share, visits)
            n += 1
        if share > 0.0:
            scratch.bins[n], scratch.gains[n] = b, visit(calendar, j, b, share, visits)
            n += 1
    return n


@lean_inline
def _learn_level(
    s: F64, profile: F64, error: float, size: float, n: float, n_bins: int, rates: JointRates, scratch: Scratch
) -> None:
    """Move the level, then the profile by what is left; neither by more than `clip` until a shift is confirmed."""
    rate = max(rates.level, 1.0 / n)
    if n > 16.0:
        if abs(s[RUN]) < rates.shift_after:
            error = min(max(error, -rates.clip * size), rates.clip * size)
        else:
            rate = max(rate, 1.0 / rates.shift_after)
    s[LEVEL] += rate * error
    error -= rate * error
    for j in range(n_bins):
        profile[scratch.bins[j]] += scratch.gains[j] * error
