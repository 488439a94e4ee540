"""ARIMA: sums of squares of a multiplicative seasonal model, and their minimum.

A model is kept in the form that predicts the series itself: differences are factors of its autoregressive polynomial,
so a missing value is simply its own prediction and costs nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kernels._jit import F64, I64, kernel
from kernels.arima_lanes import N_LANES, REACH, REACH_ERRORS, dot, short_errors

# Partial autocorrelations stay this far inside the unit circle.
_EDGE = 0.9995
_ROUNDS = 60
# Gains, as shares of the sum of squares, that end a descent: from a start that is tried, from the best one, and from
# each where there are several valleys. After a gain of a millionth a single valley has little more to give.
_COARSE, _FINE, _FINEST = 1e-2, 1e-6, 1e-9
# The last steps of a row tell which start is the best.
_TRIAL = 500


class Orders(NamedTuple):
    """Orders of the model and what follows from them.

    Parameters
    ----------
    p, q, sp, sq : autoregressive and moving-average orders, the latter two seasonal, `period` points apart.
    has_mean : the differenced series has a mean to be found.
    difference : (D+1,) polynomial of all differences, lowest power first; its first coefficient is 1.
    """

    p: int
    q: int
    sp: int
    sq: int
    period: int
    has_mean: int
    difference: F64


@kernel
def n_parameters(orders: Orders) -> int:
    """Numbers that a fit looks for."""
    return orders.p + orders.q + orders.sp + orders.sq + orders.has_mean


@kernel
def _coefficients(raw: F64) -> F64:
    """Coefficients of a stationary process from unbounded numbers.

    Source: Monahan (1984), doi:10.1093/biomet/71.2.403: partial autocorrelations, then Durbin and Levinson.
    """
    n = raw.size
    out = np.zeros(n)
    before = np.zeros(n)
    for k in range(n):
        r = _EDGE * raw[k] / math.sqrt(1.0 + raw[k] * raw[k])
        for j in range(k):
            out[j] = before[j] - r * before[k - 1 - j]
        out[k] = r
        before[: k + 1] = out[: k + 1]
    return out


@kernel
def _polynomial(coefficients: F64, seasonal: F64, period: int) -> F64:
    """(1 - Σ c_i B^i)(1 - Σ C_j B^(j period)), lowest power first."""
    out = np.zeros(coefficients.size + seasonal.size * period + 1)
    for j in range(seasonal.size + 1):
        outer = 1.0 if j == 0 else -seasonal[j - 1]
        for i in range(coefficients.size + 1):
            inner = 1.0 if i == 0 else -coefficients[i - 1]
            out[i + j * period] += outer * inner
    return out


@kernel
def expand(raw: F64, orders: Orders) -> tuple[F64, F64, float]:
    """Autoregressive polynomial of the series itself, moving-average polynomial, and the constant of its recursion."""
    p, q, sp, sq = orders.p, orders.q, orders.sp, orders.sq
    own = _polynomial(_coefficients(raw[:p]), _coefficients(raw[p : p + sp]), orders.period)
    errors = raw[p + sp :]
    average = _polynomial(_coefficients(errors[:q]), _coefficients(errors[q : q + sq]), orders.period)
    constant = raw[raw.size - 1] * own.sum() if orders.has_mean == 1 else 0.0
    full = np.zeros(own.size + orders.difference.size - 1)
    for i in range(own.size):
        for j in range(orders.difference.size):
            full[i + j] += own[i] * orders.difference[j]
    return full, average, constant


@kernel
def one_step(y: F64, start: int, own: F64, average: F64, constant: float, filled: F64, errors: F64, out: F64) -> None:
    """Predictions of each value from those before it.

    Parameters
    ----------
    y : (T,) NaN is missing. The first `start` values are taken as they are, their errors as 0.
    filled, errors : (T,) set from `start` on: values, predictions where missing; errors, 0 where missing. Before
        `start` they are read.
    out : (T,) predictions from `start` on.
    """
    lags = np.flatnonzero(own[1:]) + 1
    back = np.flatnonzero(average[1:]) + 1
    for t in range(start, y.size):
        expected = constant
        for lag in lags:
            if lag <= t:
                expected -= own[lag] * filled[t - lag]
        for lag in back:
            if lag <= t:
                expected += average[lag] * errors[t - lag]
        out[t] = expected
        if math.isfinite(y[t]):
            filled[t], errors[t] = y[t], y[t] - expected
        else:
            filled[t], errors[t] = expected, 0.0


@kernel
def _sum_of_squares(y: F64, start: int, raw: F64, orders: Orders, filled: F64, errors: F64, out: F64) -> float:
    """Squared errors of a row, those before its start included, which are the last numbers of `raw`."""
    n = n_parameters(orders)
    own, average, constant = expand(raw[:n], orders)
    errors[:start] = 0.0
    errors[start - raw.size + n : start] = raw[n:]
    one_step(y, start, own, average, constant, filled, errors, out)
    total = np.sum(errors * errors)
    return total if math.isfinite(total) else math.inf


@kernel
def _solve(matrix: F64, vector: F64) -> F64:
    """Solution of a positive definite system by Cholesky's factors; zeros where it is not."""
    n = vector.size
    low, out = np.zeros((n, n)), np.zeros(n)
    for i in range(n):
        for j in range(i + 1):
            rest = matrix[i, j]
            for k in range(j):
                rest -= low[i, k] * low[j, k]
            if i == j:
                if not rest > 0.0:
                    return out
                low[i, i] = math.sqrt(rest)
            else:
                low[i, j] = rest / low[j, j]
    for i in range(n):
        out[i] = vector[i]
        for k in range(i):
            out[i] -= low[i, k] * out[k]
        out[i] /= low[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            out[i] -= low[k, i] * out[k]
        out[i] /= low[i, i]
    return out


@kernel
def _errors_of(y: F64, start: int, sets: F64, orders: Orders, filled: F64, out: F64, errors: F64) -> float:
    """Errors of a row for each set of parameters; the squares of the first ones added up, infinite if they are not."""
    n, n_sets = n_parameters(orders), sets.shape[0]
    n_before = sets.shape[1] - n
    is_short = orders.p + orders.sp * orders.period + orders.difference.size - 1 <= REACH
    if not is_short or orders.q + orders.sq * orders.period > REACH_ERRORS:
        for j in range(n_sets):
            _sum_of_squares(y, start, sets[j], orders, filled, errors[j], out)
    else:
        own, average = np.zeros((N_LANES, REACH + 1)), np.zeros((N_LANES, REACH_ERRORS + 1))
        constant = np.zeros(N_LANES)
        for first in range(0, n_sets, N_LANES):
            for k in range(min(N_LANES, n_sets - first)):
                full, means, constant[k] = expand(sets[first + k, :n], orders)
                own[k, : full.size], average[k, : means.size] = full, means
                errors[first + k, :start] = 0.0
                errors[first + k, start - n_before : start] = sets[first + k, n:]
            short_errors(y, start, own, average, constant, filled, errors[first : first + N_LANES])
    total = dot(errors[0], errors[0])
    return total if math.isfinite(total) else math.inf


@kernel
def _descend(
    y: F64, start: int, raw: F64, orders: Orders, size: float, tolerance: float, filled: F64, out: F64, errors: F64
) -> float:
    """Levenberg and Marquardt's descent from `raw`, which becomes the minimum; returns the sum of squares there.

    It ends where a step gains less than `tolerance` of the sum, or is expected to. `errors` is scratch for as many sets
    of parameters as there are parameters and one, in whole lanes: each step runs all at once.
    """
    n, place = raw.size, n_parameters(orders) - 1
    steps, sets = np.empty(n), np.empty((n + 1, n))
    for j in range(n):
        steps[j] = 1e-5 * (size if j > place or (orders.has_mean == 1 and j == place) else 1.0)
    best = _errors_of(y, start, _beside(raw, steps, sets), orders, filled, out, errors)
    normal, gradient = np.empty((n, n)), np.empty(n)
    damping = 1e-3
    for _ in range(_ROUNDS):
        for j in range(n):
            _slope(errors[j + 1], errors[0], 1.0 / steps[j])
            gradient[j] = -dot(errors[j + 1], errors[0])
            for k in range(j + 1):
                normal[j, k] = normal[k, j] = dot(errors[j + 1], errors[k + 1])
        gain = 0.0
        for _try in range(8):
            damped = normal.copy()
            for j in range(n):
                damped[j, j] += damping * max(normal[j, j], 1e-12 * best)
            move = _solve(damped, gradient)
            if not dot(move, gradient) > 0.1 * tolerance * best:
                break
            moved = raw + move
            total = _errors_of(y, start, _beside(moved, steps, sets), orders, filled, out, errors)
            if total < best:
                gain = (best - total) / best
                raw[:], best = moved, total
                damping = max(damping / 5.0, 1e-9)
                break
            damping *= 6.0
        if gain < tolerance:
            break
    return best


@kernel
def _beside(raw: F64, steps: F64, sets: F64) -> F64:
    """The parameters, and each of them in turn a step away."""
    for j in range(raw.size + 1):
        sets[j] = raw
        if j > 0:
            sets[j, j - 1] += steps[j - 1]
    return sets


@kernel
def _slope(moved: F64, base: F64, scale: float) -> None:
    """Turn errors a step of 1 / scale away into their slope."""
    for t in range(base.size):
        moved[t] = (moved[t] - base[t]) * scale


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
                total = _descend(row[before:], late, raw, orders, size, tolerance, filled[before:], out, trial)
                if total < best:
                    best, found = total, raw
        if n > 0 and is_trial:
            found[n:] = 0.0  # errors before the trial's steps
            _descend(row, start, found, orders, size, _FINE, filled, out, scratch)
        total = _sum_of_squares(row, start, found, orders, filled, errors, out)
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
    count, total, squares = 0.0, 0.0, 0.0
    for t in range(first + difference.size - 1, filled.size):
        value = 0.0
        for j in range(difference.size):
            value += difference[j] * filled[t - j]
        count += 1.0
        delta = value - total
        total += delta / count
        squares += delta * (value - total)
    return total, max(math.sqrt(squares / max(count, 1.0)), 1e-12)
