"""Decayed mean and variance of many series."""

from __future__ import annotations

import math

from kernels._jit import F64, I64, fast_kernel, kernel

# The square of anything larger is not a number that sums could hold.
LARGEST = 1e150


@kernel
def ewm_update(y: F64, decay: float, weight: F64, mean: F64, rest: F64, m2: F64, seen: I64) -> None:
    """Advance decayed moments over new samples, in time order.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN, inf or beyond 1e150: the step is skipped, without decay.
    decay : in (0, 1], per sample taken; 1 keeps all history.
    weight, mean, rest, m2 : (S,), updated in place; all zero is a fresh state. Variance is m2 / weight, never
        negative. `rest` is what the mean has beyond a float's digits: without it the mean of values near 1e15 would
        stand still.
    seen : (S,) samples taken so far, updated in place.

    Notes
    -----
    O(S T), allocates nothing. Rows are independent; two calls over two halves of `y` give bit for bit the state of
    one call over the whole. Shapes are trusted. Raises nothing.

    Source: West (1979), doi:10.1145/359146.359153, with decay added, and a compensated mean (Kahan 1965).
    """
    n_series, n_steps = y.shape
    for i in range(n_series):
        w, mu, low, s, n = weight[i], mean[i], rest[i], m2[i], seen[i]
        for t in range(n_steps):
            x = y[i, t]
            if abs(x) <= LARGEST:
                n += 1
                w, mu, low, s = _learn(x, decay, w, mu, low, s)
        weight[i], mean[i], rest[i], m2[i], seen[i] = w, mu, low, s, n


@kernel
def _learn(x: float, decay: float, w: float, mu: float, low: float, s: float) -> tuple[float, float, float, float]:
    """Weight, mean, its rest and m2 after one more sample."""
    before = decay * w
    w = before + 1.0
    gain = 1.0 / w
    delta = (x - mu) - low
    s = decay * s + before * gain * (delta * delta)
    move = low + gain * delta
    moved = mu + move
    return w, moved, move - (moved - mu), s


@kernel
def ewm_predict_update(
    y: F64,
    decay: float,
    threshold: float,
    weight: F64,
    mean: F64,
    rest: F64,
    m2: F64,
    seen: I64,
    yhat: F64,
    lower: F64,
    upper: F64,
) -> None:
    """As `ewm_update`, and write each step's band from the state before it.

    Parameters
    ----------
    threshold : half-width of the band in standard deviations.
    yhat, lower, upper : (S, T), unit of the query; the mean and its bounds. NaN while a row has learned nothing.

    Notes
    -----
    The state afterwards is bit for bit that of `ewm_update`.
    """
    n_series, n_steps = y.shape
    for i in range(n_series):
        w, mu, low, s, n = weight[i], mean[i], rest[i], m2[i], seen[i]
        for t in range(n_steps):
            center, margin = math.nan, math.nan
            if w > 0:
                center, margin = mu, threshold * math.sqrt(s / w)
            yhat[i, t], lower[i, t], upper[i, t] = center, center - margin, center + margin
            x = y[i, t]
            if abs(x) <= LARGEST:
                n += 1
                w, mu, low, s = _learn(x, decay, w, mu, low, s)
        weight[i], mean[i], rest[i], m2[i], seen[i] = w, mu, low, s, n


@kernel
def moments_add(y: F64, weight: F64, mean: F64, rest: F64, m2: F64, seen: I64) -> None:
    """As `ewm_update` with decay 1, for long windows: one pass of shifted sums a row, then one merge.

    The sums run in SIMD lanes, so the result differs from `ewm_update` in the last digits: the standard deviation by
    a factor within 1 +- T 1e-15. The shift is the mean so far, or the row's first value: never far from the data
    compared to their spread, which keeps the difference of the sums exact enough.

    Source of the merge: Chan, Golub, LeVeque (1983), doi:10.1080/00031305.1983.10483115.
    """
    n_series, n_steps = y.shape
    for i in range(n_series):
        w, shift = weight[i], mean[i]
        if w == 0.0:
            for t in range(n_steps):
                if abs(y[i, t]) <= LARGEST:
                    shift = y[i, t]
                    break
        count, total, squares = _shifted_sums(y[i], shift)
        if count > 0.0:
            center = total / count
            delta = center - rest[i]
            move = rest[i] + delta * (count / (w + count))
            mean[i] = shift + move
            rest[i] = move - (mean[i] - shift)
            m2[i] += max(squares - total * center, 0.0) + delta * delta * (w * count / (w + count))
            weight[i] = w + count
            seen[i] += int(count)


@fast_kernel
def _shifted_sums(row: F64, shift: float) -> tuple[float, float, float]:
    """Count, sum and sum of squares of a row's samples less the shift."""
    count, total, squares = 0.0, 0.0, 0.0
    for t in range(row.size):
        x = row[t]
        is_sample = abs(x) <= LARGEST
        d = x - shift if is_sample else 0.0
        count += 1.0 if is_sample else 0.0
        total += d
        squares += d * d
    return count, total, squares
