"""The temporal envelope's threshold, the size of a residual, in its scale, that is just anomalous: what it follows."""

from __future__ import annotations

import math

from kernels._jit import F64, lean_inline
from kernels.envelope_state import COUNT, MARGIN, TAIL, VISIT_BIN, VISIT_PEAK

# The quantile that the threshold starts from, and how often a point may be beyond the threshold itself.
_TAIL_SHARE = 0.003
_ALARM_SHARE = 0.0004
# The threshold is at most this factor above the quantile, and grows slowly above `_BEND`: anomalies are in it, too.
_LARGEST_MARGIN = math.log(1.3)
_BEND, _BENT = 4.95, 0.5
_LEAST_THRESHOLD = 2.0
# What a visit of a quarter of an hour leaves of its largest residuals, with one beyond the threshold and without.
_KEPT, _FADED = 0.95, 0.9
# A residual of so many scales is as far as any: the scale was that of a constant.
LARGEST_RESIDUAL = 1e6


@lean_inline
def threshold(s: F64) -> float:
    """Size of a residual, in its scale, that is just anomalous."""
    size = max(math.exp(s[TAIL] + s[MARGIN]), _LEAST_THRESHOLD)
    return size if size <= _BEND else _BEND * (size / _BEND) ** _BENT


@lean_inline
def learn_tail(s: F64, largest: float) -> None:
    """The quantile of the largest residual and the margin above it, by stochastic approximation.

    The margin falls while fewer points than `_ALARM_SHARE` are beyond the threshold: short tails get a closer band.

    Source: Robbins and Monro (1951), doi:10.1214/aoms/1177729586.
    """
    is_beyond = largest > math.exp(s[TAIL] + s[MARGIN])
    n = s[COUNT] + 1.0
    step = max(0.02, 1.0 / (_TAIL_SHARE * n + 20.0))
    s[TAIL] += (1.0 - _TAIL_SHARE) * step if largest > math.exp(s[TAIL]) else -_TAIL_SHARE * step
    if n > 300.0:
        moved = s[MARGIN] + 0.03 * ((1.0 if is_beyond else 0.0) - _ALARM_SHARE)
        s[MARGIN] = min(max(moved, 0.0), _LARGEST_MARGIN)


@lean_inline
def learn_peak(s: F64, peaks: F64, quarter: int, largest: float) -> None:
    """The two largest residuals of a civil quarter of an hour, by visits, each fading with them.

    Faster with quiet visits: a nightly job is usual, an outage every few days is not. The first change of a constant
    has no size that could be expected again.
    """
    if quarter != int(s[VISIT_BIN]):
        last, peak = int(s[VISIT_BIN]), s[VISIT_PEAK]
        kept = _KEPT if peak > threshold(s) else _FADED
        first, second = kept * peaks[0, last], kept * peaks[1, last]
        if peak > first:
            first, second = peak, first
        elif peak > second:
            second = peak
        peaks[0, last], peaks[1, last] = first, second
        s[VISIT_BIN], s[VISIT_PEAK] = quarter, 0.0
    if largest < LARGEST_RESIDUAL:
        s[VISIT_PEAK] = max(s[VISIT_PEAK], largest)


@lean_inline
def usual_peak(size: float, peak: float) -> float:
    """The threshold, raised where the same quarter of an hour has had larger residuals twice."""
    return max(size, 1.2 * peak) if peak > 1.3 * size else size
