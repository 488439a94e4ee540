"""ARIMA after its fit: one-step predictions that follow every point, and forecasts."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, I64, kernel
from kernels.arima import Orders, expand, one_step

_LONGEST_GAP = 1_000


@kernel
def run_arima(
    y: F64,
    spans: I64,
    orders: Orders,
    raw: F64,
    sigma: F64,
    n_points: I64,
    history: F64,
    errors: F64,
    span: F64,
    ahead: I64,
    band: F64,
    later: F64,
) -> None:
    """Predict the time span of each point from the spans before it, then learn the point.

    Parameters
    ----------
    y : (S, T), unit of the query; NaN is missing.
    spans : (T,) number of each point's time span, never falling; a model step is one span, its value their mean.
    raw, sigma, n_points : of the fit; a row with 0 points predicts nothing.
    history, errors : (S, L), updated in place: values and errors of the spans before the present one.
    span : (S, 4), updated in place: the present span, sum and count of its values, and how many before it had none.
    ahead : (H,) spans from a point's own to the forecast's.
    band : (2, S, T) prediction and its standard deviation, which grows while values are missing; NaN without a fit.
    later : (2, H, S, T) the same for the forecasts.

    Notes
    -----
    A gap of more than `_LONGEST_GAP` spans counts as so many. One by one equals at once.
    """
    n_series, n_steps = y.shape
    reach = history.shape[1]
    furthest = 1
    for steps in ahead:
        furthest = max(furthest, steps + 1)
    for i in range(n_series):
        if n_points[i] == 0 or n_steps == 0:
            continue
        own, average, constant = expand(raw[i], orders)
        present = int(span[i, 0])
        if spans[0] - present > _LONGEST_GAP:
            present = spans[0] - _LONGEST_GAP
        n_spans = max(spans[n_steps - 1] - present, 0) + 1
        weights = _spread_weights(own, average, furthest + min(n_spans + int(span[i, 3]), _LONGEST_GAP))
        filled, noise = np.zeros(reach + n_spans + furthest), np.zeros(reach + n_spans + furthest)
        filled[:reach], noise[:reach] = history[i], errors[i]
        closed, out = np.full(filled.size, math.nan), np.empty(filled.size)
        here, kept, missing = reach, reach, int(span[i, 3])
        total, count = span[i, 1], span[i, 2]
        one_step(closed[: here + furthest], here, own, average, constant, filled, noise, out)
        for t in range(n_steps):
            while present < spans[t]:
                if count > 0.0:
                    filled[here] = total / count
                    noise[here] = filled[here] - out[here]
                    missing = 0
                else:
                    filled[here], noise[here] = out[here], 0.0
                    missing += 1
                total = count = 0.0
                here += 1
                present += 1
                one_step(closed[: here + furthest], here, own, average, constant, filled, noise, out)
            band[0, i, t] = out[here]
            band[1, i, t] = sigma[i] * weights[min(missing, weights.size - 1)]
            for h in range(ahead.size):
                later[0, h, i, t] = out[here + ahead[h]]
                later[1, h, i, t] = sigma[i] * weights[min(missing + ahead[h], weights.size - 1)]
            if math.isfinite(y[i, t]):
                total += y[i, t]
                count += 1.0
                # Only here, so that missing points leave no trace: the next call sees them as a gap.
                span[i, 0], span[i, 1], span[i, 2], span[i, 3] = present, total, count, missing
                kept = here
        history[i], errors[i] = filled[kept - reach : kept], noise[kept - reach : kept]


@kernel
def _spread_weights(own: F64, average: F64, n: int) -> F64:
    """(n,) standard deviation of a prediction 1, 2, … steps ahead, in those of one step."""
    psi, out = np.zeros(n), np.empty(n)
    total = 0.0
    for k in range(n):
        psi[k] = average[k] if k < average.size else 0.0
        for j in range(1, min(k, own.size - 1) + 1):
            psi[k] -= own[j] * psi[k - j]
        total += psi[k] * psi[k]
        out[k] = math.sqrt(total)
    return out
