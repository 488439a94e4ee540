"""Quantiles of the last finite samples of many series."""

from __future__ import annotations

import math

from kernels._jit import F64, I64, kernel

# Differences of learned values must be numbers.
_LARGEST = 1e300


@kernel
def rolling_add(y: F64, ring: F64, seen: I64) -> None:
    """Put new samples into ring buffers, in time order.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN, inf or beyond 1e300: the step is skipped and takes no place.
    ring : (S, W), updated in place. Infinite in a fresh state; sample k of a row is in column k mod W.
    seen : (S,) samples taken so far, updated in place.

    Notes
    -----
    O(S T), allocates nothing. Rows are independent. Shapes are trusted. Raises nothing.
    """
    n_series, n_steps = y.shape
    for i in range(n_series):
        n = seen[i]
        for t in range(n_steps):
            x = y[i, t]
            if abs(x) <= _LARGEST:
                ring[i, n % ring.shape[1]] = x
                n += 1
        seen[i] = n


@kernel
def rolling_predict_update(
    y: F64,
    quantile: float,
    iqr_threshold: float,
    ring: F64,
    ordered: F64,
    seen: I64,
    yhat: F64,
    lower: F64,
    upper: F64,
) -> None:
    """Write each step's band from the window before it, and let the step enter the window as `rolling_add` does.

    Parameters
    ----------
    quantile : of the upper bound; the lower one's is 1 - quantile.
    iqr_threshold : either bound is moved outwards by half so many interquartile ranges of the window.
    ordered : (S, W) the values of `ring`, ascending, so those not yet filled last; updated in place.
    yhat, lower, upper : (S, T), unit of the query; median and bounds. NaN while a row has learned nothing.

    Notes
    -----
    Two binary searches and one move of the part of `ordered` between the value that leaves and the one that
    enters: O(W) in the worst case, but the move is one stream of memory. Allocates nothing. Quantiles are numpy's
    default (linear) ones, bit for bit.
    """
    n_series, n_steps = y.shape
    width = ring.shape[1]
    for i in range(n_series):
        row, n = ordered[i], seen[i]
        center, low, high = math.nan, math.nan, math.nan
        is_stale = n > 0
        for t in range(n_steps):
            if is_stale:
                size = min(n, width)
                center = _quantile(row, size, 0.5)
                low, high = _quantile(row, size, 1.0 - quantile), _quantile(row, size, quantile)
                if iqr_threshold > 0:
                    margin = iqr_threshold * (_quantile(row, size, 0.75) - _quantile(row, size, 0.25)) / 2
                    low, high = low - margin, high + margin
                is_stale = False
            yhat[i, t], lower[i, t], upper[i, t] = center, low, high
            x = y[i, t]
            if abs(x) <= _LARGEST:
                slot = n % width
                _replace(row, ring[i, slot], x)
                ring[i, slot] = x
                n += 1
                is_stale = True
        seen[i] = n


@kernel
def _quantile(row: F64, size: int, share: float) -> float:
    """Quantile of the first `size` values of a sorted row, interpolated in numpy's order of operations."""
    place = share * (size - 1)
    k = int(place)
    if k >= size - 1:
        return float(row[size - 1])
    part, gap = place - k, row[k + 1] - row[k]
    return float(row[k] + gap * part if part < 0.5 else row[k + 1] - gap * (1.0 - part))


@kernel
def _replace(row: F64, old: float, new: float) -> None:
    """Take one value that the sorted row has out of it and put another one in."""
    leaves, enters = _first_from(row, old), _first_from(row, new)
    # The part that moves is a view of its own: indices that cannot be negative make this one move of memory.
    if enters > leaves:
        part = row[leaves:enters]
        for k in range(part.size - 1):
            part[k] = part[k + 1]
        part[part.size - 1] = new
    else:
        part = row[enters : leaves + 1]
        for k in range(part.size - 1, 0, -1):
            part[k] = part[k - 1]
        part[0] = new


@kernel
def _first_from(row: F64, x: float) -> int:
    """The first place whose value is not below `x`; the row's size if there is none. Without jumps: each is a guess."""
    at, left = 0, row.size
    while left > 1:
        half = left >> 1
        at += half if row[at + half - 1] < x else 0
        left -= half
    return at + (1 if row[at] < x else 0)
