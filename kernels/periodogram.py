"""Evidence of periods in rows with gaps: means on a clock, whitened periodograms, repetition of cycles."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import F64, I64, kernel

# A difference beyond this many deviations is a step or a spike: it counts as one of this size.
_CLIP = 5.0
_LARGEST = 1e140
# Bins on each side of a harmonic that it is compared with.
_REACH = 8
# Standard deviations of normal noise in a median absolute deviation.
_NORMAL = 1.4826


@kernel
def slot_means(values: F64, slots: I64, out: F64) -> None:
    """Mean of the values of each slot.

    Parameters
    ----------
    values : (S, T), any unit. NaN, inf or beyond 1e140 is missing: powers of larger ones overflow.
    slots : (T,) the slot of each step; those outside 0 … n - 1 are left out.
    out : (S, n), NaN where a slot has no value.
    """
    n_series, n_steps = values.shape
    n = out.shape[1]
    for i in range(n_series):
        counts = np.zeros(n)
        out[i] = 0.0
        for t in range(n_steps):
            j, x = slots[t], values[i, t]
            if 0 <= j < n and abs(x) <= _LARGEST:
                counts[j] += 1.0
                out[i, j] += x
        for j in range(n):
            out[i, j] = out[i, j] / counts[j] if counts[j] > 0.0 else math.nan


@kernel
def clipped_differences(y: F64, out: F64) -> None:
    """First differences, each at most five robust deviations from 0: trends, steps and spikes weigh little.

    Parameters
    ----------
    y : (S, n); NaN is missing.
    out : (S, n - 1), 0 where one of the two values is missing.

    Notes
    -----
    The deviation is 1.4826 times the median size of the row's differences, of those that are not 0 if most are.
    """
    n_series, n = y.shape
    sizes = np.empty(n)
    for i in range(n_series):
        n_all, n_moves = 0, 0
        for t in range(n - 1):
            d = y[i, t + 1] - y[i, t]
            out[i, t] = d if math.isfinite(d) else 0.0
            if math.isfinite(d):
                n_all += 1
            if out[i, t] != 0.0:
                sizes[n_moves] = abs(out[i, t])
                n_moves += 1
        if n_moves == 0:
            continue
        # The median of all, zeros included; where that is 0 the median of the rest.
        rank = n_all // 2 - (n_all - n_moves)
        ordered = np.sort(sizes[:n_moves])
        limit = _CLIP * _NORMAL * (ordered[rank] if rank >= 0 else ordered[n_moves // 2])
        for t in range(n - 1):
            out[i, t] = min(max(out[i, t], -limit), limit)


@kernel
def harmonic_evidence(power: F64, n_cycles: int, is_own: I64, counts: I64, out: F64) -> None:
    """How unlikely it is, with a smooth spectrum, that a period's harmonics stand out from their neighbours as they do.

    Parameters
    ----------
    power : (S, n) periodogram of rows of n_cycles whole cycles; harmonic k is at k n_cycles.
    n_cycles : at least 2.
    is_own : (K,) 1 for the harmonics 1 … K that count, 0 for those that a shorter period explains.
    counts : (M,) ascending numbers of first counted harmonics that are tried together.
    out : (S,) least of the M probabilities, times M.

    Notes
    -----
    A harmonic over the mean of m neighbours has the tail (1 + x / m)^-m, so -log of it is exponential and the sum over
    harmonics a gamma variable. Neighbours are those of up to eight bins on each side that are no harmonics.
    """
    n = power.shape[1]
    for i in range(power.shape[0]):
        total, n_own, best, next_count = 0.0, 0, 1.0, 0
        for k in range(1, is_own.size + 1):
            middle = k * n_cycles
            if middle + _REACH >= n:
                break
            if is_own[k - 1] == 0:
                continue
            # As far to the left as to the right: at low frequencies spectra are steep.
            reach, around, m = min(_REACH, middle - 1), 0.0, 0
            for j in range(middle - reach, middle + reach + 1):
                if j % n_cycles != 0:
                    around += power[i, j]
                    m += 1
            if around > 0.0:
                total += m * math.log1p(power[i, middle] / around)
            elif power[i, middle] > 0.0:
                total += 20.0 * m
            n_own += 1
            if next_count < counts.size and n_own == counts[next_count]:
                best = min(best, _gamma_tail(n_own, total))
                next_count += 1
        out[i] = min(1.0, best * counts.size)


@kernel
def _gamma_tail(n: int, x: float) -> float:
    """Probability that a sum of n standard exponentials is above x."""
    term, total = 1.0, 1.0
    for k in range(1, n):
        term *= x / k
        total += term
    return math.exp(-x) * total if x < 700.0 else 0.0


@kernel
def repetition(y: F64, period: int, share: F64) -> None:
    """Share of the variance about a moving mean that comes again in other cycles: mean autocorrelation at multiples.

    Parameters
    ----------
    y : (S, n), n a multiple of `period`, two cycles or more; NaN is missing.
    share : (S,) out; 0 where nothing varies. Each cycle is compared with the mean of all others.
    """
    n_series, n = y.shape
    z = np.empty(n)
    sums, counts = np.empty(period), np.empty(period)
    for i in range(n_series):
        _center_moving(y[i], period, z)
        sums[:] = 0.0
        counts[:] = 0.0
        for t in range(n):
            if not math.isnan(z[t]):
                sums[t % period] += z[t]
                counts[t % period] += 1.0
        both, own = 0.0, 0.0
        for t in range(n):
            j = t % period
            if not math.isnan(z[t]) and counts[j] > 1.0:
                both += z[t] * (sums[j] - z[t]) / (counts[j] - 1.0)
                own += z[t] * z[t]
        share[i] = both / own if own > 0.0 else 0.0


@kernel
def _center_moving(row: F64, period: int, out: F64) -> None:
    """The row less the mean over a period around each point, at most six robust deviations from it."""
    n = row.size
    sums, counts = np.zeros(n + 1), np.zeros(n + 1)
    for t in range(n):
        is_there = not math.isnan(row[t])
        sums[t + 1] = sums[t] + (row[t] if is_there else 0.0)
        counts[t + 1] = counts[t] + is_there
    sizes, n_there = np.empty(n), 0
    for t in range(n):
        first = min(max(t - period // 2, 0), n - period)
        count = counts[first + period] - counts[first]
        out[t] = row[t] - (sums[first + period] - sums[first]) / count if count > 0 else math.nan
        if not math.isnan(out[t]):
            sizes[n_there] = abs(out[t])
            n_there += 1
    if n_there == 0:
        return
    limit = 6.0 * _NORMAL * np.median(sizes[:n_there])
    if limit > 0.0:
        for t in range(n):
            out[t] = min(max(out[t], -limit), limit) if not math.isnan(out[t]) else math.nan
