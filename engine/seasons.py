"""Which periods repeat in a series: none for noise, several where there are several, civil ones first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.frame import F64, I64
from kernels.periodogram import clipped_differences, harmonic_evidence, repetition, slot_means

HOUR_MS, DAY_MS, WEEK_MS = 3_600_000, 86_400_000, 604_800_000

# Chance that one test of one period calls noise a season, as far as its spectrum is smooth.
_ALPHA = 1e-5
# Less of the variance about the trend than this is not worth a season.
_LEAST_SHARE = 0.1
# Periods that life has, with the number of parts that their cycle is cut into.
_CIVIL = ((HOUR_MS, 60), (DAY_MS, 96), (WEEK_MS, 168))
_COUNTS = np.array([1, 2, 3, 5, 8, 12, 24], dtype=np.int64)
_HARMONICS = 32
# Points of the longest transform, and rows that are transformed at a time.
_LONGEST = 8192
_ROWS = 256
# A period that no clock has is believed after this many cycles.
_FREE_CYCLES = 5


@dataclass(frozen=True, slots=True)
class Season:
    """A period that repeats, and the share of the variance about the trend (and shorter seasons) that it explains."""

    period_ms: int
    share: float


def find_seasons(values: F64, clock_ms: I64, step_ms: int) -> list[tuple[Season, ...]]:
    """The seasons of each row, the shortest first.

    Parameters
    ----------
    values : (S, T); NaN is missing.
    clock_ms : (T,) times on the wall clock of the series' zone, so that a change of clocks moves no season.
    step_ms : distance of the points; seasons are multiples of it.

    Notes
    -----
    A season is believed if its harmonics stand out from their neighbours in the periodogram of clipped differences
    (which makes noise, walks, trends, level shifts and spikes smooth there) and its cycles resemble each other. An
    hour, a day and a week are tried first, and whole parts of them; then the highest other peak. A period within one
    cycle of a civil one, over the whole window, cannot be told from it. Needs two whole cycles.
    Rows are independent.
    """
    found: list[tuple[Season, ...]] = []
    for first in range(0, values.shape[0], _ROWS):
        found += _find(values[first : first + _ROWS], clock_ms, step_ms)
    return found


def main_season(seasons: tuple[Season, ...]) -> Season | None:
    """The season to use where there can be only one: the largest share."""
    return max(seasons, key=lambda season: season.share, default=None)


def without_season(row: F64, clock_ms: I64, period_ms: int, step_ms: int) -> F64:
    """(T,) a row less the mean of its phase in the period, plus the mean of all phases."""
    phase = clock_ms // step_ms % (period_ms // step_ms)
    there = np.isfinite(row)
    counts = np.bincount(phase[there], minlength=period_ms // step_ms)
    means = np.bincount(phase[there], weights=row[there], minlength=counts.size) / np.maximum(counts, 1)
    return row - means[phase] + means[counts > 0].mean() if there.any() else row


def _find(values: F64, clock_ms: I64, step_ms: int) -> list[tuple[Season, ...]]:
    found: list[list[Season]] = [[] for _ in range(values.shape[0])]
    span_ms = clock_ms.size * step_ms
    for period_ms, n_parts in _CIVIL:
        part_ms = _part_ms(period_ms, n_parts, step_ms)
        if part_ms is None or span_ms < 2 * period_ms:
            continue
        _test(values, clock_ms, period_ms, part_ms, step_ms, np.arange(values.shape[0]), found)
    _search_rest(values, clock_ms, step_ms, found)
    return [tuple(sorted(each, key=lambda season: season.period_ms)) for each in found]


def _part_ms(period_ms: int, n_parts: int, step_ms: int) -> int | None:
    """The finest part of a cycle, a multiple of the step, of which there are at most `n_parts` and at least three."""
    for n in range(n_parts, 2, -1):
        if period_ms % n == 0 and (period_ms // n) % step_ms == 0:
            return period_ms // n
    return None


def _test(
    values: F64, clock_ms: I64, period_ms: int, part_ms: int, step_ms: int, rows: I64, found: list[list[Season]]
) -> None:
    """Add the season of this period, or of a whole part of it, to the rows that have one."""
    if rows.size == 0:
        return
    period = period_ms // part_ms
    n_cycles = min(clock_ms.size * step_ms // period_ms, max(2, _LONGEST // period))
    last_slot = int(clock_ms[-1]) // part_ms
    slots = clock_ms // part_ms - (last_slot - n_cycles * period)
    means = np.empty((rows.size, n_cycles * period + 1))
    slot_means(np.ascontiguousarray(values[rows]), slots, means)
    differences = _differences(means)
    power = _power(differences)
    # Without most of what steps and spikes add.
    calm = np.where(np.isfinite(means[:, 1:]), np.cumsum(differences, axis=1), np.nan)
    for i in np.flatnonzero(_evidence(power, n_cycles, period, 1) < _ALPHA):
        own = _fundamental(power[i : i + 1], n_cycles, period)
        own_ms = own * part_ms
        if own_ms in [season.period_ms for season in found[rows[i]]]:
            continue
        rest = calm[i : i + 1]
        for season in found[rows[i]]:
            rest = _without(rest, season.period_ms, part_ms)
        share = np.empty(1)
        repetition(rest, own, share)
        if share[0] >= _LEAST_SHARE:
            found[rows[i]].append(Season(own_ms, float(share[0])))


def _differences(means: F64) -> F64:
    """(S, n - 1) clipped differences."""
    out = np.empty((means.shape[0], means.shape[1] - 1))
    clipped_differences(means, out)
    return out


def _power(differences: F64) -> F64:
    """(S, n // 2 + 1) periodogram."""
    power: F64 = np.abs(np.fft.rfft(differences, axis=1)) ** 2
    return power


def _evidence(power: F64, n_cycles: int, period: int, part: int) -> F64:
    """(S,) chance of the harmonics, those left out that a period `part` times shorter has, too."""
    harmonics = np.arange(1, min(_HARMONICS, period // 2) + 1)
    is_own = (harmonics % part != 0) if part > 1 else np.ones(harmonics.size, dtype=bool)
    out = np.ones(power.shape[0])
    harmonic_evidence(power, n_cycles, is_own.astype(np.int64), _COUNTS, out)
    return out


def _fundamental(power: F64, n_cycles: int, period: int) -> int:
    """The shortest period that has all of the evidence: a whole part of the given one."""
    for part in (2, 3, 5, 7):
        while period % part == 0 and period // part >= 2 and _evidence(power, n_cycles, period, part)[0] >= _ALPHA:
            period, n_cycles = period // part, n_cycles * part
    return period


def _without(means: F64, period_ms: int, part_ms: int) -> F64:
    """The means less the mean cycle of a period; as they are where it is none of theirs."""
    period = period_ms // part_ms
    if period_ms % part_ms or period < 2:
        return means
    phase = np.arange(means.shape[1]) % period
    there = np.isfinite(means)
    rest = means.copy()
    for i in range(means.shape[0]):
        counts = np.bincount(phase[there[i]], minlength=period)
        sums = np.bincount(phase[there[i]], weights=means[i, there[i]], minlength=period)
        rest[i] -= (sums / np.maximum(counts, 1))[phase]
    return rest


def _search_rest(values: F64, clock_ms: I64, step_ms: int, found: list[list[Season]]) -> None:
    """Periods that no clock has, where the civil ones left a peak."""
    if clock_ms.size < 3 * _FREE_CYCLES:
        return
    for part_ms in _resolutions(clock_ms.size, step_ms):
        slots = clock_ms // part_ms
        n = int(min(slots[-1] - slots[0] + 1, _LONGEST))
        means = np.empty((values.shape[0], n))
        slot_means(np.ascontiguousarray(values), slots - slots[-1] + n - 1, means)
        differences = _differences(means)
        power = _power(differences)
        for i in range(values.shape[0]):
            periods = _peak(power[i], n - 1, part_ms, [season.period_ms for season in found[i]])
            if periods:
                period = _most_alike(np.cumsum(differences[i]), periods)
                _test(values, clock_ms, period * part_ms, part_ms, step_ms, np.array([i], dtype=np.int64), found)


def _resolutions(n_steps: int, step_ms: int) -> Iterator[int]:
    """The step, and where a transform of all steps would be too long, the part that makes it fit."""
    yield step_ms
    if n_steps > _LONGEST:
        yield step_ms * math.ceil(n_steps / _LONGEST)


def _peak(power: F64, n: int, part_ms: int, known_ms: list[int]) -> list[int]:
    """Whole periods around the highest peak over its surroundings; none where that may be chance or is a known one.

    A peak next to a civil period is that period, which was tested, or its harmonics.
    """
    first, last = _FREE_CYCLES, n // 3
    if last <= first + 16:
        return []
    around = _surroundings(power)
    ratio = np.where(around > 0, power / np.where(around > 0, around, 1.0), 0.0)
    ratio[:first] = 0.0
    ratio[last:] = 0.0
    bins = np.arange(power.size)
    for period_ms in known_ms:
        cycles = n * part_ms / period_ms
        ratio[np.abs(bins - cycles * np.round(bins / cycles)) <= 1.5] = 0.0
    for period_ms, _ in _CIVIL:
        ratio[np.abs(bins - n * part_ms / period_ms) <= 1.5] = 0.0
    peak = int(np.argmax(ratio))
    if ratio[peak] < math.log(n / _ALPHA):
        return []
    shortest, longest = math.ceil(n / (peak + 0.6)), math.floor(n / (peak - 0.6))
    whole = np.unique(np.linspace(shortest, longest, 16).round().astype(np.int64)).tolist()
    return [period for period in whole if 2 < period <= n // _FREE_CYCLES]


def _most_alike(calm: F64, periods: list[int]) -> int:
    """The period whose cycles resemble each other most; twice or three times it where that says much more."""
    limit = calm.size // _FREE_CYCLES
    share = {period: _share(calm, period) for period in periods}
    best = max(periods, key=lambda period: share[period])
    for period in (2 * best, 3 * best):
        if period <= limit and _share(calm, period) > share[best] + _LEAST_SHARE:
            return period
    return best


def _share(calm: F64, period: int) -> float:
    out = np.empty(1)
    repetition(np.ascontiguousarray(calm[None, calm.size % period :]), period, out)
    return float(out[0])


def _surroundings(power: F64) -> F64:
    """Mean power of sixteen bins on each side, the bin itself and its next left out, the highest clipped."""
    limited = np.minimum(power, 10 * np.median(power[1:]))
    sums = np.cumsum(np.concatenate([np.zeros(1), limited]))
    bins = np.arange(power.size)
    low, high = np.maximum(bins - 16, 1), np.minimum(bins + 17, power.size)
    near_low, near_high = np.maximum(bins - 1, 1), np.minimum(bins + 2, power.size)
    count = (high - low) - (near_high - near_low)
    total: F64 = (sums[high] - sums[low]) - (sums[near_high] - sums[near_low])
    mean: F64 = total / np.maximum(count, 1)
    return mean
