"""Quantiles of many series in each part of a season: a sketch for each part, all of a series' sketches in one row."""

from __future__ import annotations

import math

import numpy as np

from kernels._jit import B1, F32, F64, I32, I64, kernel
from kernels.tdigest import LARGEST, digest_insert

# One sketch at work: means, weights, whether a centroid's values differ.
Scratch = tuple[F64, F32, B1]

# A part of a season with fewer points than this is judged by the sketch of all points.
_LEAST_POINTS = 4
# Weights are divided by the unit before it is larger; decays below the least one say the same.
_LARGEST_UNIT = 1e12
_LEAST_DECAY = 1e-4


@kernel
def quantile_learn(
    y: F64, parts: I64, decay: float, is_transformed: bool, n_columns: int,
    mean: F64, weight: F32, end: I32, unit: F64, count: I64,
) -> None:  # fmt: skip
    """Advance the sketches of many series over new samples, in time order.

    Parameters
    ----------
    y : (S, T), unit of the query. NaN, inf or beyond 1e300: the step is skipped, without decay.
    parts : (T,) the part of the season that each step is in, 0 to B - 1; -1 where there are no seasons.
    decay : in (0, 1], per sample of a sketch; 1 keeps all history.
    is_transformed : learn sign(y) log(1 + |y|) in place of y.
    n_columns : centroids of a sketch at most, K.
    mean, weight : (S, P), updated in place: centroids of the parts' sketches one behind the other, then those of the
        sketch of all points, zeros after it. Means of a sketch ascend; a negative weight is one of values that
        differ. P must have room for two more centroids a step, or K a sketch.
    end : (S, B + 1) where each sketch ends.
    unit : (S, B + 1) weight of a sketch's next sample; 1 in a fresh state, where all else is zero.
    count : (S, B + 1) samples that each sketch has taken.

    Notes
    -----
    O(K) a step, and O(P) for steps in a row of one part: then what lies behind its sketch is moved. Rows are
    independent; two calls over two halves of `y` give bit for bit the state of one call over the whole. The sketches
    are those of `digest_insert`, with weights of 24 bits.
    """
    part_sketch, whole = _scratch(n_columns), _scratch(n_columns)
    last = end.shape[1] - 1
    for i in range(y.shape[0]):
        n_whole = _load(mean[i], weight[i], end[i], last, whole)
        t = 0
        while t < y.shape[1]:
            part = parts[t]
            n_part = _load(mean[i], weight[i], end[i], part, part_sketch) if part >= 0 else 0
            while t < y.shape[1] and parts[t] == part:
                x = y[i, t]
                t += 1
                if abs(x) > LARGEST or math.isnan(x):
                    continue
                x = _transformed(x) if is_transformed else x
                n_whole, unit[i, last] = _insert(x, decay, whole, n_whole, unit[i, last])
                count[i, last] += 1
                if part >= 0:
                    n_part, unit[i, part] = _insert(x, decay, part_sketch, n_part, unit[i, part])
                    count[i, part] += 1
            if part >= 0:
                _store(part_sketch, n_part, part, mean[i], weight[i], end[i])
        _store(whole, n_whole, last, mean[i], weight[i], end[i])


@kernel
def quantile_predict_update(
    y: F64, parts: I64, decay: float, is_transformed: bool, n_columns: int,
    quantiles: F64, iqr_threshold: float, smoothing: float,
    mean: F64, weight: F32, end: I32, unit: F64, count: I64, yhat: F64, lower: F64, upper: F64,
) -> None:  # fmt: skip
    """Write each step's band from the sketches before it, and learn the step as `quantile_learn` does.

    Parameters
    ----------
    quantiles : (5,) of the lower bound, of yhat and of the upper bound, ascending; a quarter and three quarters.
    iqr_threshold : each bound is moved outwards by so many interquartile ranges of the part.
    smoothing : share of the band over all points in that of a part, which has itself the rest.
    yhat, lower, upper : (S, T), unit of the query. NaN while a series has learned nothing.

    Notes
    -----
    A part with fewer than four points has the band of all points. Interquartile ranges are never mixed. Quantiles are
    mapped back before anything is added to them, so the band stays finite with `is_transformed`. O(K) a step and O(P)
    a part.
    """
    part_sketch, whole = _scratch(n_columns), _scratch(n_columns)
    band, of_all = np.empty(5), np.empty(5)
    last = end.shape[1] - 1
    for i in range(y.shape[0]):
        n_whole = _load(mean[i], weight[i], end[i], last, whole)
        t = 0
        while t < y.shape[1]:
            part = parts[t]
            n_part = _load(mean[i], weight[i], end[i], part, part_sketch) if part >= 0 else 0
            while t < y.shape[1] and parts[t] == part:
                is_part = part >= 0 and count[i, part] >= _LEAST_POINTS
                if is_part:
                    _band(part_sketch, n_part, unit[i, part], decay, quantiles, is_transformed, band)
                if not is_part or smoothing > 0.0:
                    _band(whole, n_whole, unit[i, last], decay, quantiles, is_transformed, of_all)
                if not is_part:
                    band[:] = of_all
                elif smoothing > 0.0:
                    # The interquartile range stays the part's.
                    for k in range(3):
                        band[k] = smoothing * of_all[k] + (1.0 - smoothing) * band[k]
                margin = iqr_threshold * (band[4] - band[3]) if iqr_threshold > 0.0 else 0.0
                lower[i, t], yhat[i, t], upper[i, t] = band[0] - margin, band[1], band[2] + margin
                x = y[i, t]
                t += 1
                if abs(x) > LARGEST or math.isnan(x):
                    continue
                x = _transformed(x) if is_transformed else x
                n_whole, unit[i, last] = _insert(x, decay, whole, n_whole, unit[i, last])
                count[i, last] += 1
                if part >= 0:
                    n_part, unit[i, part] = _insert(x, decay, part_sketch, n_part, unit[i, part])
                    count[i, part] += 1
            if part >= 0:
                _store(part_sketch, n_part, part, mean[i], weight[i], end[i])
        _store(whole, n_whole, last, mean[i], weight[i], end[i])


