"""The fit of `kernels.changepoint` where the model is not linear in its parameters: logistic growth and factors."""

from __future__ import annotations

from kernels._jit import F64, I64, kernel
from kernels.changepoint_gram import assemble_gram, disable, gradient, weighted_sums
from kernels.changepoint_row import (
    CHANGEPOINT_SCALE,
    FLAT,
    GROWTH,
    LOGISTIC,
    Room,
    begin_row,
    keep_row,
    scaled_cap,
)
from kernels.changepoint_step import (
    DERIVATIVE,
    GRADIENT,
    LEVEL,
    PRECISION,
    RESIDUAL,
    TARGET,
    THETA,
    TIME,
    TRIAL,
    evaluate,
    noise_variance,
    penalty,
    solve_step,
)


@kernel
def fit_curved(
    y: F64, time: F64, features: F64, rules: F64, options: F64, given: F64, room: Room, scalars: F64,
    changepoints: F64, changes: F64, coefficients: F64,
) -> None:  # fmt: skip
    """`fit_changepoints` of a model with logistic growth or factors."""
    for i in range(y.shape[0]):
        n = begin_row(y[i], time, rules, options, given, room, scalars[i], changepoints[i])
        if n > 0:
            cap = scaled_cap(options, scalars[i])
            variance = _search(room.steps[:n], features, changepoints[i], options, cap, room)
            keep_row(room.vectors[THETA], variance, scalars[i], coefficients[i], changes[i])


@kernel
def _in_slope_and_offset(theta: F64, gram: F64, grad: F64) -> None:
    """Change of variables of a logistic trend: from the line's intercept to its root, which Prophet calls offset."""
    m, k = theta[1], theta[0]
    for j in range(theta.size):
        gram[0, j], gram[1, j] = gram[0, j] - m * gram[1, j], -k * gram[1, j]
    for i in range(theta.size):
        gram[i, 0], gram[i, 1] = gram[i, 0] - m * gram[i, 1], -k * gram[i, 1]
    grad[0], grad[1] = grad[0] - m * grad[1], -k * grad[1]


@kernel
def _search(where: I64, features: F64, changepoints: F64, options: F64, cap: float, room: Room) -> float:
    """Optimum from THETA into THETA by Gauss-Newton steps, each shortened until the posterior rises.

    Returns the noise's variance.
    """
    is_logistic, is_flat, tau = options[GROWTH] == LOGISTIC, options[GROWTH] == FLAT, options[CHANGEPOINT_SCALE]
    starts, is_factor, columns = room.starts, room.is_factor, room.columns
    points, vectors, gram = room.points, room.vectors, room.gram
    n, n_free = where.size, 2 + is_factor.size
    theta, target, trial, precision = vectors[THETA], vectors[TARGET], vectors[TRIAL], vectors[PRECISION]
    sse = evaluate(theta, is_logistic, cap, where, starts, changepoints, columns, is_factor, points)
    variance = noise_variance(sse, n)
    n_small = 0
    for _ in range(200):
        weighted_sums(where, points[TIME], starts, features, is_factor, points[DERIVATIVE], points[LEVEL], room.sums,
                      room.products)  # fmt: skip
        assemble_gram(room.sums, room.products, changepoints, is_flat, gram)
        gradient(where, points[TIME], starts, features, is_factor, points[RESIDUAL], points[DERIVATIVE], points[LEVEL],
                 changepoints, vectors[GRADIENT])  # fmt: skip
        disable(room.enabled, gram, vectors[GRADIENT])
        if is_logistic:
            _in_slope_and_offset(theta, gram, vectors[GRADIENT])
        solve_step(gram, sse, n, tau, n_free, variance, 1, vectors, room.table, room.active)
        before = 0.5 * sse / variance + penalty(theta, precision, tau, n_free)
        after, share = before, 2.0
        while share > 1e-6:
            share *= 0.5
            for j in range(theta.size):
                trial[j] = target[j] if share == 1.0 else theta[j] + share * (target[j] - theta[j])
            sse = evaluate(trial, is_logistic, cap, where, starts, changepoints, columns, is_factor, points)
            after = 0.5 * sse / variance + penalty(trial, precision, tau, n_free)
            if after <= before:
                break
        if not after <= before:
            break
        for j in range(theta.size):
            theta[j] = trial[j]
        old, variance = variance, noise_variance(sse, n)
        # Gains are in log probability: two steps in a row that do not matter are the end.
        n_small = n_small + 1 if before - after < 1e-7 and abs(variance - old) < 1e-7 * variance else 0
        if n_small == 2:
            break
    return variance
