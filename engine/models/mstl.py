"""Several seasons at once: MSTL over the fit window, the longer ones carried on point by point beside the shortest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from engine.frame import F64, I64
from kernels.mstl import stl_rows
from kernels.stl import Tables

# Each season is decomposed again once, without what the others were found to be.
_ROUNDS = 2


def decompose(
    values: F64, periods: Sequence[int], options: I64, tables: Callable[[int], Tables]
) -> tuple[list[F64], F64]:
    """(S, n) effects of each period, shortest first, and the trend.

    Parameters
    ----------
    values : (S, n) NaN is missing; n of two periods or more for each.
    tables : smoothers of a period, by its place.

    Notes
    -----
    Source: Bandara, Hyndman, Bergmeir (2021), MSTL, arXiv:2107.13462; as statsmodels' `MSTL` with the same smoothers.
    """
    rest = values.copy()
    seasons = [np.zeros(values.shape) for _ in periods]
    trend = np.zeros(values.shape)
    for _ in range(_ROUNDS if len(periods) > 1 else 1):
        for k, period in enumerate(periods):
            rest += seasons[k]
            stl_rows(rest, period, options, tables(k), seasons[k], trend)
            rest -= seasons[k]
    return seasons, trend


def last_by_phase(effects: F64, places: I64, period: int) -> F64:
    """(S, period) the last effect of each phase."""
    out = np.zeros((effects.shape[0], period))
    out[:, places[-period:] % period] = effects[:, -period:]
    return out


def stretches(places: I64, longest: int) -> Iterator[slice]:
    """Consecutive steps in which no phase of a season of `longest` steps or more comes twice."""
    first = 0
    for step in range(1, places.size + 1):
        if step == places.size or step - first == longest or places[step] != places[step - 1] + 1:
            yield slice(first, step)
            first = step


def known_effects(seasons: Sequence[F64], places: I64) -> F64:
    """(S, T) what the longer seasons add at these places."""
    total = np.zeros((seasons[0].shape[0], places.size))
    for season in seasons:
        total += season[:, places % season.shape[1]]
    return total


def learn_errors(seasons: Sequence[F64], places: I64, errors: F64, gains: Sequence[float]) -> None:
    """Move the longer seasons in place by their shares of errors (S, T); NaN moves nothing."""
    moves = np.nan_to_num(errors, nan=0.0, posinf=0.0, neginf=0.0)
    for season, gain in zip(seasons, gains, strict=True):
        season[:, places % season.shape[1]] += gain * moves
