"""How well scores find labelled anomalies: average precision, F1, F1 with delay, delay, false episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.frame import F64, I64
from engine.pool import Pool
from kernels._jit import B1

# A segment counts as found when one of its first 8 points is flagged.
MAX_DELAY = 7
EPISODE_GAP_MS = 30 * 60_000
_WEEK_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Scored points of one series in the order of time; NaN scores flag nothing."""

    times_ms: I64
    scores: F64
    truth: F64
    step_ms: int

    @property
    def segments(self) -> tuple[I64, I64]:
        """First position of each run of anomalous points, and the one behind its last."""
        edges = np.diff(np.concatenate([[0], (self.truth > 0).astype(np.int8), [0]]))
        return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)

    @property
    def weeks(self) -> float:
        return self.times_ms.size * self.step_ms / _WEEK_MS


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What flagging every score above `threshold` gives, all series together unless said otherwise.

    Attributes
    ----------
    precision, recall, f1 : point by point.
    delay_precision, delay_recall, delay_f1 : a segment counts with all its points if one of its first 8 points is
        flagged, else all are missed; points outside segments count one by one.
    n_found : segments with a flagged point anywhere. `delay_points`, `delay_s` : mean time from a found segment's start
        to its first flagged point; NaN when none is found.
    false_episodes : flagged points outside segments, those within 30 minutes of one another joined; each series'
        number a week, mean over series.
    """

    threshold: float
    precision: float
    recall: float
    f1: float
    delay_precision: float
    delay_recall: float
    delay_f1: float
    n_found: int
    delay_points: float
    delay_s: float
    false_episodes: float


@dataclass(frozen=True, slots=True)
class Measures:
    """All measures of a run.

    `average_precision` and `series_delay_f1` are means over the series with an anomalous point, the latter each at its
    own best threshold. `best_f1` and `best_delay_f1` are at the one threshold that is best for that measure.
    """

    n_series: int
    n_points: int
    n_anomalous: int
    n_segments: int
    average_precision: float
    series_delay_f1: float
    at_one: AtThreshold
    best_f1: AtThreshold
    best_delay_f1: AtThreshold


def average_precision(scores: F64, truth: F64) -> float:
    """Sum over thresholds of precision times the gain in recall, equal scores at once; NaN without an anomaly.

    The definition is scikit-learn's.
    """
    value, above = _descending(scores)
    is_anomalous = truth > 0
    n_anomalous = int(is_anomalous.sum())
    if n_anomalous == 0:
        return float("nan")
    hits = np.cumsum(is_anomalous[value])[above]
    precision = hits / (above + 1)
    return float(np.sum(np.diff(hits, prepend=0) * precision) / n_anomalous)


def measure(series: Sequence[Labelled], pool: Pool | None = None) -> Measures | None:
    """All measures; None where no point is labelled as anomalous. `pool` sorts with more than one thread."""
    pool = pool or Pool(1)
    anomalous = [s for s in series if (s.truth > 0).any()]
    if not anomalous:
        return None
    scores, truth = np.concatenate([s.scores for s in series]), np.concatenate([s.truth for s in series])
    points = scores, (truth > 0).astype(float), (truth <= 0).astype(float)
    found = pool.map(lambda items: best_threshold(*items)[0], [points, delay_items(series)])
    own = pool.map(lambda s: (average_precision(s.scores, s.truth), best_threshold(*delay_items([s]))[1]), anomalous)
    at_one, best_f1, best_delay_f1 = pool.map(lambda threshold: at_threshold(series, threshold), [1.0, *found])
    return Measures(
        n_series=len(series),
        n_points=scores.size,
        n_anomalous=int((truth > 0).sum()),
        n_segments=sum(s.segments[0].size for s in series),
        average_precision=float(np.mean([precision for precision, _ in own])),
        series_delay_f1=float(np.mean([f1 for _, f1 in own])),
        at_one=at_one,
        best_f1=best_f1,
        best_delay_f1=best_delay_f1,
    )


def at_threshold(series: Sequence[Labelled], threshold: float) -> AtThreshold:
    """Measures of one threshold for all series."""
    hits = false = total = found = 0
    late_hits = 0.0
    delays_points: list[float] = []
    delays_s: list[float] = []
    for s in series:
        flagged = s.scores > threshold
        is_anomalous = s.truth > 0
        hits += int((flagged & is_anomalous).sum())
        false += int((flagged & ~is_anomalous).sum())
        total += int(is_anomalous.sum())
        first = _first_flagged(flagged, *s.segments)
        starts, ends = s.segments
        late_hits += float((ends - starts)[(first >= 0) & (first <= MAX_DELAY)].sum())
        found += int((first >= 0).sum())
        delays_points += first[first >= 0].tolist()
        delays_s += ((s.times_ms[(starts + first)[first >= 0]] - s.times_ms[starts[first >= 0]]) / 1000).tolist()
    weekly = [n_false_episodes(s, threshold) / s.weeks for s in series if s.times_ms.size]
    return AtThreshold(
        threshold,
        *_f1(hits, false, total),
        *_f1(late_hits, false, total),
        n_found=found,
        delay_points=float(np.mean(delays_points)) if found else float("nan"),
        delay_s=float(np.mean(delays_s)) if found else float("nan"),
        false_episodes=float(np.mean(weekly)) if weekly else 0.0,
    )


def n_false_episodes(series: Labelled, threshold: float) -> int:
    """Runs of flagged points that are not anomalous, points within 30 minutes of one another joined."""
    times = series.times_ms[(series.scores > threshold) & ~(series.truth > 0)]
    return int(times.size > 0) + int((np.diff(times) > EPISODE_GAP_MS).sum())


def best_threshold(scores: F64, good: F64, bad: F64) -> tuple[float, float]:
    """The threshold with the best F1, and that F1.

    Parameters
    ----------
    scores : (K,) of items that are flagged when their score is above the threshold.
    good, bad : (K,) anomalous and other points that an item stands for.

    Notes
    -----
    The threshold lies half-way between two scores, so that rounding does not matter. Points that no threshold above
    -inf flags are missed: an item without a score.
    """
    order, above = _descending(scores)
    hits, false = np.cumsum(good[order])[above], np.cumsum(bad[order])[above]
    value = scores[order][above]
    total = float(good.sum())
    f1 = 2 * hits / (total + hits + false)
    f1[~(value > -np.inf)] = 0.0
    k = int(np.argmax(f1))
    if value[k] == -np.inf:  # nothing has a score
        return -np.inf, 0.0
    lower = value[k + 1] if k + 1 < value.size and value[k + 1] > -np.inf else value[k] - 1.0
    middle = value[k] + (lower - value[k]) / 2
    return float(middle if middle < value[k] else lower), float(f1[k])


def _descending(scores: F64) -> tuple[I64, I64]:
    """Positions from the highest score to the lowest, and the last place of each run of equal scores.

    NaN is below everything.
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-known)  # in whatever order where equal: they count at once
    value = known[order]
    return order, np.flatnonzero(np.append(value[1:] < value[:-1], True))


