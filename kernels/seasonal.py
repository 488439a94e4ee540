"""Level and seasonal effects that learn point by point, and the spread of their errors."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, I64, kernel

LARGEST = 1e150
# Six times the median of a normal residual, where STL's own weights end, in standard deviations.
_ROBUST_LIMIT = 4.05


@kernel
def seasonal_update(
    y: F64, phases: I64, gains: F64, decay: float, is_robust: bool, threshold: float,
    level: F64, weight: F64, m2: F64, seen: I64, season: F64, yhat: F64, half: F64, effect: F64,
) -> None:  # fmt: skip
    """Predict each step from the state before it, then learn it.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN, inf or beyond 1e150: the step is skipped, level and season stay.
    phases : (T,) of the steps, in 0 … period - 1.
    gains : (2,) least share of an error that level and season take; earlier ones are as of a mean.
    decay : weight of an error against the next one in the spread.
    is_robust : errors beyond four deviations are learned as if they were four, once two periods are known.
    threshold : half-width of the band in standard deviations.
    level, weight, m2, seen : (S,), updated in place; all zero is a fresh state. The spread is sqrt(m2 / weight).
    season : (S, period), in place; NaN is a phase that was never seen.
    yhat, half, effect : (S, T) out: expected value, half-width of the band (NaN while a row has learned nothing), and
        seasonal effect.

    Notes
    -----
    O(S T), rows are independent; two calls over two halves of `y` give bit for bit the state of one call.
    """
    state = np.empty(3)
    for i in range(y.shape[0]):
        state[0], state[1], state[2] = level[i], weight[i], m2[i]
        seen[i] = advance_row(
            y[i], phases, gains, decay, is_robust, threshold, state, seen[i], season[i], yhat[i], half[i], effect[i]
        )
        level[i], weight[i], m2[i] = state[0], state[1], state[2]


@kernel
def advance_row(
    y: F64, phases: I64, gains: F64, decay: float, is_robust: bool, threshold: float,
    state: F64, seen: int, season: F64, yhat: F64, half: F64, effect: F64,
) -> int:  # fmt: skip
    """As `seasonal_update` for one row; `state` is level, weight and m2. Returns the points seen."""
    period = season.size
    for t in range(y.size):
        j = phases[t]
        is_known = not math.isnan(season[j])
        effect[t] = season[j] if is_known else 0.0
        yhat[t] = state[0] + effect[t] if seen > 0 else math.nan
        spread = math.sqrt(state[2] / state[1]) if state[1] > 0.0 else 0.0
        half[t] = threshold * spread if seen > 0 else math.nan
        if not abs(y[t]) <= LARGEST:
            continue
        if seen == 0:
            state[0], season[j], seen = y[t], 0.0, 1
            continue
        error = y[t] - yhat[t]
        if is_known:
            state[1] = decay * state[1] + 1.0
            state[2] = decay * state[2] + error * error
        if is_robust and seen >= 2 * period and spread > 0.0:
            error = min(max(error, -_ROBUST_LIMIT * spread), _ROBUST_LIMIT * spread)
        gain = max(gains[0], 1.0 / (seen + 1))
        state[0] += gain * error
        rest = (1.0 - gain) * error
        season[j] = effect[t] + (max(gains[1], 1.0 / (seen // period + 1)) * rest if is_known else rest)
        seen += 1
    return seen
