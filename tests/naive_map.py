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


def most_probable(t: F64, z: F64, features: F64, changepoints: F64, prior: float, tau: float) -> float:
    """The highest log posterior that an additive model with a linear trend has, by reweighted least squares."""
    columns = np.column_stack([trend_columns(t, changepoints), features])
    n_changes = changepoints.size
    is_change = np.arange(columns.shape[1]) - 2
    is_change = (is_change >= 0) & (is_change < n_changes)
    ridge = np.where(is_change, 0.0, prior**-2)
    ridge[:2] = 0.04
    theta, sigma = np.zeros(ridge.size), float(np.std(z))
    for _ in range(3000):
        # A Laplace prior is a normal one as narrow as its parameter is small.
        weights = ridge + is_change / (tau * np.hypot(theta, 1e-8))
        theta = np.linalg.solve(columns.T @ columns / sigma**2 + np.diag(weights), columns.T @ z / sigma**2)
        sse = float(np.sum((z - columns @ theta) ** 2))
        sigma = float(np.sqrt((np.sqrt(z.size**2 + 16 * sse) - z.size) / 8))
    penalty = 0.5 * ridge @ theta**2 + np.abs(theta[is_change]).sum() / tau
    return log_likelihood(z, columns @ theta, sigma) - float(penalty)
