"""Multivariate temporal envelope: a band for each channel of a group, and one score for them together.

Each channel has a level, a seasonal profile and quantiles of its residual, which make its band. Beside the bands goes
the distance of the whole row under the channels' common factors, smoothed over a few rows and measured against its own
high quantile: it sees what no channel shows alone, and what many show a little. The score is the larger one of the
aggregated deviations from the bands and that distance.
"""

from __future__ import annotations

import math

from kernels._jit import F64, lean_inline, lean_kernel
from kernels.envelope_mv_distance import joint_distance, learn_blame, learn_distance, learn_factors
from kernels.envelope_mv_parts import (
    SIZE_OF_CHANGE,
    aggregate,
    band_width,
    has_moved,
    learn_band_tail,
    learn_channel,
    places,
    set_widths,
)
from kernels.envelope_mv_state import (
    BLAME,
    COUNT,
    LEAST,
    LEVEL,
    MOVED,
    PREVIOUS,
    UNIQUE,
    Channels,
    JointRates,
    Scratch,
)
from kernels.envelope_state import Calendar
from kernels.factors import row_distance
from kernels.profile import profile_at

# Fourth powers of what is larger, in the least standard deviation of 1e-12, would be no numbers.
LARGEST = 1e60


@lean_kernel
def envelope_mv_run(
    y: F64,
    calendar: Calendar,
    rates: JointRates,
    state: Channels,
    scratch: Scratch,
    yhat_out: F64,
    lower_out: F64,
    upper_out: F64,
    far_out: F64,
    blame_out: F64,
) -> None:
    """Predict each row of a group from the state before it, measure how far it is from that, then learn it.

    Parameters
    ----------
    y : (C, T), units of the queries. A row with a channel that is NaN, inf or beyond 1e60 is left out.
    calendar : of `y`'s steps.
    state : updated in place.
    yhat_out, lower_out, upper_out : (C, T); NaN for rows that are left out. (0, 0): only learn.
    far_out : (T,) distance of the row, 1 where it is just anomalous; NaN for rows that are left out.
    blame_out : (C, T) smoothed squared deviations of the channels, in variances.

    Notes
    -----
    O(T C (K^2 + bins of a row)), allocates nothing. Two calls over two halves of `y` give bit for bit the results of
    one call over the whole. Sums run in the order of the channels. Shapes are trusted. Raises nothing.
    """
    n_channels, n_steps = y.shape
    group, scalars = state.group, state.scalars
    writes = yhat_out.shape[0] > 0
    for t in range(n_steps):
        is_complete = True
        for c in range(n_channels):
            is_complete = is_complete and abs(y[c, t]) <= LARGEST
        if not is_complete:
            if writes:
                far_out[t] = math.nan
                for c in range(n_channels):
                    yhat_out[c, t] = lower_out[c, t] = upper_out[c, t] = blame_out[c, t] = math.nan
            continue
        if group[COUNT] == 0.0:
            for c in range(n_channels):
                scalars[c, LEVEL] = scalars[c, PREVIOUS] = y[c, t]
                scalars[c, UNIQUE] = 1.0
        _expect(y, t, calendar, rates, state, scratch)
        distance = row_distance(scratch.deviation, state.loadings, scalars[:, UNIQUE], scratch.gram, scratch.solved)
        if writes:
            for c in range(n_channels):
                yhat_out[c, t] = scratch.expected[c]
                lower_out[c, t] = scratch.expected[c] - scratch.below[c]
                upper_out[c, t] = scratch.expected[c] + scratch.above[c]
            far_out[t] = joint_distance(distance, rates, group)
        _learn(y, t, distance, calendar, rates, state, scratch)
        if writes:
            for c in range(n_channels):
                blame_out[c, t] = scalars[c, BLAME]


@lean_inline
def _expect(y: F64, t: int, calendar: Calendar, rates: JointRates, state: Channels, scratch: Scratch) -> None:
    """What is expected of a row's channels, and how far from that they are."""
    width = band_width(state.group)
    for c in range(y.shape[0]):
        s = state.scalars[c]
        season, _ = profile_at(calendar, 0, t, state.profile[c], state.visits)
        scratch.expected[c] = s[LEVEL] + season
        set_widths(c, s, state.group, width, rates, scratch)
        error = y[c, t] - scratch.expected[c]
        if s[LEAST] == 0.0:  # the first change ever is as far as any, but not infinitely
            scratch.size[c] = max(scratch.size[c], SIZE_OF_CHANGE * abs(y[c, t] - s[PREVIOUS]))
        scratch.error[c] = error
        scratch.deviation[c] = error / scratch.size[c]
        scratch.ratio[c] = abs(error) / (scratch.above[c] if error >= 0.0 else scratch.below[c])


@lean_inline
def _learn(
    y: F64,
    t: int,
    distance: float,
    calendar: Calendar,
    rates: JointRates,
    state: Channels,
    scratch: Scratch,
) -> None:
    """All of the state after one more row."""
    group = state.group
    width = band_width(group)
    n_bins = places(calendar, t, state.visits, scratch)
    for c in range(y.shape[0]):
        learn_channel(c, y[c, t], width, n_bins, rates, state, scratch)
    group[COUNT] += 1.0
    if not has_moved(state):  # constants say nothing of how far rows are from what is usual
        return
    learn_band_tail(group, aggregate(scratch.ratio, rates.aggregation) * width, rates)
    learn_blame(state, rates, scratch)
    weight = learn_distance(group, distance, rates)
    learn_factors(state, weight, rates, scratch)
    group[MOVED] += 1.0