def delay_items(series: Sequence[Labelled]) -> tuple[F64, F64, F64]:
    """Scores, anomalous and other points of the items that F1 with delay counts: whole segments and single points."""
    scores, good, bad = [], [], []
    for s in series:
        known = np.where(np.isnan(s.scores), -np.inf, s.scores)
        starts, ends = s.segments
        other = known[~(s.truth > 0)]
        scores += [_early_maximum(known, starts, ends), other]
        good += [(ends - starts).astype(float), np.zeros(other.size)]
        bad += [np.zeros(starts.size), np.ones(other.size)]
    return np.concatenate(scores), np.concatenate(good), np.concatenate(bad)


def _early_maximum(scores: F64, starts: I64, ends: I64) -> F64:
    """The highest score of each segment's first points."""
    found = np.full(starts.size, -np.inf)
    for delay in range(MAX_DELAY + 1):
        at = starts + delay
        inside = at < ends
        found[inside] = np.maximum(found[inside], scores[at[inside]])
    return found


def _first_flagged(flagged: B1, starts: I64, ends: I64) -> I64:
    """How many points after its start each segment's first flagged point is, -1 for none."""
    positions = np.append(np.flatnonzero(flagged), np.iinfo(np.int64).max)
    first = positions[np.searchsorted(positions, starts)]
    return np.where(first < ends, first - starts, -1)


def _f1(hits: float, false: float, total: float) -> tuple[float, float, float]:
    """Precision, recall and F1."""
    precision = hits / (hits + false) if hits + false else 0.0
    recall = hits / total if total else 0.0
    return precision, recall, 2 * hits / (total + hits + false) if total + hits + false else 0.0
