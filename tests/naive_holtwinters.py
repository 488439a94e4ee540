"""Holt-Winters smoothing step by step, from the definition; numpy only, so that the golden file's script can use it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Form(NamedTuple):
    """Kinds as statsmodels names them: None, "add" or "mul"."""

    trend: str | None = None
    seasonal: str | None = None
    damped: bool = False


class Start(NamedTuple):
    level: float
    trend: float
    season: list[float]


def one_step(
    y: Sequence[float], form: Form, start: Start, alpha: float, beta: float, gamma: float, phi: float
) -> tuple[list[float], float, float, list[float]]:
    """Expected values of each step from those before it, and level, trend and season of the steps after the last."""
    level, trend, season = start.level, start.trend, list(start.season)
    expected = []
    for x in y:
        kept = trend**phi if form.trend == "mul" else phi * trend
        base = {None: level, "add": level + kept, "mul": level * kept}[form.trend]
        effect = season.pop(0) if season else 0.0
        yhat = base * effect if form.seasonal == "mul" else base + effect
        expected.append(yhat)
        before = level
        if math.isnan(x):
            level = base
        elif form.seasonal == "mul":
            level, effect = base + alpha * (x - yhat) / effect, effect + gamma * (x - yhat) / base
        else:
            level, effect = base + alpha * (x - yhat), effect + gamma * (x - yhat)
        if form.trend == "add":
            trend = beta * (level - before) + (1 - beta) * kept
        elif form.trend == "mul":
            trend = beta * level / before + (1 - beta) * kept
        if form.seasonal is not None:
            season.append(effect)
    return expected, level, trend, season


def start_values(y: Sequence[float], form: Form, m: int) -> Start:
    """Start values of a row whose first value is not missing: from all whole seasons, or a line through ten steps."""
    row = np.asarray(y, dtype=np.float64)
    if form.seasonal is None:
        return _without_season(row, form.trend)
    n = len(row) // m
    table = row[: n * m].reshape(n, m)
    is_factor = form.seasonal == "mul"
    season = np.full(m, 1.0 if is_factor else 0.0)
    for _ in range(500):
        means = np.nanmean(table / season if is_factor else table - season, axis=1)
        season = np.nanmean(table / means[:, None] if is_factor else table - means[:, None], axis=0)
    slope = (means[-1] - means[0]) / ((n - 1) * m)
    rise = slope * (np.arange(m) - (m - 1) / 2)
    season = season * means.mean() / (means.mean() + rise) if is_factor else season - rise
    back = (m + 1) / 2
    if form.trend is None:
        return Start(means[0], 0.0, season.tolist())
    if form.trend == "add":
        return Start(means[0] - slope * back, slope, season.tolist())
    ratio = (means[-1] / means[0]) ** (1 / ((n - 1) * m))
    return Start(means[0] / ratio**back, ratio, season.tolist())


def _without_season(row: np.ndarray, trend: str | None) -> Start:
    head = row[:10]
    times = np.flatnonzero(np.isfinite(head))
    center, middle = head[times].mean(), times.mean()
    slope = np.polyfit(times, head[times], 1)[0] if times.size > 1 else 0.0
    if trend is None:
        return Start(center, 0.0, [])
    if trend == "add":
        return Start(center - slope * (middle + 1), slope, [])
    ratio = 1 + slope / center
    return Start(center / ratio ** (middle + 1), ratio, [])
