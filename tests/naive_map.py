"""Prophet's posterior from its definition, with every column of the design built."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def trend_columns(t: F64, changepoints: F64) -> F64:
    """(T, 2 + C): time, 1, and max(t - c, 0) for each changepoint."""
    return np.column_stack([t, np.ones_like(t), *(np.maximum(t - c, 0.0) for c in changepoints)])


def expected(t: F64, features: F64, factor: NDArray[np.bool_], changepoints: F64, growth: str, cap: float,
             slope: float, offset: float, changes: F64, beta: F64) -> F64:  # fmt: skip
    """(T,) expected values in the scale of the fit."""
    base = -slope * offset if growth == "logistic" else offset
    line = trend_columns(t, changepoints) @ np.concatenate([[slope, base], changes])
    trend = cap / (1.0 + np.exp(-line)) if growth == "logistic" else line
    return trend * (1.0 + features[:, factor] @ beta[factor]) + features[:, ~factor] @ beta[~factor]


def log_likelihood(z: F64, mean: F64, sigma: float) -> float:
    """Smooth part of the log posterior that the data and the noise's prior give."""
    residual = z - mean
    return float(-z.size * np.log(sigma) - residual @ residual / (2 * sigma**2) - 2 * sigma**2)


def minimise_l1(gram: F64, linear: F64, ridge: F64, penalty: float, n_free: int, sweeps: int = 20_000) -> F64:
    """Coordinate descent on x'Gx/2 - c'x + sum(ridge x^2)/2 + penalty sum |x[n_free:]|."""
    x = np.zeros(linear.size)
    for _ in range(sweeps):
        before = x.copy()
        for j in range(x.size):
            rest = linear[j] - gram[j] @ x + gram[j, j] * x[j]
            if j >= n_free:
                rest = np.sign(rest) * max(abs(rest) - penalty, 0.0)
            x[j] = rest / (gram[j, j] + ridge[j])
        if np.abs(x - before).max() < 1e-13:
            break
    return x
