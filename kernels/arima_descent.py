"""ARIMA: sums of squares of a row, and the way down to their minimum."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, kernel
from kernels.arima import Orders, expand, n_parameters, one_step
from kernels.arima_lanes import N_LANES, REACH, REACH_ERRORS, dot, short_errors

_ROUNDS = 60
# How far a step is shortened or stretched at most.
_STRETCH = (0.3, 4.0)
# Errors of so many steps, for five parameters, stay in the second cache while they are multiplied.
_BLOCK = 1024


@kernel
def sum_of_squares(y: F64, start: int, raw: F64, orders: Orders, filled: F64, errors: F64, out: F64) -> float:
    """Squared errors of a row, those before its start included, which are the last numbers of `raw`."""
    n = n_parameters(orders)
    own, average, constant = expand(raw[:n], orders)
    errors[:start] = 0.0
    errors[start - raw.size + n : start] = raw[n:]
    one_step(y, start, own, average, constant, filled, errors, out)
    total = dot(errors, errors)
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
            sum_of_squares(y, start, sets[j], orders, filled, errors[j], out)
    else:
        own, average = np.zeros((N_LANES, REACH + 1)), np.zeros((N_LANES, REACH_ERRORS + 1))
        constant = np.zeros(N_LANES)
        for first in range(0, n_sets, N_LANES):
            for k in range(min(N_LANES, n_sets - first)):
                if k > 0 and np.array_equal(sets[first + k, :n], sets[first, :n]):  # errors before the start differ
                    own[k], average[k], constant[k] = own[0], average[0], constant[0]
                else:
                    full, means, constant[k] = expand(sets[first + k, :n], orders)
                    own[k, : full.size], average[k, : means.size] = full, means
                errors[first + k, :start] = 0.0
                errors[first + k, start - n_before : start] = sets[first + k, n:]
            short_errors(y, start, own, average, constant, filled, errors[first : first + N_LANES])
    total = dot(errors[0], errors[0])
    return total if math.isfinite(total) else math.inf


@kernel
def descend(
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
    before, scale = np.zeros(n), 1.0
    damping = 1e-3
    for _ in range(_ROUNDS):
        _normal_equations(errors, steps, normal, gradient)
        gain = 0.0
        for _try in range(8):
            damped = normal.copy()
            for j in range(n):
                damped[j, j] += damping * max(normal[j, j], 1e-12 * best)
            move = _solve(damped, gradient)
            if not dot(move, gradient) > tolerance * best:
                break
            scale = _stretch(normal, before, move, scale) if _try == 0 else 1.0
            moved = raw + scale * move
            total = _errors_of(y, start, _beside(moved, steps, sets), orders, filled, out, errors)
            if total < best:
                gain = (best - total) / best
                raw[:], best, before = moved, total, move
                damping = max(damping / 5.0, 1e-9)
                break
            # A step that was stretched is first tried as it is.
            damping *= 6.0 if scale == 1.0 else 1.0
        if gain < tolerance:
            break
    return best


@kernel
def _stretch(normal: F64, before: F64, move: F64, scale: float) -> float:
    """How many times a step to take.

    Where the errors are curved, Gauss and Newton's steps fall short of the minimum or beyond it by the same share each
    time. That share is seen from the last step, which was taken `scale` times, and this one: Aitken's extrapolation.
    """
    size, common = 0.0, 0.0
    for j in range(move.size):
        along = dot(normal[j], before)
        size += before[j] * along
        common += move[j] * along
    if not size > 0.0:
        return 1.0
    return min(max(scale / max(1.0 - common / size, 0.1), _STRETCH[0]), _STRETCH[1])


@kernel
def _beside(raw: F64, steps: F64, sets: F64) -> F64:
    """The parameters, and each of them in turn a step away."""
    for j in range(raw.size + 1):
        sets[j] = raw
        if j > 0:
            sets[j, j - 1] += steps[j - 1]
    return sets


@kernel
def _normal_equations(errors: F64, steps: F64, normal: F64, gradient: F64) -> None:
    """Products of the errors' slopes with each other and with the errors, in blocks that stay in the fastest cache.

    `errors` has the errors, then those a step away for each parameter, which become slopes.
    """
    normal[:], gradient[:] = 0.0, 0.0
    for first in range(0, errors.shape[1], _BLOCK):
        part = slice(first, first + _BLOCK)  # of one row at a time, so that it is known to be contiguous
        base = errors[0, part]
        for j in range(steps.size):
            slope = errors[j + 1, part]
            _slope(slope, base, 1.0 / steps[j])
            gradient[j] -= dot(slope, base)
            for k in range(j + 1):
                normal[j, k] += dot(slope, errors[k + 1, part])
    for j in range(steps.size):
        normal[:j, j] = normal[j, :j]


@kernel
def _slope(moved: F64, base: F64, scale: float) -> None:
    """Turn errors a step of 1 / scale away into their slope."""
    for t in range(base.size):
        moved[t] = (moved[t] - base[t]) * scale
