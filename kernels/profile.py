"""Seasonal profiles in bins of civil time: what they say of a step, and how they learn from it."""

from __future__ import annotations

from kernels._jit import F64, lean_inline
from kernels.envelope_state import Calendar


@lean_inline
def profile_at(calendar: Calendar, ahead: int, t: int, profile: F64, visits: F64) -> tuple[float, bool]:
    """Sum of the components at a step (0 ahead) or a forecast offset; whether the first one has been there before."""
    total, is_known = 0.0, True
    for j in range(calendar.left.shape[2]):
        a, b, share = calendar.left[ahead, t, j], calendar.right[ahead, t, j], calendar.share[ahead, t, j]
        if a >= 0:
            total += (1.0 - share) * profile[a] + share * profile[b]
            if j == 0 and visits[a] == 0.0 and visits[b] == 0.0:
                is_known = False
    return total, is_known


@lean_inline
def profile_learn(calendar: Calendar, t: int, error: float, profile: F64, visits: F64) -> None:
    """Move the bins of a step by their part of an error.

    A bin's rate is that of a mean, later that of an average which forgets. On a holiday its component learns alone.
    """
    is_special = False
    for j in range(calendar.left.shape[2]):
        is_special = is_special or (calendar.is_holiday[j] == 1 and calendar.left[0, t, j] >= 0)
    for j in range(calendar.left.shape[2]):
        a, b, share = calendar.left[0, t, j], calendar.right[0, t, j], calendar.share[0, t, j]
        if a < 0 or (is_special and calendar.is_holiday[j] == 0):
            continue
        for side in range(2):
            bin_, weight = (a, 1.0 - share) if side == 0 else (b, share)
            if weight > 0.0:
                visits[bin_] += weight
                rate = max(1.0 / (visits[bin_] + calendar.prior[j]), 1.0 / calendar.rest[j])
                profile[bin_] += min(rate, 1.0) * weight * error
