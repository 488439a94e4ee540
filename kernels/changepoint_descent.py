"""From where Prophet starts to where its optimiser stops, for one series."""

from __future__ import annotations

from kernels._jit import B1, F64, I64, kernel, lean_fast_kernel
from kernels.changepoint_posterior import (
    ALONG,
    BASE,
    GRADIENT,
    X,
    any_of,
    evaluate,
    log_posterior,
    parabola,
    residual_products,
)
from kernels.changepoint_row import FLAT, LOGISTIC
from kernels.lbfgs import DIRECTION, LINE, LINE_START, STOP, TRIAL, lbfgs_memory, lbfgs_tell
from kernels.wolfe import STEP, VALUE

# Where the sum of squares is so much less than where it was last taken from all points, it is again: from the normal
# equations it has the digits of the larger one.
_CLOSE = 0.25


@kernel
def descend(
    growth: float, cap: float, starts: I64, changepoints: F64, columns: F64, is_factor: B1, enabled: B1,
    points: F64, vectors: F64, weights: F64, gram: F64,
) -> float:  # fmt: skip
    """From the parameters in the first of `vectors` to where the optimiser stops; the negative log posterior there.

    Along a line the sum of squares of a linear model is a parabola: one product with the Gram matrix serves all trials.
    """
    n, at_noise = starts[starts.size - 1], 2 + is_factor.size + changepoints.size
    is_curved = growth == LOGISTIC or any_of(is_factor)
    x, grad, base, along = vectors[X], vectors[GRADIENT], vectors[BASE], vectors[ALONG]
    for j in range(along.size):
        along[j] = 0.0
    square = taken = sse = _center(
        x, growth, cap, starts, changepoints, columns, is_factor, enabled, points, weights, base
    )
    memory = lbfgs_memory(x.size)
    line, _, numbers = memory
    step = linear = curved = 0.0
    while True:
        value, slope = log_posterior(n, at_noise, sse, step, line[DIRECTION], vectors)
        said = lbfgs_tell(value, slope, x, grad, memory)
        if said == STOP:
            return float(numbers[VALUE])
        if is_curved:
            sse = _center(x, growth, cap, starts, changepoints, columns, is_factor, enabled, points, weights, base)
            continue
        if said == LINE:
            square = sse
            for j in range(x.size):
                base[j] += step * along[j]
            if square < _CLOSE * taken:
                square = taken = _center(line[LINE_START], growth, cap, starts, changepoints, columns, is_factor,
                                         enabled, points, weights, base)  # fmt: skip
        if said != TRIAL:
            linear, curved = parabola(line, gram, base, along)
        step = numbers[STEP]
        sse = square + step * (2.0 * linear + step * curved)


@lean_fast_kernel
def _center(
    x: F64, growth: float, cap: float, starts: I64, changepoints: F64, columns: F64, is_factor: B1, enabled: B1,
    points: F64, weights: F64, base: F64,
) -> float:  # fmt: skip
    """Sum of squares at `x`, from all points, and half its gradient into `base`."""
    is_logistic = growth == LOGISTIC
    sse = evaluate(x, is_logistic, cap, starts, changepoints, columns, is_factor, points, weights)
    residual_products(x, is_logistic, starts, changepoints, columns, is_factor, enabled, points, weights, base)
    if growth == FLAT:
        base[0] = 0.0
    for j in range(base.size):
        base[j] = -base[j]
    return sse
