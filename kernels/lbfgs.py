"""Limited-memory BFGS with a strong-Wolfe line search: the way Stan's optimiser goes, point by point.

The caller owns the function: it tells value and gradient of each point and is given the next. Where a function has
kinks the method stops short of the optimum, and where it stops depends on its path. So all constants, the first trial
of each search and every rule of acceptance and convergence are Stan's.
"""

from __future__ import annotations

import numpy as np

from kernels._jit import F64, kernel, lean_fast_inline
from kernels.aligned import aligned
from kernels.wolfe import FAILED, FOUND, GO_ON, N_OF_SEARCH, SLOPE, STEP, VALUE, advance, first_step, open_line

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
_N_STEPS, _NEWEST, _IS_RESET, _N_NUMBERS = range(N_OF_SEARCH, N_OF_SEARCH + 4)
# Rows of the table: products of steps, and of changes, with the gradient told, and their weights in the direction, all
# in the order of the vectors; then, the newest pair first, products of steps and changes with the gradient at the start
# of the line, inverse products of the pairs, products of steps (rows) with newer changes, and of changes.
_BY_STEP, _BY_CHANGE, _OF_STEP, _OF_CHANGE, _STEP, _CHANGE, _INVERSE, _SY, _YY, _N_ROWS = 0, 1, 2, 3, 4, 5, 6, 7, 12, 17

# Vectors, table, numbers.
Memory = tuple[F64, F64, F64]


@kernel
def lbfgs_memory(width: int) -> Memory:
    """Of a search not begun yet, over a multiple of 8 coordinates; a multiple of 32 is fastest."""
    vectors, table, numbers = aligned(_N_VECTORS, width), np.zeros((_N_ROWS, _PAIRS)), np.zeros(_N_NUMBERS)
    numbers[_N_STEPS] = -1.0
    return vectors, table, numbers


@lean_fast_inline
def lbfgs_tell(value: float, slope: float, x: F64, grad: F64, memory: Memory) -> int:
    """Take value and gradient (W,) at `x`; what comes next, at the point that `x` then holds.

    The first part of the memory has LINE_START and DIRECTION, the last the trial's STEP and the VALUE at the start of
    the line. At the end `x` is the best point. A value or slope that is not finite shortens the step.

    Parameters
    ----------
    slope : product of the gradient and DIRECTION. The first point told is where the search starts and has none.

    Notes
    -----
    O(W) a call, allocates nothing. Raises nothing.

    Source: Nocedal and Wright (2006), algorithms 3.5, 3.6 and 7.4; constants and rules of ``stan::optimization``.
    """
    vectors, table, numbers = memory
    if numbers[_N_STEPS] < 0.0:
        numbers[VALUE], numbers[_N_STEPS] = value, 0.0
        for j in range(x.size):
            vectors[LINE_START, j], vectors[_GRADIENT, j] = x[j], grad[j]
        said = FAILED
    else:
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
    ss, gg, scale = _remember(after, x, grad, vectors, table, numbers)
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
def _remember(after: float, x: F64, grad: F64, vectors: F64, table: F64, numbers: F64) -> tuple[float, float, float]:
    """Put the newest pair in the place of the oldest; squares of step and gradient, and the inverse curvature.

    One store a loop: with more of them LLVM no longer proves that they do not overlap, and takes numbers one by one.
    """
    at = int(numbers[_NEWEST]) + 1
    at = at if at < _PAIRS else 0
    sg = numbers[STEP] * after
    sy = sg - numbers[STEP] * numbers[SLOPE]
    ss = yy = yg = gg = 0.0
    for j in range(x.size):
        s, y = x[j] - vectors[LINE_START, j], grad[j] - vectors[_GRADIENT, j]
        ss += s * s
        yy += y * y
        yg += y * grad[j]
        gg += grad[j] * grad[j]
    for j in range(x.size):
        vectors[_STEPS + at, j] = x[j] - vectors[LINE_START, j]
    for j in range(x.size):
        vectors[_CHANGES + at, j] = grad[j] - vectors[_GRADIENT, j]
    for j in range(x.size):
        vectors[LINE_START, j] = x[j]
    for j in range(x.size):
        vectors[_GRADIENT, j] = grad[j]
    is_first = numbers[_IS_RESET] != 0.0
    for k in range(1, _PAIRS):
        # By age, the oldest first; the gradient has changed by the new pair's change.
        age = _PAIRS - k
        place = at - age if at >= age else at - age + _PAIRS
        by_step, by_change = table[_BY_STEP, place], table[_BY_CHANGE, place]
        for j in range(1, _PAIRS):
            table[_SY + age, j] = table[_SY + age - 1, j - 1]
            table[_YY + age, j] = table[_YY + age - 1, j - 1]
        table[_SY + age, 0] = by_step - table[_STEP, age - 1]
        table[_YY + age, 0] = by_change - table[_CHANGE, age - 1]
        table[_STEP, age], table[_CHANGE, age] = by_step, by_change
        table[_INVERSE, age] = 0.0 if is_first else table[_INVERSE, age - 1]
    table[_STEP, 0], table[_CHANGE, 0], table[_INVERSE, 0], table[_YY, 0] = sg, yg, 1.0 / sy, yy
    numbers[_NEWEST] = at
    return ss, gg, sy / yy


