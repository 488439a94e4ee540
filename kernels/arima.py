"""ARIMA: a multiplicative seasonal model and its one-step predictions.

A model is kept in the form that predicts the series itself: differences are factors of its autoregressive polynomial,
so a missing value is simply its own prediction and costs nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kernels._jit import F64, kernel

# Partial autocorrelations stay this far inside the unit circle.
_EDGE = 0.9995


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
    out = np.empty(raw.size)
    for k in range(raw.size):
        r = _EDGE * raw[k] / math.sqrt(1.0 + raw[k] * raw[k])
        for j in range((k + 1) // 2):
            left, right = out[j], out[k - 1 - j]
            out[j], out[k - 1 - j] = left - r * right, right - r * left
        out[k] = r
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
