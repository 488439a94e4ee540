"""Predictions of a fitted changepoint model at any times, with the bounds of noise and future bends of the trend."""

from __future__ import annotations

import math

from kernels._jit import B1, F64, kernel
from kernels.changepoint_row import CAP, GROWTH, LOGISTIC, N_CHANGES, OFFSET, SCALE, SHIFT, SIGMA, SLOPE, SPAN, START
from kernels.trend_noise import deviation

# Scale that Prophet adds to the mean size of the slope changes.
_CHANGE_MIN = 1e-8


@kernel
def add_columns(columns: F64, coefficients: F64, chosen: B1, out: F64) -> None:
    """Sum of the chosen regressors, weighted by each row's coefficients.

    Parameters
    ----------
    columns : (K, T). coefficients : (S, K). chosen : (K,).
    out : (S, T), replaced.

    Notes
    -----
    O(S K T). Sums run over K in order for every element, so results do not depend on how rows are cut.
    """
    for i in range(out.shape[0]):
        row = out[i]
        row[:] = 0.0
        for k in range(columns.shape[0]):
            coefficient = coefficients[i, k]
            if chosen[k] and coefficient != 0.0:
                for t in range(row.size):
                    row[t] += coefficient * columns[k, t]


@kernel
def forecast_trend(time: F64, options: F64, scalars: F64, changepoints: F64, changes: F64, out: F64) -> None:
    """The trend in the unit of the data.

    Parameters
    ----------
    time : (T,) days as in the fit, rising. options, scalars, changepoints, changes : as `fit_changepoints` has them.
    out : (S, T), replaced.
    """
    is_logistic = options[GROWTH] == LOGISTIC
    for i in range(out.shape[0]):
        row, trend = scalars[i], out[i]
        scale, shift = row[SCALE], row[SHIFT]
        cap = (options[CAP] - shift) / scale if is_logistic else 0.0
        rate, base = row[SLOPE], -row[SLOPE] * row[OFFSET] if is_logistic else row[OFFSET]
        start = 0
        for c in range(changepoints.shape[1] + 1):
            stop = start
            if c == changepoints.shape[1]:
                stop = time.size
            while stop < time.size and (time[stop] - row[START]) / row[SPAN] < changepoints[i, c]:
                stop += 1
            for t in range(start, stop):
                trend[t] = rate * ((time[t] - row[START]) / row[SPAN]) + base
            start = stop
            if c < changepoints.shape[1]:
                rate += changes[i, c]
                base -= changes[i, c] * changepoints[i, c]
        for t in range(time.size):
            trend[t] = (cap / (1.0 + math.exp(-trend[t])) if is_logistic else trend[t]) * scale + shift


@kernel
def trend_half_width(
    time: F64, options: F64, scalars: F64, changes: F64, trend: F64, level: float, table: F64, out: F64
) -> None:
    """Half-width of the trend's interval in the unit of the data: 0 up to the end of the fit, then that of its bends.

    Parameters
    ----------
    trend : (S, T) as `forecast_trend` returns it. out : (S, T), replaced. The others as in `forecast_band`.
    """
    for i in range(out.shape[0]):
        row = scalars[i]
        size = _CHANGE_MIN + _mean_change(changes[i], row[N_CHANGES])
        for t in range(time.size):
            ahead = (time[t] - row[START]) / row[SPAN] - 1.0
            out[i, t] = 0.0
            if ahead > 0.0 and row[N_CHANGES] > 0.0:
                # With no noise the bends alone: the ratio at the table's end.
                reach = ahead * size * _gain(options, row, trend[i, t]) * row[SCALE]
                out[i, t] = level * reach * deviation(ahead * row[N_CHANGES], 8192.0, table) / 8192.0


@kernel
def forecast_band(
    time: F64, options: F64, scalars: F64, changes: F64, columns: F64, coefficients: F64, is_factor: B1, trend: F64,
    level: float, table: F64, yhat: F64, lower: F64, upper: F64,
) -> None:  # fmt: skip
    """Predictions and their interval: the noise and, past the fit, the bends that the trend may have taken.

    Parameters
    ----------
    time : (T,) days as in the fit, rising. options, scalars, changes, coefficients : as `fit_changepoints` has them.
    columns : (K, T) regressors. is_factor : (K,) those that multiply the trend.
    trend : (S, T) as `forecast_trend` returns it.
    level : half-width of the interval for a standard normal.
    table : (R, Q) by `deviation_table`, for the same interval.
    yhat, lower, upper : (S, T), replaced.
    """
    add_columns(columns, coefficients, is_factor, upper)
    add_columns(columns, coefficients, ~is_factor, lower)
    for i in range(yhat.shape[0]):
        row, terms, factors = scalars[i], lower[i], upper[i]
        size = _CHANGE_MIN + _mean_change(changes[i], row[N_CHANGES])
        scale, half = row[SCALE], level * row[SIGMA] * row[SCALE]
        fitted = 0
        while fitted < time.size and (time[fitted] - row[START]) / row[SPAN] <= 1.0:
            fitted += 1
        for t in range(time.size):
            width = half
            if t >= fitted and row[N_CHANGES] > 0.0:
                ahead = (time[t] - row[START]) / row[SPAN] - 1.0
                ratio = ahead * size * abs(1.0 + factors[t]) * _gain(options, row, trend[i, t]) / row[SIGMA]
                width *= deviation(ahead * row[N_CHANGES], ratio, table)
            y = trend[i, t] * (1.0 + factors[t]) + terms[t] * scale
            yhat[i, t], terms[t], factors[t] = y, y - width, y + width


@kernel
def _gain(options: F64, row: F64, trend: float) -> float:
    """What a bend of the trend's linear term does to the trend, in the scale of the fit."""
    if options[GROWTH] != LOGISTIC:
        return 1.0
    cap = (options[CAP] - row[SHIFT]) / row[SCALE]
    share = (trend - row[SHIFT]) / (row[SCALE] * cap)
    return float(cap * share * (1.0 - share))


@kernel
def _mean_change(changes: F64, count: float) -> float:
    total = 0.0
    for j in range(changes.size):
        total += abs(changes[j])
    return total / max(count, 1.0)
