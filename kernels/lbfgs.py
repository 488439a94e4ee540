"""Limited-memory BFGS with a strong-Wolfe line search: the way Stan's optimiser goes, point by point.

The caller owns the function: it tells value and gradient of each point and is given the next. Where a function has
kinks the method stops short of the optimum, and where it stops depends on its path. So all constants, the first trial
of each search and every rule of acceptance and convergence are Stan's.
"""

from __future__ import annotations

import numpy as np

from kernels._jit import F64, kernel, lean_fast_inline, lean_fast_kernel
from kernels.wolfe import FOUND, GO_ON, N_OF_SEARCH, SLOPE, STEP, VALUE, advance, first_step, open_line

# Pairs of steps and changes of the gradient that are remembered: as many as `_products` and `_combine` have terms.
_PAIRS = 5
_FIRST_STEP, _LAST_STEP = 1e-3, 10_000
_EPSILON = 2.220446049250313e-16
# Ends: absolute changes of value and point, the gradient; changes of value and gradient beside the value.
_TINY_VALUE, _TINY_GRADIENT, _TINY_STEP, _SAME_VALUE, _FLAT = 1e-12, 1e-8, 1e-8, 1e4 * _EPSILON, 1e7 * _EPSILON
# What `lbfgs_tell` says: the end; another trial on the line; a line from the point told; one from the same start.
STOP, TRIAL, LINE, AGAIN = range(4)
# Rows of the vectors: where the line starts, the gradient there, its direction, then the steps and the changes.
LINE_START, _GRADIENT, DIRECTION, _STEPS, _CHANGES, _N_VECTORS = 0, 1, 2, 3, 3 + _PAIRS, 3 + 2 * _PAIRS
# Numbers past those of the line search.
_N_STEPS, _NEWEST, _N_PAIRS, _IS_RESET, _N_NUMBERS = range(N_OF_SEARCH, N_OF_SEARCH + 5)
# Rows of the table: products of steps, and of changes, with the gradient told; the same at the start of the line;
# weights of steps and changes in the direction; what is left of products while these are found; inverse products of
# the pairs; then products of each step with all changes, of each change with all steps, and with all changes.
(_BY_STEP, _BY_CHANGE, _OLD_BY_STEP, _OLD_BY_CHANGE, _OF_STEP, _OF_CHANGE, _LEFT, _INVERSE, _SY, _YS, _YY,
 _N_ROWS) = 0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 18, 23  # fmt: skip

# Vectors, table, numbers.
Memory = tuple[F64, F64, F64]


@kernel
def lbfgs_start(value: float, x: F64, grad: F64) -> Memory:
    """A search from `x` (W,), a multiple of 8 coordinates; `x` then is the first trial.

    Parameters
    ----------
    value, grad : of the function at `x`, (W,).
    """
    vectors, table, numbers = np.zeros((_N_VECTORS, x.size)), np.zeros((_N_ROWS, _PAIRS)), np.zeros(_N_NUMBERS)
    for j in range(x.size):
        vectors[LINE_START, j], vectors[_GRADIENT, j] = x[j], grad[j]
    numbers[VALUE] = value
    _along_gradient(x, vectors, numbers)
    return vectors, table, numbers


@lean_fast_kernel
def lbfgs_tell(value: float, x: F64, grad: F64, memory: Memory) -> int:
    """Take value and gradient (W,) at `x`; what comes next, at the point that `x` then holds.

    The first part of the memory has LINE_START and DIRECTION, the last the trial's STEP and the VALUE at the start of
    the line. At the end `x` is the best point. A value or gradient that is not finite shortens the step.

    Notes
    -----
    O(W) a call, allocates nothing. Raises nothing.

    Source: Nocedal and Wright (2006), algorithms 3.5, 3.6 and 7.4; constants and rules of ``stan::optimization``.
    """
    vectors, table, numbers = memory
    slope = 0.0
    for j in range(x.size):
        slope += grad[j] * vectors[DIRECTION, j]
    said = advance(value, slope, numbers)
    if said == GO_ON:
        step = numbers[STEP]
        for j in range(x.size):
            x[j] = vectors[LINE_START, j] + step * vectors[DIRECTION, j]
        return TRIAL
    if said == FOUND:
        return _next_line(value, slope, x, grad, vectors, table, numbers)
    if numbers[_IS_RESET] == 0.0:
        _along_gradient(x, vectors, numbers)
        return AGAIN
    for j in range(x.size):
        x[j] = vectors[LINE_START, j]
    return STOP