@kernel
def _transformed(x: float) -> float:
    """The signed logarithm of a value."""
    return math.copysign(math.log1p(abs(x)), x)


@kernel
def _restored(x: float) -> float:
    """The value of a signed logarithm."""
    return math.copysign(math.expm1(abs(x)), x)


@kernel
def _scratch(n_columns: int) -> Scratch:
    """Room for one sketch at work."""
    return np.empty(n_columns), np.empty(n_columns, dtype=np.float32), np.empty(n_columns, dtype=np.bool_)


@kernel
def _load(mean: F64, weight: F32, end: I32, which: int, out: Scratch) -> int:
    """Copy one of a row's sketches; how many centroids it has."""
    first = end[which - 1] if which > 0 else 0
    size = end[which] - first
    for k in range(size):
        w = weight[first + k]
        out[0][k], out[1][k], out[2][k] = mean[first + k], abs(w), w < 0.0
    return int(size)


@kernel
def _store(sketch: Scratch, size: int, which: int, mean: F64, weight: F32, end: I32) -> None:
    """Put a sketch back into its row; those behind it, and zeros at the end, make room."""
    first, used = int(end[which - 1]) if which > 0 else 0, int(end[end.size - 1])
    behind, shift = int(end[which]), size - int(end[which]) + first
    if shift > 0:
        mean[behind + shift : used + shift] = mean[behind:used].copy()
        weight[behind + shift : used + shift] = weight[behind:used].copy()
    elif shift < 0:
        mean[behind + shift : used + shift] = mean[behind:used]
        weight[behind + shift : used + shift] = weight[behind:used]
        mean[used + shift : used], weight[used + shift : used] = 0.0, 0.0
    for k in range(size):
        mean[first + k] = sketch[0][k]
        weight[first + k] = -sketch[1][k] if sketch[2][k] else sketch[1][k]
    end[which:] += shift


@kernel
def _insert(x: float, decay: float, sketch: Scratch, size: int, unit: float) -> tuple[int, float]:
    """Size and unit of a sketch after a sample."""
    if unit > _LARGEST_UNIT:
        for k in range(size):
            sketch[1][k] /= unit
        unit = 1.0
    size, _, unit = digest_insert(x, max(decay, _LEAST_DECAY), sketch[0], sketch[1], sketch[2], size, 0.0, unit)
    return size, unit


@kernel
def _band(
    sketch: Scratch, size: int, unit: float, decay: float, quantiles: F64, is_transformed: bool, out: F64
) -> None:
    """Quantiles of a sketch, in the unit of the query; NaN if it is empty."""
    total = 0.0
    for k in range(size):
        total += sketch[1][k]
    newest = unit * max(decay, _LEAST_DECAY) if decay < 1.0 else unit
    for k in range(5):
        out[k] = sketch_quantile(sketch, size, total, newest, quantiles[k])
        out[k] = _restored(out[k]) if is_transformed else out[k]


@kernel
def sketch_quantile(sketch: Scratch, size: int, total: float, newest: float, quantile: float) -> float:
    """A quantile of a sketch of that total weight whose newest sample weighs `newest`; NaN if it is empty.

    numpy's, linear between neighbours, of samples that weigh as much as the newest: a centroid of n equal values takes
    n places, one of values that differ is a point in the middle of its places, and so is what weighs less than a
    sample.
    """
    place, before = quantile * max(total / newest - 1.0, 0.0), 0.0
    value, at = math.nan, 0.0
    for k in range(size):
        n = sketch[1][k] / newest
        is_point = sketch[2][k] or n < 1.0
        start = before + 0.5 * (n - 1.0) if is_point else before
        if place <= start:
            share = (place - at) / (start - at) if k > 0 and start > at else 1.0
            return float(sketch[0][k] if share == 1.0 else value + share * (sketch[0][k] - value))
        value, at = sketch[0][k], start if is_point else before + n - 1.0
        if place <= at:
            break
        before += n
    return float(value)
