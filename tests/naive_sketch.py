"""The sketch of kernels/sketch.py, one value at a time in fractions."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise

# Mean, weight, whether its values differ.
Centroid = tuple[Fraction, int, bool]


def naive_sketch(values: Iterable[float], n_kept: int, n_block: int) -> list[Centroid]:
    """Centroids of values that are all finite and weigh 1."""
    found: list[Centroid] = []
    for taken, value in enumerate(values, start=1):
        x = Fraction(value)
        at = bisect_left(found, x, key=lambda c: c[0])
        if at < len(found) and found[at][0] == x:
            found[at] = (x, found[at][1] + 1, found[at][2])
        else:
            found.insert(at, (x, 1, False))
        if taken % n_block == 0 and len(found) > n_kept:
            together = joined(found, n_kept, at_gaps=True)
            found = together if len(together) <= n_kept else joined(found, n_kept, at_gaps=False)
    return found


def joined(old: list[Centroid], n_kept: int, *, at_gaps: bool) -> list[Centroid]:
    """Neighbours with middles in one group of ranks made one, but never either end, nor two sides of a gap."""
    groups: list[list[Centroid]] = []
    total, before, last = sum(weight for _, weight, _ in old), 0, -1
    for k, centroid in enumerate(old):
        place = group((before + centroid[1] / 2) * (1 / total), n_kept)
        before += centroid[1]
        is_end = k in (0, 1, len(old) - 1)
        if is_end or place != last or (at_gaps and is_gap([c[0] for c in old[k - 2 : k + 2]])):
            groups.append([])
        groups[-1].append(centroid)
        last = place
    return [one(of) for of in groups]


def one(parts: list[Centroid]) -> Centroid:
    """The centroid of several."""
    weight = sum(w for _, w, _ in parts)
    return sum((m * w for m, w, _ in parts), Fraction(0)) / weight, weight, len(parts) > 1 or parts[0][2]


def is_gap(means: list[Fraction]) -> bool:
    """Whether the second and third of four are more than four times as far apart as either is from the other ones."""
    left, middle, right = (b - a for a, b in pairwise(means))
    return middle > 4 * left and middle > 4 * right


def group(rank: float, n_kept: int) -> int:
    """Groups are of one width between the ranks 2.5 % and 97.5 %, and of a quarter of it outside."""
    n_groups = min(int(0.8 * n_kept), n_kept - 3)
    outside = min(rank, 0.025) + max(rank - 0.975, 0.0)
    return math.floor(n_groups / 1.15 * (rank + 3 * outside))
