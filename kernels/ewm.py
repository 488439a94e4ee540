"""Decayed mean and variance of many series."""

from __future__ import annotations

import math

from kernels._jit import F64, I64, fast_kernel, kernel


@kernel
def ewm_update(y: F64, decay: float, weight: F64, mean: F64, m2: F64, seen: I64) -> None:
    """Advance decayed moments over new samples, in time order.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN or inf: the step is skipped, without decay.
    decay : in (0, 1], per finite sample; 1 keeps all history.
    weight, mean, m2 : (S,), updated in place; all zero is a fresh state. Variance is m2 / weight.
    seen : (S,) finite samples so far, updated in place.

    Notes
    -----
    O(S T), allocates nothing. Rows are independent; two calls over two halves of `y` give bit for bit the state of
    one call over the whole. Shapes are trusted. Raises nothing.

    Source: West (1979), doi:10.1145/359146.359153, with decay added.
    """
    n_series, n_steps = y.shape
    for i in range(n_series):
        w, mu, s = weight[i], mean[i], m2[i]
        for t in range(n_steps):
            x = y[i, t]
            if math.isfinite(x):
                seen[i] += 1
                w = decay * w + 1.0
                delta = x - mu
                mu += delta / w
                s = decay * s + delta * (x - mu)
        weight[i], mean[i], m2[i] = w, mu, s


@kernel
def ewm_predict_update(y: F64, decay: float, weight: F64, mean: F64, m2: F64, seen: I64, yhat: F64, std: F64) -> None:
    """As `ewm_update`, and write each step's mean and standard deviation from before it to `yhat`, `std`, (S, T).

    Both are NaN while a row has learned nothing.
    """
    n_series, n_steps = y.shape
    for i in range(n_series):
        w, mu, s = weight[i], mean[i], m2[i]
        for t in range(n_steps):
            yhat[i, t] = mu if w > 0 else math.nan
            std[i, t] = math.sqrt(s / w) if w > 0 else math.nan
            x = y[i, t]
            if math.isfinite(x):
                seen[i] += 1
                w = decay * w + 1.0
                delta = x - mu
                mu += delta / w
                s = decay * s + delta * (x - mu)
        weight[i], mean[i], m2[i] = w, mu, s


@fast_kernel
def moments_add(y: F64, weight: F64, mean: F64, m2: F64, seen: I64) -> None:
    """As `ewm_update` with decay 1, for long windows: one pass of shifted sums a row, then one merge.

    The sums run in SIMD lanes, so the result differs from `ewm_update` in the last digits (1e-12 of the standard
    deviation's size). The shift is the mean so far, or the row's first finite value.

    Source of the merge: Chan, Golub, LeVeque (1983), doi:10.1080/00031305.1983.10483115.
    """
    n_series, n_steps = y.shape
    for i in range(n_series):
        shift = mean[i]
        if weight[i] == 0.0:
            for t in range(n_steps):
                if math.isfinite(y[i, t]):
                    shift = y[i, t]
                    break
        count, total, squares = 0.0, 0.0, 0.0
        for t in range(n_steps):
            x = y[i, t]
            ok = math.isfinite(x)
            d = x - shift if ok else 0.0
            count += 1.0 if ok else 0.0
            total += d
            squares += d * d
        if count == 0.0:
            continue
        w = weight[i]
        # The old state about the shift has no first moment: the shift is its mean.
        delta = total / count
        s = m2[i] + max(squares - total * delta, 0.0)
        mean[i] = shift + delta * (count / (w + count))
        m2[i] = s + delta * delta * (w * count / (w + count))
        weight[i] = w + count
        seen[i] += int(count)
