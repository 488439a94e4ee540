"""What a series is like: points, gaps, seasons, trend, level shifts, kind of values, and the model that suits it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from engine.frame import F64, I64, Frame
from engine.models.civil import civil_ms
from engine.seasons import DAY_MS, HOUR_MS, WEEK_MS, Season, find_seasons, main_season, without_season
from engine.settings import Duration

# Parts of a series whose medians tell trend and level shifts, and parts on each side of a shift.
_N_PARTS, _SIDE = 120, 8
# Deviations of a part's median from the next that are a trend over the whole, or a shift.
_TREND, _SHIFT, _WANDER = 6.0, 9.0, 2.0
_MOSTLY = 0.5
_FEW_POINTS = 32


@dataclass(frozen=True, slots=True)
class Shift:
    """A level that changed for good at a time, by how much."""

    time_ms: int
    size: float


@dataclass(frozen=True, slots=True)
class Traits:
    """What one series is like.

    Attributes
    ----------
    n_gaps : runs of missing points between the first and the last one; `missing` is their share of all steps,
        `longest_gap_ms` the longest of them.
    trend : change from the first to the last point in units of the values, 0 where it is none.
    wanders : the level changes much more over the whole than from one part to the next, without trend or shift.
    zeros : share of points that are 0. `outliers` : share beyond ten median absolute deviations of the median, seasons
        and level shifts taken away.
    kind : empty, constant, two values, counts, shares (all in 0 … 1), not negative or real numbers.
    model, reason : what suits it, as a section of a configuration, and why.
    """

    n_points: int
    first_ms: int
    last_ms: int
    step_ms: int
    n_gaps: int
    missing: float
    longest_gap_ms: int
    seasons: tuple[Season, ...]
    trend: float
    shifts: tuple[Shift, ...]
    wanders: bool
    zeros: float
    outliers: float
    kind: str
    median: float
    least: float
    largest: float
    model: Mapping[str, Any]
    reason: str


def find_traits(frame: Frame) -> list[Traits]:
    """The traits of each row."""
    clock_ms = civil_ms(frame.timestamps_ms, frame.tz)
    seasons = find_seasons(frame.values, clock_ms, frame.step_ms)
    return [_of_row(frame, clock_ms, row, found) for row, found in zip(frame.values, seasons, strict=True)]


def _of_row(frame: Frame, clock_ms: I64, row: F64, seasons: tuple[Season, ...]) -> Traits:
    there = np.flatnonzero(np.isfinite(row))
    values = row[there]
    if values.size == 0:
        nothing = 0, 0, 0, frame.step_ms, 0, 1.0, 0, (), 0.0, (), False, 0.0, 0.0, "empty", math.nan, math.nan, math.nan
        return Traits(*nothing, {}, "it has no value")
    gaps = np.diff(there) - 1
    gaps = gaps[gaps > 0]
    kind = _kind(values)
    rest = row[there[0] : there[-1] + 1].copy()
    for season in seasons:
        rest = without_season(rest, clock_ms[there[0] : there[-1] + 1], season.period_ms, frame.step_ms)
    times_ms = frame.timestamps_ms[there[0] : there[-1] + 1]
    has_level = kind not in ("constant", "two values")
    shifts, trend, wanders = _level(rest, times_ms) if has_level else ((), 0.0, False)
    zeros = float(np.mean(values == 0))
    outliers = _outliers(rest, times_ms, shifts)
    model, reason = _suggest(values.size, kind, seasons, trend, shifts, wanders, zeros, outliers, frame.step_ms)
    return Traits(
        n_points=int(values.size),
        first_ms=int(times_ms[0]),
        last_ms=int(times_ms[-1]),
        step_ms=frame.step_ms,
        n_gaps=int(gaps.size),
        missing=float(gaps.sum() / rest.size),
        longest_gap_ms=int(gaps.max(initial=0)) * frame.step_ms,
        seasons=seasons,
        trend=trend,
        shifts=shifts,
        wanders=wanders,
        zeros=zeros,
        outliers=outliers,
        kind=kind,
        median=float(np.median(values)),
        least=float(values.min()),
        largest=float(values.max()),
        model=model,
        reason=reason,
    )


def _kind(values: F64) -> str:
    least, largest = float(values.min()), float(values.max())
    if least == largest:
        return "constant"
    if np.unique(values[:10_000]).size == 2 and np.unique(values).size == 2:
        return "two values"
    if least >= 0 and bool((values == np.round(values)).all()):
        return "counts"
    if least >= 0 and largest <= 1:
        return "shares"
    return "not negative" if least >= 0 else "real numbers"


def _level(rest: F64, times_ms: I64) -> tuple[tuple[Shift, ...], float, bool]:
    """Level shifts, the change by a trend where there is none, whether it wanders; from medians of parts."""
    edges = np.unique(np.linspace(0, rest.size, min(_N_PARTS, rest.size // 4) + 1).astype(np.int64))
    parts = [rest[a:b] for a, b in pairwise(edges.tolist())]
    medians = np.array([np.median(p[np.isfinite(p)]) if np.isfinite(p).any() else np.nan for p in parts])
    known = np.flatnonzero(np.isfinite(medians))
    levels = medians[known]
    if levels.size < 3 * _SIDE:
        return (), 0.0, False
    steps = np.abs(np.diff(levels))
    # The deviation of a difference of two medians; ties of rounded values are no reason to see shifts.
    spread = max(1.4826 * float(np.median(steps)), float(np.mean(steps)) / 3)
    if spread == 0:
        return (), 0.0, False
    shifts = _shifts(levels, spread, times_ms[edges[known]])
    if shifts:
        return shifts, 0.0, False
    i, j = np.triu_indices(levels.size, 1)
    slope = float(np.median((levels[j] - levels[i]) / (known[j] - known[i])))
    change = slope * (len(parts) - 1)
    # Of a walk, steps of one sign do not prevail; of a trend all long differences have its sign.
    far = j - i > levels.size // 3
    agree = float(np.mean(np.sign(levels[j[far]] - levels[i[far]]) == np.sign(slope)))
    line = levels - slope * known
    about = 1.4826 * float(np.median(np.abs(line - np.median(line))))
    is_trend = abs(change) > _TREND * max(about, spread / math.sqrt(2)) and agree > 0.98
    wanders = not is_trend and 1.4826 * float(np.median(np.abs(levels - np.median(levels)))) > _WANDER * spread
    return (), change if is_trend else 0.0, wanders


def _shifts(levels: F64, spread: float, starts_ms: I64) -> tuple[Shift, ...]:
    """Places where the medians of the parts on both sides are far apart, and most of it happens at once."""
    found: list[tuple[int, float]] = []
    size = np.zeros(levels.size)
    for t in range(_SIDE // 2, levels.size - _SIDE // 2):
        size[t] = np.median(levels[t : t + _SIDE]) - np.median(levels[max(0, t - _SIDE) : t])
    order = np.argsort(-np.abs(size), kind="stable")
    for t in order.tolist():
        if abs(size[t]) < _SHIFT * spread / math.sqrt(2):
            break
        if any(abs(t - other) < _SIDE for other, _ in found):
            continue
        near = range(max(1, t - 2), min(levels.size - 1, t + 3))
        jump = max(near, key=lambda k: abs(levels[k] - levels[k - 1]))
        across = levels[min(jump + 1, levels.size - 1)] - levels[max(jump - 2, 0)]
        if abs(across) > max(0.6 * abs(size[t]), _SHIFT * spread / math.sqrt(2)):
            found.append((jump, float(size[t])))
    return tuple(Shift(int(starts_ms[t]), amount) for t, amount in sorted(found))


def _outliers(rest: F64, times_ms: I64, shifts: Sequence[Shift]) -> float:
    n_far = n_all = 0
    edges = [0, *(int(np.searchsorted(times_ms, shift.time_ms)) for shift in shifts), rest.size]
    for a, b in pairwise(edges):
        part = rest[a:b][np.isfinite(rest[a:b])]
        if part.size:
            away = np.abs(part - np.median(part))
            middle = float(np.median(away))
            n_far += int(np.count_nonzero(away > 10 * middle)) if middle > 0 else 0
            n_all += part.size
    return n_far / max(n_all, 1)


def _suggest(
    n_points: int,
    kind: str,
    seasons: tuple[Season, ...],
    trend: float,
    shifts: Sequence[Shift],
    wanders: bool,
    zeros: float,
    outliers: float,
    step_ms: int,
) -> tuple[dict[str, Any], str]:
    """The section of a configuration that suits a series, and the reason."""
    periods = [season.period_ms for season in seasons]
    main = main_season(seasons)
    if kind == "constant" or (kind == "two values" and main is None):
        return {"class": "zscore_online"}, f"{kind}: there is no shape to learn"
    if n_points < _FEW_POINTS:
        return {"class": "zscore_online"}, f"{n_points} points are too few for anything else"
    if main is not None and main.period_ms not in (HOUR_MS, DAY_MS, WEEK_MS) and DAY_MS % main.period_ms:
        period = main.period_ms // step_ms
        return {"class": "std", "period": period}, f"it repeats every {Duration(main.period_ms)}, which no clock does"
    if main is not None and main.period_ms < DAY_MS and DAY_MS not in periods:
        period = main.period_ms // step_ms
        return {"class": "std", "period": period}, f"it repeats every {Duration(main.period_ms)}"
    if periods:
        names = {DAY_MS: "hod_smooth", WEEK_MS: "dow_smooth"}
        known = [names[period] for period in periods if period in names]
        said = " and ".join(str(Duration(period)) for period in periods)
        # A week's rhythm is an hour's of each day, too.
        wanted = ["hod_smooth", "dow_smooth"] if WEEK_MS in periods else known
        return {"class": "temporal_envelope", "seasonalities": wanted}, f"it repeats every {said}"
    if shifts:
        plural = "s" * (len(shifts) > 1)
        return {"class": "temporal_envelope", "seasonalities": []}, f"{len(shifts)} level shift{plural}, no season"
    if trend:
        return {"class": "temporal_envelope", "seasonalities": []}, "a trend, no season"
    if wanders:
        return {"class": "temporal_envelope", "seasonalities": []}, "its level wanders, no season"
    if zeros > _MOSTLY:
        return {"class": "zscore_online"}, f"{zeros:.0%} are 0: a median says nothing of the rest"
    if outliers > 0:
        return {"class": "mad_online"}, "one level with outliers, which do not widen its band"
    return {"class": "zscore_online"}, "one level, no season, trend or outliers"
