"""ARIMA processes made from their definition, and one-step errors of given coefficients; numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

N_FIT, N_LATER, N_SERIES = 1_500, 200, 50
# (p, d, q), seasonal (P, D, Q, s), coefficients of the autoregression and of the errors.
KINDS: list[tuple[list[int], list[int], list[float], list[float]]] = [
    ([1, 0, 0], [], [0.7], []),
    ([2, 0, 0], [], [0.5, 0.3], []),
    ([0, 0, 1], [], [], [0.6]),
    ([1, 0, 1], [], [0.8], [0.4]),
    ([2, 1, 1], [], [0.5, 0.2], [-0.5]),
    ([0, 1, 1], [], [], [-0.6]),
    ([1, 1, 1], [], [0.6], [0.4]),
    ([2, 0, 2], [], [0.6, -0.3], [0.5, 0.2]),
    ([0, 2, 2], [], [], [-0.8, 0.3]),
    ([1, 0, 0], [1, 0, 0, 12], [0.5], []),
]


def series(number: int) -> np.ndarray:
    """(N_FIT + N_LATER,) one of the processes, its coefficients up to a third smaller, at some level and scale."""
    order, season, phi, theta = KINDS[number % len(KINDS)]
    rng = np.random.RandomState(number)  # its stream never changes
    phi = [c * rng.uniform(0.7, 1.05) for c in phi]
    n = N_FIT + N_LATER + 300
    e, w = rng.normal(0, 1, n), np.zeros(n)
    for t in range(30, n):
        w[t] = (
            e[t] + sum(c * w[t - 1 - i] for i, c in enumerate(phi)) + sum(c * e[t - 1 - i] for i, c in enumerate(theta))
        )
        if season:
            w[t] += 0.5 * w[t - 12] - 0.5 * phi[0] * w[t - 13]
    for _ in range(order[1]):
        w = np.cumsum(w)
    return np.round(w[300:] * rng.uniform(0.1, 50) + rng.uniform(-100, 1000), 4)


def one_step_errors(y: Sequence[float], own: Sequence[float], average: Sequence[float], constant: float) -> list[float]:
    """Errors of Σ own_i y_(t-i) = constant + Σ average_j e_(t-j), from the first step that has all values before it."""
    start, errors = len(own) - 1, [0.0] * len(y)
    for t in range(start, len(y)):
        errors[t] = sum(c * y[t - i] for i, c in enumerate(own)) - constant
        errors[t] -= sum(c * errors[t - j] for j, c in enumerate(average) if 0 < j <= t)
    return errors
