"""Temporal envelope: a band around three moving levels, with seasons, that keeps its false-alarm rate by itself.

Three streams follow a series: residuals of the value from a fast and a mid level, and of a smoothed value from a slow
one. Each residual is measured in its own scale, on its own side. The band is where all of them are below one threshold,
which follows a high quantile of the largest one. Seasonal profiles in civil time move the levels as far as they have
been seen to help. Beside the band goes how far the series is from all its past, which ranks what is unusual.
"""

from __future__ import annotations

import math

from kernels._jit import F64, I64, lean_inline, lean_kernel
from kernels.envelope_parts import (
    band,
    bridge_gap,
    forecast,
    largest_residual,
    learn_base,
    learn_least,
    learn_levels,
    learn_past,
    learn_scale,
    learn_weight,
    residual,
    set_scales,
    unusual,
)
from kernels.envelope_state import (
    ALARM,
    BASE,
    CALM,
    COUNT,
    FAST,
    LAST_MS,
    LEVEL,
    LOOSE,
    MARGIN,
    MEAN,
    MID,
    N_STREAMS,
    PREVIOUS,
    SEASON,
    SLOW,
    SMOOTHED,
    TAIL,
    Calendar,
    Rates,
    Rows,
)
from kernels.envelope_threshold import learn_peak, learn_tail, threshold, usual_peak
from kernels.profile import profile_at, profile_learn

# The square of anything larger is not a number that sums could hold.
LARGEST = 1e150


@lean_kernel
def envelope_run(
    y: F64,
    timestamps_ms: I64,
    calendar: Calendar,
    rates: Rates,
    state: Rows,
    scales: F64,
    band_out: F64,
    unusual_out: F64,
    forecast_out: F64,
) -> None:
    """Predict each step from the state before it, then learn it.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN, inf or beyond 1e150: nothing is learned.
    timestamps_ms : (T,) increasing. Steps that are left out count as missing.
    state : updated in place.
    scales : (`N_SCALES`,) room for the sizes of one step's residuals.
    band_out : (3, S, T) yhat, lower, upper; NaN while a row has learned nothing. (3, 0, 0): only learn.
    unusual_out : (S, T) 0..1, how far the row is from all its past.
    forecast_out : (3, H, S, T) yhat, lower, upper at the calendar's offsets.

    Notes
    -----
    O(S T), allocates nothing. Rows are independent; two calls over two halves of `y` give bit for bit the results of
    one call over the whole. Shapes are trusted. Raises nothing.
    """
    n_series, n_steps = y.shape
    writes = band_out.shape[1] > 0
    for i in range(n_series):
        s = state.scalars[i]
        row = Rows(s, state.hours[i], state.peaks[i], state.profile[i], state.visits[i])
        for t in range(n_steps):
            value = y[i, t]
            is_point = abs(value) <= LARGEST
            if s[COUNT] == 0.0:
                if writes:
                    band_out[:, i, t] = math.nan
                    forecast_out[:, :, i, t] = math.nan
                    unusual_out[i, t] = 0.0
                if is_point:
                    _begin(s, value)
                    _learn(row, calendar, rates, t, timestamps_ms[t], value, 0.0, True, 0.0)
                continue
            season, is_known = profile_at(calendar, 0, t, row.profile, row.visits)
            if not is_known:
                season = s[SEASON]
            n_missing = (timestamps_ms[t] - s[LAST_MS]) / rates.step_ms - 1.0
            if is_point and n_missing >= 1.0:
                bridge_gap(s, season, n_missing, rates)
            set_scales(s, scales)
            size = usual_peak(threshold(s), row.peaks[1, calendar.quarter[t]])
            center, lower, upper = band(s, scales, season, size, rates)
            if writes:
                band_out[0, i, t], band_out[1, i, t], band_out[2, i, t] = center, lower, upper
                _forecast(row, calendar, rates, t, size, forecast_out[:, :, i])
            if is_point:
                largest = largest_residual(s, scales, value, season, rates)
                far = unusual(s, row.hours, calendar.hour[t], value, largest / size, rates)
                if writes:
                    unusual_out[i, t] = far
                s[ALARM] *= rates.fade
                if (value < lower or value > upper) and s[COUNT] >= rates.warm_up:
                    s[ALARM] = 1.0
                _learn(row, calendar, rates, t, timestamps_ms[t], value, season, is_known, largest)


@lean_inline
def _begin(s: F64, value: float) -> None:
    """The state of a row at its first point, before that is learned."""
    for k in range(N_STREAMS):
        s[LEVEL + k] = value
    s[SMOOTHED] = s[CALM] = s[MEAN] = s[BASE] = s[PREVIOUS] = value
    s[TAIL], s[MARGIN] = math.log(3.3), math.log(1.3)


@lean_inline
def _learn(
    row: Rows,
    calendar: Calendar,
    rates: Rates,
    t: int,
    now_ms: int,
    value: float,
    season: float,
    is_known: bool,
    largest: float,
) -> None:
    """All of a row's state after one more point."""
    s = row.scalars
    errors = (
        residual(FAST, s, value, season, rates),
        residual(MID, s, value, season, rates),
        residual(SLOW, s, value, season, rates),
    )
    if s[COUNT] > 0.0 and is_known:
        learn_weight(s, value, season, rates)
    learn_levels(s, value, season, rates)  # before the scales: they bound what an outlier may move
    if s[COUNT] > 0.0:
        learn_tail(s, largest)
        learn_peak(s, row.peaks, calendar.quarter[t], largest)
        for k in range(N_STREAMS):
            learn_scale(k, s, errors[k], rates)
    learn_past(s, row.hours, calendar.hour[t], value, rates)
    error = value - s[BASE] - (season if is_known else 0.0)
    profile_learn(calendar, t, learn_base(s, error, season, rates), row.profile, row.visits)
    learn_least(s, value, largest)
    s[LOOSE] *= 1.0 - rates.slow
    s[PREVIOUS], s[SEASON], s[LAST_MS] = value, season, now_ms
    s[COUNT] += 1.0


@lean_inline
def _forecast(row: Rows, calendar: Calendar, rates: Rates, t: int, size: float, out: F64) -> None:
    """Expectation and bounds at the calendar's offsets, from the state before a step."""
    for j in range(calendar.steps_ahead.size):
        season, _ = profile_at(calendar, j + 1, t, row.profile, row.visits)
        center, spread = forecast(row.scalars, season, calendar.steps_ahead[j], rates)
        out[0, j, t] = center
        out[1, j, t] = center - rates.width_below * size * spread
        out[2, j, t] = center + rates.width_above * size * spread
