"""ARIMA: the fit of many series."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, I64, kernel
from kernels.arima import Orders
from kernels.arima_descent import descend, sum_of_squares
from kernels.arima_lanes import N_LANES

# Gains, as shares of the sum of squares, that end a descent: from a start that is tried, from the best one, and from
# each where there are several valleys. A sum of 4,000 squares
# is 25 times the second of these above its minimum where a parameter is one standard error away.
_COARSE, _FINE, _FINEST = 1e-2, 1e-5, 1e-9
# The last steps of a row tell which start is the best.
_TRIAL = 500


@kernel
def fit_arima(y: F64, orders: Orders, raw_out: F64, sigma: F64, n_points: I64, history: F64, errors_out: F64) -> None:
    """The parameters of each row with the least sum of squares.

    Parameters
    ----------
    y : (S, T), unit of the query; NaN is missing.
    raw_out : (S, n) unbounded parameters for `expand`. sigma : (S,) standard deviation of the one-step errors.
    n_points : (S,) values that had a prediction; 0 where there are too few for a fit.
    history, errors_out : (S, L) values (predictions where missing) and errors of the last L steps, newest last.

    Notes
    -----
    Three starts: no dependence, and a moving average of either sign. For one error of the past a short descent each on
    the last steps shows the best, which goes all the way down; more errors have more valleys, so all go all the way.
    O(S T n) a round. Rows are independent.
    """
    n_series, n_steps = y.shape
    n, n_kept = raw_out.shape[1], history.shape[1]
    # Errors before the first prediction are found with the parameters: near the edge of invertibility they matter.
    n_before = orders.q if orders.sq == 0 else 0
    n_taken = max(orders.p + orders.sp * orders.period + orders.difference.size - 1, n_before)
    n_lanes = (n + n_before) // N_LANES * N_LANES + N_LANES
    scratch = np.empty((n_lanes, n_steps))
    is_trial = orders.q + orders.sq <= 1
    before = n_steps - min(n_steps, n_taken + _TRIAL) if is_trial else 0
    tolerance = _COARSE if is_trial else _FINEST
    trial = np.empty((n_lanes, n_steps - before))
    for i in range(n_series):
        row, filled, errors, out = y[i], np.zeros(n_steps), np.zeros(n_steps), np.zeros(n_steps)
        n_points[i] = 0
        first = 0
        while first < n_steps and not math.isfinite(row[first]):
            first += 1
        start = first + n_taken
        count = 0
        for t in range(start, n_steps):
            count += math.isfinite(row[t])
        if count < n + 2:
            continue
        last = row[first]
        for t in range(n_steps):
            last = row[t] if math.isfinite(row[t]) else last
            filled[t] = last
        mean, size = _mean_of_differences(filled, first, orders)
        best, found = math.inf, np.zeros(n + n_before)
        n_starts = 3 if orders.q > 0 else 1
        for number in range(n_starts):
            raw = np.zeros(n + n_before)
            if orders.has_mean == 1:
                raw[n - 1] = mean
            if number > 0:
                raw[orders.p + orders.sp] = 0.6 if number == 1 else -0.6
            if n > 0:
                late = max(start - before, n_taken)
                total = descend(row[before:], late, raw, orders, size, tolerance, filled[before:], out, trial)
                if total < best:
                    best, found = total, raw
        if n > 0 and is_trial:
            found[n:] = 0.0  # errors before the trial's steps
            descend(row, start, found, orders, size, _FINE, filled, out, scratch)
        total = sum_of_squares(row, start, found, orders, filled, errors, out)
        raw_out[i], n_points[i] = found[:n], count
        sigma[i] = math.sqrt(total / count)
        kept = min(n_kept, n_steps)  # what was before the window is as its first value
        history[i], errors_out[i] = filled[0], 0.0
        history[i, n_kept - kept :] = filled[n_steps - kept :]
        errors_out[i, n_kept - kept :] = errors[n_steps - kept :]


@kernel
def _mean_of_differences(filled: F64, first: int, orders: Orders) -> tuple[float, float]:
    """Mean and standard deviation of the differenced series, the latter never 0."""
    difference = orders.difference
    n_lags = difference.size - 1
    shift, total, squares = 0.0, 0.0, 0.0
    for t in range(first + n_lags, filled.size):
        value = 0.0
        for j in range(n_lags + 1):
            value += difference[j] * filled[t - j]
        if t == first + n_lags:
            shift = value  # sums around the first value: little of the squares cancels
        total += value - shift
        squares += (value - shift) * (value - shift)
    count = max(filled.size - first - n_lags, 1)
    variance = squares / count - (total / count) * (total / count)
    return shift + total / count, max(math.sqrt(max(variance, 0.0)), 1e-12)