@lean_fast_inline
def _along_gradient(x: F64, vectors: F64, numbers: F64) -> None:
    """A line against the gradient; once a point on it is found, all pairs before are forgotten."""
    slope = 0.0
    for j in range(x.size):
        down = -vectors[_GRADIENT, j]
        slope -= down * down
        vectors[DIRECTION, j] = down
        x[j] = vectors[LINE_START, j] + _FIRST_STEP * down
    numbers[_IS_RESET] = 1.0
    open_line(_FIRST_STEP, slope, numbers)


@lean_fast_inline
def _next_line(value: float, after: float, x: F64, grad: F64, vectors: F64, table: F64, numbers: F64) -> int:
    """Learn from the point found, and begin the line from there, unless this is the end."""
    before = numbers[VALUE]
    _products(grad, vectors, table)
    ss, gg, scale = _remember(x, grad, vectors, table, numbers)
    unit = 1.0 / scale if numbers[_IS_RESET] != 0.0 else 1.0
    _weigh(scale, table, numbers)
    first = first_step(numbers, value, after, unit)
    numbers[VALUE], numbers[_IS_RESET] = value, 0.0
    numbers[_N_STEPS] += 1.0
    open_line(first, _combine(first, scale, x, vectors, table), numbers)
    fall, size = abs(before - value), max(abs(value), 1.0)
    is_end = fall < _TINY_VALUE or gg < _TINY_GRADIENT**2 or ss < _TINY_STEP**2 or numbers[_N_STEPS] >= _LAST_STEP
    if is_end or fall < _SAME_VALUE * max(abs(before), size) or -numbers[SLOPE] < _FLAT * size:
        for j in range(x.size):
            x[j] = vectors[LINE_START, j]
        return STOP
    return LINE


@lean_fast_inline
def _products(grad: F64, vectors: F64, table: F64) -> None:
    """Products of all steps and changes with a gradient, in one pass."""
    a = b = c = d = e = f = g = h = i = k = 0.0
    for j in range(grad.size):
        w = grad[j]
        a += vectors[3, j] * w
        b += vectors[4, j] * w
        c += vectors[5, j] * w
        d += vectors[6, j] * w
        e += vectors[7, j] * w
        f += vectors[8, j] * w
        g += vectors[9, j] * w
        h += vectors[10, j] * w
        i += vectors[11, j] * w
        k += vectors[12, j] * w
    table[_BY_STEP, 0], table[_BY_STEP, 1], table[_BY_STEP, 2], table[_BY_STEP, 3], table[_BY_STEP, 4] = a, b, c, d, e
    table[_BY_CHANGE, 0], table[_BY_CHANGE, 1], table[_BY_CHANGE, 2] = f, g, h
    table[_BY_CHANGE, 3], table[_BY_CHANGE, 4] = i, k


