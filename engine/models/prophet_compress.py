"""Points gathered into longer steps before a fit."""

from __future__ import annotations

import numpy as np

from engine.frame import F64, Frame


def compress(frame: Frame, window_ms: int, *, is_median: bool) -> Frame:
    """The frame with one step for each window of `window_ms`, its value the mean or median of the finite ones.

    Windows are aligned to the epoch. A step is placed at the mean of the grid times in its window; a window not longer
    than the step changes nothing.
    """
    if window_ms <= frame.step_ms or frame.timestamps_ms.size == 0:
        return frame
    window = frame.timestamps_ms // window_ms
    starts = np.flatnonzero(np.diff(window, prepend=window[0] - 1))
    counts = np.diff(starts, append=window.size)
    offsets = frame.timestamps_ms - frame.timestamps_ms[0]
    times = frame.timestamps_ms[0] + np.add.reduceat(offsets, starts) // counts
    values = np.empty((frame.shape[0], starts.size))
    for step, (start, count) in enumerate(zip(starts, counts, strict=True)):
        values[:, step] = _gather(frame.values[:, start : start + count], is_median=is_median)
    return Frame(frame.series, times, values, window_ms, frame.tz)


def _gather(values: F64, *, is_median: bool) -> F64:
    """(S,) mean or median of the finite values, NaN where there is none."""
    finite = np.isfinite(values)
    count = finite.sum(axis=1)
    if not is_median:
        total = np.where(finite, values, 0.0).sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
    ordered = np.sort(np.where(finite, values, np.nan), axis=1)
    rows = np.arange(count.size)
    low, high = ordered[rows, np.maximum(count - 1, 0) // 2], ordered[rows, np.minimum(count // 2, values.shape[1] - 1)]
    middle: F64 = 0.5 * (low + high)
    return middle
