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
def learns(calendar: Calendar, t: int, j: int) -> bool:
    """Whether a component learns at a step: on a holiday its component alone does."""
    if calendar.left[0, t, j] < 0:
        return False
    if calendar.is_holiday[j] == 1:
        return True
    for other in range(calendar.left.shape[2]):
        if calendar.is_holiday[other] == 1 and calendar.left[0, t, other] >= 0:
            return False
    return True


@lean_inline
def visit(calendar: Calendar, j: int, place: int, weight: float, visits: F64) -> float:
    """Count a visit of a bin; the share of an error that it takes: that of a mean, later of one that forgets."""
    visits[place] += weight
    rate = max(1.0 / (visits[place] + calendar.prior[j]), 1.0 / calendar.rest[j])
    return float(min(rate, 1.0) * weight)


@lean_inline
def profile_learn(calendar: Calendar, t: int, error: float, profile: F64, visits: F64) -> None:
    """Move the bins of a step by their shares of an error."""
    for j in range(calendar.left.shape[2]):
        if not learns(calendar, t, j):
            continue
        a, b, share = calendar.left[0, t, j], calendar.right[0, t, j], calendar.share[0, t, j]
        if share < 1.0:
            profile[a] += visit(calendar, j, a, 1.0 - share, visits) * error
        if share > 0.0:
            profile[b] += visit(calendar, j, b, share, visits) * error
