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
    """Add the chosen regressors, weighted by each row's coefficients.

    Parameters
    ----------
    columns : (K, T). coefficients : (S, K). chosen : (K,).
    out : (S, T), added to.

    Notes
    -----
    O(S K T). Sums run over K in order for every element, so results do not depend on how rows are cut.
    """
    for i in range(out.shape[0]):
        row = out[i]
        for k in range(columns.shape[0]):
            coefficient = coefficients[i, k]
            if chosen[k] and coefficient != 0.0:
                for t in range(row.size):
                    row[t] += coefficient * columns[k, t]


@kernel
def forecast_trend(
    time: F64, options: F64, scalars: F64, changepoints: F64, changes: F64, level: float, table: F64, out: F64,
    half_width: F64,
) -> None:  # fmt: skip
    """The trend in the unit of the data.

    Parameters
    ----------
    time : (T,) days as in the fit, rising. options, scalars, changepoints, changes : as `fit_changepoints` has them.
    level : half-width of the interval for a standard normal.
    table : (R, Q) by `deviation_table`, for the same interval.
    out, half_width : (S, T), replaced. half_width is 0 up to the end of the fit.
    """
    is_logistic = options[GROWTH] == LOGISTIC
    for i in range(out.shape[0]):
        row = scalars[i]
        cap = (options[CAP] - row[SHIFT]) / row[SCALE] if is_logistic else 0.0
        size = _CHANGE_MIN + _mean_change(changes[i], row[N_CHANGES])
        rate, base = row[SLOPE], -row[SLOPE] * row[OFFSET] if is_logistic else row[OFFSET]
        c = 0
        for t in range(time.size):
            x = (time[t] - row[START]) / row[SPAN]
            while c < changepoints.shape[1] and changepoints[i, c] <= x:
                rate += changes[i, c]
                base -= changes[i, c] * changepoints[i, c]
                c += 1
            value, gain = rate * x + base, 1.0
            if is_logistic:
                share = 1.0 / (1.0 + math.exp(-value))
                value, gain = cap * share, cap * share * (1.0 - share)
            out[i, t] = value * row[SCALE] + row[SHIFT]
            half_width[i, t] = 0.0
            if x > 1.0 and row[N_CHANGES] > 0.0:
                # With no noise the bends alone: the ratio at the table's end.
                reach = (x - 1.0) * size * gain * row[SCALE]
                half_width[i, t] = level * reach * deviation((x - 1.0) * row[N_CHANGES], 8192.0, table) / 8192.0


@kernel
def _mean_change(changes: F64, count: float) -> float:
    total = 0.0
    for j in range(changes.size):
        total += abs(changes[j])
    return total / max(count, 1.0)


@kernel
def forecast_half_width(
    time: F64, options: F64, scalars: F64, changes: F64, trend: F64, factor: F64, level: float, table: F64, out: F64
) -> None:
    """Half-width of the predictions' interval: the noise and, past the fit, the bends that the trend may have taken.

    Parameters
    ----------
    trend : (S, T) as `forecast_trend` returns it. factor : (S, T) what the trend is multiplied by.
    out : (S, T), replaced. The others as in `forecast_trend`.
    """
    is_logistic = options[GROWTH] == LOGISTIC
    for i in range(out.shape[0]):
        row = scalars[i]
        cap = (options[CAP] - row[SHIFT]) / row[SCALE] if is_logistic else 0.0
        size = _CHANGE_MIN + _mean_change(changes[i], row[N_CHANGES])
        for t in range(time.size):
            ahead = (time[t] - row[START]) / row[SPAN] - 1.0
            width = level * row[SIGMA]
            if ahead > 0.0 and row[N_CHANGES] > 0.0:
                gain = abs(factor[i, t])
                if is_logistic:
                    share = (trend[i, t] - row[SHIFT]) / (row[SCALE] * cap)
                    gain *= cap * share * (1.0 - share)
                width *= deviation(ahead * row[N_CHANGES], ahead * size * gain / row[SIGMA], table)
            out[i, t] = width * row[SCALE]
