"""The period of each series of a frame, for models with one season, and rows that share one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.frame import I64, Frame
from engine.models.civil import civil_ms
from engine.seasons import find_seasons, main_season


def find_periods(frame: Frame) -> I64:
    """(S,) points in the main season of each row, 1 where there is none."""
    found = find_seasons(frame.values, civil_ms(frame.timestamps_ms, frame.tz), frame.step_ms)
    main = [main_season(seasons) for seasons in found]
    return np.array([season.period_ms // frame.step_ms if season else 1 for season in main], dtype=np.int64)


def rows_by_period(periods: I64) -> Iterator[tuple[int, I64]]:
    """Each period with the rows that have it."""
    for period in np.unique(periods):
        yield int(period), np.flatnonzero(periods == period)
