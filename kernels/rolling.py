"""Quantiles of the last finite samples of many series."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, I64, kernel
from kernels.rank_window import list_members, window_quantiles
from kernels.ranks import rank_samples

# Differences of learned values must be numbers.
_LARGEST = 1e300
# By ranks costs as much as 64 steps of `_replace`, and another one for four samples that a window begins with.
_MORE, _ANYWAY = 4, 256
# So many steps are ranked together: enough that the window, sorted with them, adds little, and few enough that its
# samples are not scattered over many words of the set.
_PIECE, _WIDE = 4_096, 16


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
    Few steps one by one: two binary searches and one move of the part of `ordered` between the value that leaves and
    the one that enters: O(W) in the worst case, but the move is one stream of memory; allocates nothing. Many steps by
    the ranks of their samples, in pieces: O(1) a step, a quarter of the time, and scratch of 100 bytes a step of a
    piece of one row. Either way gives numpy's default (linear) quantiles, bit for bit.
    """
    n_series, n_steps = y.shape
    width = ring.shape[1]
    for i in range(n_series):
        if _MORE * n_steps >= min(seen[i], width) + _ANYWAY:
            piece = max(_PIECE, _WIDE * width)
            for first in range(0, n_steps, piece):
                steps = slice(first, first + piece)
                bands = yhat[i, steps], lower[i, steps], upper[i, steps]
                seen[i] = _by_ranks(y[i, steps], quantile, iqr_threshold, ring[i], ordered[i], seen[i], *bands)
            continue
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
def _by_ranks(
    y: F64,
    quantile: float,
    iqr_threshold: float,
    ring: F64,
    ordered: F64,
    seen: int,
    yhat: F64,
    lower: F64,
    upper: F64,
) -> int:
    """`rolling_predict_update` of one row by its samples' ranks; returns the samples taken."""
    width = ring.size
    size = min(seen, width)
    z, n = np.empty(size + y.size), size
    for k in range(size):
        z[k] = ring[(seen - size + k) % width]
    for t in range(y.size):
        if abs(y[t]) <= _LARGEST:
            z[n] = y[t]
            n += 1
    rank, in_order = np.empty(n, np.int32), np.empty(n + 1)
    rank_samples(z, n, np.empty((3, n), np.uint64), np.empty((2, n), np.int32), rank, in_order)
    n_shares = 5 if iqr_threshold > 0 else 3
    members, found = np.empty((n >> 6) + 1, np.uint64), np.empty((n_shares, n - size + 1))
    for k in range(n_shares):
        share = (0.5, 1.0 - quantile, quantile, 0.25, 0.75)[k]
        window_quantiles(rank, in_order, size, width, share, members, found[k])
    taken = 0
    for t in range(y.size):
        center, low, high = found[0, taken], found[1, taken], found[2, taken]
        if iqr_threshold > 0:
            margin = iqr_threshold * (found[4, taken] - found[3, taken]) / 2
            low, high = low - margin, high + margin
        yhat[t], lower[t], upper[t] = center, low, high
        taken += 1 if abs(y[t]) <= _LARGEST else 0
    for k in range(max(size, n - width), n):
        ring[(seen - size + k) % width] = z[k]
    list_members(members, in_order, ordered[: min(n, width)])
    return seen + taken


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