@lean_fast_inline
def _remember(x: F64, grad: F64, vectors: F64, table: F64, numbers: F64) -> tuple[float, float, float]:
    """Put the newest pair in the place of the oldest; squares of step and gradient, and the inverse curvature."""
    at = int(numbers[_NEWEST]) + 1
    at = at if at < _PAIRS else 0
    ss = sy = yy = sg = yg = gg = 0.0
    for j in range(x.size):
        s, y = x[j] - vectors[LINE_START, j], grad[j] - vectors[_GRADIENT, j]
        ss += s * s
        sy += s * y
        yy += y * y
        sg += s * grad[j]
        yg += y * grad[j]
        gg += grad[j] * grad[j]
        vectors[_STEPS + at, j], vectors[_CHANGES + at, j] = s, y
        vectors[LINE_START, j], vectors[_GRADIENT, j] = x[j], grad[j]
    for i in range(_PAIRS):
        # The gradient has changed by the new pair's change.
        table[_SY + i, at] = table[_YS + at, i] = table[_BY_STEP, i] - table[_OLD_BY_STEP, i]
        table[_YY + i, at] = table[_YY + at, i] = table[_BY_CHANGE, i] - table[_OLD_BY_CHANGE, i]
        table[_OLD_BY_STEP, i], table[_OLD_BY_CHANGE, i] = table[_BY_STEP, i], table[_BY_CHANGE, i]
    table[_INVERSE, at], table[_YY + at, at] = 1.0 / sy, yy
    table[_OLD_BY_STEP, at], table[_OLD_BY_CHANGE, at] = sg, yg
    numbers[_NEWEST] = at
    numbers[_N_PAIRS] = 1.0 if numbers[_IS_RESET] != 0.0 else min(numbers[_N_PAIRS] + 1.0, _PAIRS)
    return ss, gg, sy / yy


@lean_fast_inline
def _weigh(scale: float, table: F64, numbers: F64) -> None:
    """Weights of the pairs in the quasi-Newton direction: both loops over them, on their products alone."""
    n, newest = int(numbers[_N_PAIRS]), int(numbers[_NEWEST])
    for j in range(_PAIRS):
        table[_OF_STEP, j] = table[_OF_CHANGE, j] = 0.0
        table[_LEFT, j] = -table[_OLD_BY_STEP, j]
    i = newest
    for _ in range(n):
        weight = table[_LEFT, i] * table[_INVERSE, i]
        table[_OF_CHANGE, i] = weight
        for j in range(_PAIRS):
            table[_LEFT, j] -= weight * table[_YS + i, j]
        i = i - 1 if i > 0 else _PAIRS - 1
    for j in range(_PAIRS):
        table[_LEFT, j] = table[_OLD_BY_CHANGE, j]
    for k in range(_PAIRS):
        for j in range(_PAIRS):
            table[_LEFT, j] += table[_OF_CHANGE, k] * table[_YY + k, j]
    for j in range(_PAIRS):
        table[_LEFT, j] *= -scale
    for _ in range(n):
        i = i + 1 if i < _PAIRS - 1 else 0
        weight = table[_OF_CHANGE, i] - table[_LEFT, i] * table[_INVERSE, i]
        table[_OF_STEP, i] = weight
        for j in range(_PAIRS):
            table[_LEFT, j] += weight * table[_SY + i, j]


@lean_fast_inline
def _combine(first: float, scale: float, x: F64, vectors: F64, table: F64) -> float:
    """The direction and the first trial along it; returns the slope."""
    s, y = table[_OF_STEP], table[_OF_CHANGE]
    a, b, c, d, e = s[0], s[1], s[2], s[3], s[4]
    f, g, h, i, k = -scale * y[0], -scale * y[1], -scale * y[2], -scale * y[3], -scale * y[4]
    slope = 0.0
    for j in range(x.size):
        down = vectors[_GRADIENT, j]
        direction = (a * vectors[3, j] + b * vectors[4, j]) + (c * vectors[5, j] + d * vectors[6, j])
        direction += (f * vectors[8, j] + g * vectors[9, j]) + (h * vectors[10, j] + i * vectors[11, j])
        direction += (e * vectors[7, j] + k * vectors[12, j]) - scale * down
        slope += direction * down
        vectors[DIRECTION, j] = direction
        x[j] = vectors[LINE_START, j] + first * direction
    return slope
