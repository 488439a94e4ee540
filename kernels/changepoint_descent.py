"""From where Prophet starts to where its optimiser stops, for one series."""

from __future__ import annotations

from kernels._jit import B1, F64, I64, kernel
from kernels.changepoint_posterior import any_of, evaluate, log_posterior, parabola, residual_products
from kernels.changepoint_row import FLAT, LOGISTIC
from kernels.lbfgs import LINE, LINE_START, STOP, TRIAL, lbfgs_start, lbfgs_tell
from kernels.wolfe import STEP, VALUE

# Where the sum of squares is so much less than where it was last taken from all points, it is again: from the normal
# equations it has the digits of the larger one.
_CLOSE = 0.25
# Rows of `vectors`: parameters, gradient, half the gradient of the sum of squares where a line starts and its change
# along it, and the priors.
X, _GRAD, _BASE, _ALONG, PRECISION, LAPLACE, N_VECTORS = range(7)


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
    x, grad, base, along = vectors[X], vectors[_GRAD], vectors[_BASE], vectors[_ALONG]
    precision, laplace = vectors[PRECISION], vectors[LAPLACE]
    for j in range(along.size):
        along[j] = 0.0
    sse = _center(x, growth, cap, starts, changepoints, columns, is_factor, enabled, points, weights, base)
    memory = lbfgs_start(log_posterior(x, n, at_noise, precision, laplace, sse, base, 0.0, along, grad), x, grad)
    line, _, numbers = memory
    square, taken, linear, curved = sse, sse, 0.0, 0.0
    said = LINE
    step = 0.0
    while said != STOP:
        if not is_curved and said != TRIAL:
            if said == LINE:
                square = sse
                for j in range(x.size):
                    base[j] += step * along[j]
                if square < _CLOSE * taken:
                    taken = square = _center(line[LINE_START], growth, cap, starts, changepoints, columns, is_factor,
                                             enabled, points, weights, base)  # fmt: skip
            linear, curved = parabola(line, gram, base, along)
        step = numbers[STEP]
        if is_curved:
            step = 0.0
            sse = _center(x, growth, cap, starts, changepoints, columns, is_factor, enabled, points, weights, base)
        else:
            sse = square + step * (2.0 * linear + step * curved)
        value = log_posterior(x, n, at_noise, precision, laplace, sse, base, step, along, grad)
        said = lbfgs_tell(value, x, grad, memory)
    return float(numbers[VALUE])


@kernel
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
