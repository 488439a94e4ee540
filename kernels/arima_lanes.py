"""One-step errors of a short ARIMA model for several sets of parameters of one row at once."""

from __future__ import annotations

import math

from kernels._jit import F64, fast_kernel, kernel

# How far back a short model reaches: polynomials of the series and of the errors, their first coefficient aside.
REACH, REACH_ERRORS = 4, 2
# Sets of parameters that run side by side: more than about this many do not fit into registers.
N_LANES = 6

# Constant, then coefficients of the last values and of the last errors; these values and errors themselves.
_Model = tuple[float, float, float, float, float, float, float]
_Past = tuple[float, float, float, float, float, float]


@fast_kernel
def short_errors(y: F64, start: int, own: F64, average: F64, constant: F64, before: F64, errors: F64) -> None:
    """Errors of each lane's prediction of each value from those before it.

    Parameters
    ----------
    y : (T,) NaN is missing: its own prediction, with an error of 0.
    start : of the predictions.
    own, average : (N_LANES, REACH + 1), (N_LANES, REACH_ERRORS + 1) polynomials, lowest power first, the first 1.
    constant : (N_LANES,) of the recursion.
    before : (T,) values where there is one, and what stands for those missing before `start`.
    errors : (N_LANES, T) set from `start` on; those before are read.

    Notes
    -----
    O(T N_LANES), 6 ns a step. A recursion waits for its last step; written side by side, lanes wait together. Loops
    over lanes would keep them in memory instead of registers.
    """
    m0, m1, m2 = _model(own, average, constant, 0), _model(own, average, constant, 1), _model(own, average, constant, 2)
    m3, m4, m5 = _model(own, average, constant, 3), _model(own, average, constant, 4), _model(own, average, constant, 5)
    p0, p1, p2 = _past(before, errors[0], start), _past(before, errors[1], start), _past(before, errors[2], start)
    p3, p4, p5 = _past(before, errors[3], start), _past(before, errors[4], start), _past(before, errors[5], start)
    for t in range(start, y.size):
        x = y[t]
        p0, p1, p2 = _step(x, m0, p0), _step(x, m1, p1), _step(x, m2, p2)
        p3, p4, p5 = _step(x, m3, p3), _step(x, m4, p4), _step(x, m5, p5)
        errors[0, t], errors[1, t], errors[2, t] = p0[4], p1[4], p2[4]
        errors[3, t], errors[4, t], errors[5, t] = p3[4], p4[4], p5[4]


@kernel
def _model(own: F64, average: F64, constant: F64, k: int) -> _Model:
    return constant[k], own[k, 1], own[k, 2], own[k, 3], own[k, 4], average[k, 1], average[k, 2]


@kernel
def _past(before: F64, errors: F64, start: int) -> _Past:
    """What a recursion reads at first; 0 before the row, where a model's coefficients are 0 too."""
    f1, e1 = (before[start - 1], errors[start - 1]) if start > 0 else (0.0, 0.0)
    f2, e2 = (before[start - 2], errors[start - 2]) if start > 1 else (0.0, 0.0)
    return f1, f2, before[start - 3] if start > 2 else 0.0, before[start - 4] if start > 3 else 0.0, e1, e2


@fast_kernel
def _step(x: float, m: _Model, p: _Past) -> _Past:
    """The past after one more value."""
    expected = m[0] - m[1] * p[0] - m[2] * p[1] - m[3] * p[2] - m[4] * p[3] + m[5] * p[4] + m[6] * p[5]
    value = expected if math.isnan(x) else x
    return value, p[0], p[1], p[2], value - expected, p[4]


@fast_kernel
def dot(a: F64, b: F64) -> float:
    """Sum of products; NaN where one is."""
    total = 0.0
    for t in range(a.size):
        total += a[t] * b[t]
    return total