@lean_fast_inline
def _weigh(scale: float, table: F64, numbers: F64) -> None:
    """Weights of the pairs in the quasi-Newton direction: both loops over them, on their products alone.

    Written out: a to e are those of the changes, f to k of the steps, the newest pair first. Where there is no pair yet
    the inverse product is 0.
    """
    s, y, inverse, sy, yy = table[_STEP], table[_CHANGE], table[_INVERSE], table[_SY:_YY], table[_YY:]
    a = -s[0] * inverse[0]
    b = -(s[1] + a * sy[1, 0]) * inverse[1]
    c = -(s[2] + a * sy[2, 0] + b * sy[2, 1]) * inverse[2]
    d = -(s[3] + a * sy[3, 0] + b * sy[3, 1] + c * sy[3, 2]) * inverse[3]
    e = -(s[4] + a * sy[4, 0] + b * sy[4, 1] + c * sy[4, 2] + d * sy[4, 3]) * inverse[4]
    k = -scale * (y[4] + (a * yy[4, 0] + b * yy[4, 1]) + (c * yy[4, 2] + d * yy[4, 3]) + e * yy[4, 4])
    i = -scale * (y[3] + (a * yy[3, 0] + b * yy[3, 1]) + (c * yy[3, 2] + d * yy[3, 3]) + e * yy[4, 3])
    h = -scale * (y[2] + (a * yy[2, 0] + b * yy[2, 1]) + (c * yy[2, 2] + d * yy[3, 2]) + e * yy[4, 2])
    g = -scale * (y[1] + (a * yy[1, 0] + b * yy[1, 1]) + (c * yy[2, 1] + d * yy[3, 1]) + e * yy[4, 1])
    f = -scale * (y[0] + (a * yy[0, 0] + b * yy[1, 0]) + (c * yy[2, 0] + d * yy[3, 0]) + e * yy[4, 0])
    k = e - k * inverse[4]
    i = d - (i + k * sy[4, 3]) * inverse[3]
    h = c - (h + k * sy[4, 2] + i * sy[3, 2]) * inverse[2]
    g = b - (g + k * sy[4, 1] + i * sy[3, 1] + h * sy[2, 1]) * inverse[1]
    f = a - (f + k * sy[4, 0] + i * sy[3, 0] + h * sy[2, 0] + g * sy[1, 0]) * inverse[0]
    at = int(numbers[_NEWEST])
    table[_OF_STEP, at], table[_OF_CHANGE, at] = f, a
    at = at - 1 if at > 0 else _PAIRS - 1
    table[_OF_STEP, at], table[_OF_CHANGE, at] = g, b
    at = at - 1 if at > 0 else _PAIRS - 1
    table[_OF_STEP, at], table[_OF_CHANGE, at] = h, c
    at = at - 1 if at > 0 else _PAIRS - 1
    table[_OF_STEP, at], table[_OF_CHANGE, at] = i, d
    at = at - 1 if at > 0 else _PAIRS - 1
    table[_OF_STEP, at], table[_OF_CHANGE, at] = k, e


@lean_fast_inline
def _combine(first: float, scale: float, x: F64, vectors: F64, table: F64) -> float:
    """The direction and the first trial along it; returns the slope.

    In three loops, as in `_remember`: eight vectors read beside one written are as many as LLVM checks for overlaps.
    """
    s, y = table[_OF_STEP], table[_OF_CHANGE]
    a, b, c, d, e = s[0], s[1], s[2], s[3], s[4]
    f, g, h, i, k = -scale * y[0], -scale * y[1], -scale * y[2], -scale * y[3], -scale * y[4]
    slope = 0.0
    for j in range(x.size):
        left = (a * vectors[3, j] + b * vectors[4, j]) + (c * vectors[5, j] + d * vectors[6, j])
        vectors[DIRECTION, j] = left + (e * vectors[7, j] + f * vectors[8, j])
    for j in range(x.size):
        down = vectors[_GRADIENT, j]
        right = (g * vectors[9, j] + h * vectors[10, j]) + (i * vectors[11, j] + k * vectors[12, j])
        direction = vectors[DIRECTION, j] + (right - scale * down)
        slope += direction * down
        vectors[DIRECTION, j] = direction
    for j in range(x.size):
        x[j] = vectors[LINE_START, j] + first * vectors[DIRECTION, j]
    return slope
