"""Measures of labelled scores from their definitions, one threshold and one point at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

Series = tuple[Sequence[int], Sequence[float], Sequence[int]]  # times in ms, scores, truth


def segments(truth: Sequence[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for t, label in enumerate(truth):
        if label and t and truth[t - 1]:
            found[-1].append(t)
        elif label:
            found.append([t])
    return found


def f1(hits: int, false: int, total: int) -> float:
    return 2 * hits / (hits + false + total) if hits + false + total else 0.0


def point_f1(series: Sequence[Series], threshold: float) -> float:
    pairs = [(s > threshold, label) for _, scores, truth in series for s, label in zip(scores, truth, strict=True)]
    hits = sum(flag and bool(label) for flag, label in pairs)
    false = sum(flag and not label for flag, label in pairs)
    return f1(hits, false, sum(label for _, label in pairs))


def delay_f1(series: Sequence[Series], threshold: float, max_delay: int = 7) -> float:
    """A segment is found, with all its points, if one of its first points is flagged; others count singly."""
    hits = false = total = 0
    for _, scores, truth in series:
        for segment in segments(truth):
            total += len(segment)
            if any(scores[t] > threshold for t in segment[: max_delay + 1]):
                hits += len(segment)
        false += sum(s > threshold and not label for s, label in zip(scores, truth, strict=True))
    return f1(hits, false, total)


def best(measure, series: Sequence[Series]) -> float:
    """The best value over thresholds just below each score."""
    scores = {s for _, scores, _ in series for s in scores if not math.isnan(s)}
    return max((measure(series, math.nextafter(s, -math.inf)) for s in scores), default=0.0)


def delays(series: Sequence[Series], threshold: float) -> list[int]:
    """Points from the start of each found segment to its first flagged point."""
    found = []
    for _, scores, truth in series:
        for segment in segments(truth):
            flagged = [t for t in segment if scores[t] > threshold]
            found += [flagged[0] - segment[0]] if flagged else []
    return found


def false_episodes(one: Series, threshold: float, gap_ms: int = 30 * 60_000) -> int:
    times, scores, truth = one
    flagged = [t for t, s, label in zip(times, scores, truth, strict=True) if s > threshold and not label]
    return sum(1 for k, t in enumerate(flagged) if k == 0 or t - flagged[k - 1] > gap_ms)
