"""The envelope's constants chosen on four fifths of the labelled KPIs, and what they give on the fifth that had no say.

Run: python -m benchmarks.leave_out --data FOLDER [--orders 5]

FOLDER holds the KPIs' files. Constants are compiled into kernels, so each of the 54 settings runs as a process of its
own on a changed copy of the sources: ten minutes. The KPIs are cut into five parts in several random orders; the last
line is the mean over these.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.frame import F64
from engine.offline.measures import (
    Labelled,
    at_threshold,
    average_precision,
    best_threshold,
    delay_items,
    n_false_episodes,
)
from engine.offline.score_command import Options, compute, labelled
from engine.pool import Pool

ROOT = Path(__file__).resolve().parents[1]
N_FOLDS = 5
# Where a constant stands, and the values that are tried.
CONSTANTS: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("kernels/envelope_threshold.py", "_LARGEST_MARGIN = math.log({})", (1.3, 1.2, 1.4)),
    ("kernels/envelope_threshold.py", "_BEND, _BENT = 4.95, {}", (0.5, 0.4, 0.65)),
    ("kernels/envelope_parts.py", "reach = size * (1.0 + {} * s[ALARM])", (0.5, 1.0, 2.0)),
    ("kernels/score.py", "_NEAR, _AT_YHAT = {}, 0.005", (0.95, 0.9)),
)
# Points and segments at 1, all and without the five longest segments; then what is a mean over KPIs.
HITS, FALSE, TOTAL, HITS_SMALL, FALSE_SMALL, TOTAL_SMALL, PRECISION, EPISODES = range(8)
N_GIANTS, MOST_EPISODES = 5, 4.5


def scored(data: Path) -> list[Labelled]:
    """Every KPI behind its first tenth, with the envelope's default arguments."""
    options = Options(files=[str(data)], class_name="temporal_envelope", arguments=(), fit_fraction=0.1, labels="label")
    result, _ = compute(options, Pool(0))
    return [s for b in result.batches for s in labelled(result.points, result.columns["anomaly_score"], b)]


def scored_with(values: Sequence[float], data: Path) -> list[Labelled]:
    """The same by other constants."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for package in ("engine", "kernels"):
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        for (file, text, tried), value in zip(CONSTANTS, values, strict=True):
            source = (folder / file).read_text()
            if source.count(text.format(tried[0])) != 1:
                raise SystemExit(f"{file} no longer has {text.format(tried[0])!r}")
            (folder / file).write_text(source.replace(text.format(tried[0]), text.format(value)))
        environ = {
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "ENGINE_KERNEL_CACHE": str(folder / "cache"),
        }
        words = [sys.executable, __file__, "--data", str(data), "--one", str(folder / "scores.npz")]
        subprocess.run(words, env=environ, check=True)
        arrays = list(np.load(folder / "scores.npz").values())
        return [Labelled(*arrays[i : i + 3], int(arrays[i + 3])) for i in range(0, len(arrays), 4)]


def counts(s: Labelled, longest: int) -> list[float]:
    """What a KPI adds to the measures, by the positions above; segments of `longest` points and more are giants."""
    keep = np.ones(s.truth.size, dtype=bool)
    for start, stop in zip(*s.segments, strict=True):
        keep[start:stop] = stop - start < longest
    small = Labelled(s.times_ms[keep], s.scores[keep], s.truth[keep], s.step_ms)
    row: list[float] = []
    for part in (s, small):
        total = float((part.truth > 0).sum())
        false = float(((part.scores > 1.0) & (part.truth <= 0)).sum())
        row += [at_threshold([part], 1.0).delay_recall * total if total else 0.0, false, total]
    return [*row, average_precision(s.scores, s.truth), n_false_episodes(s, 1.0) / s.weeks]


def figures(rows: F64) -> tuple[float, float, float, float]:
    """Average precision, 7-delay F1 at 1, the same without giants, false episodes a week, of some KPIs together."""
    x = rows.sum(axis=0)
    f1 = 2 * x[HITS] / (x[HITS] + x[FALSE] + x[TOTAL])
    small = 2 * x[HITS_SMALL] / (x[HITS_SMALL] + x[FALSE_SMALL] + x[TOTAL_SMALL])
    return float(rows[:, PRECISION].mean()), float(f1), float(small), float(rows[:, EPISODES].mean())


def worth(rows: F64) -> float:
    """What the choice goes by: the first three figures, and an end at the episodes that are wanted at most."""
    precision, f1, small, episodes = figures(rows)
    return precision + f1 + small - max(0.0, episodes - MOST_EPISODES)


def main() -> None:
    """Score with every setting, choose, and print the figures of the KPIs that were left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--orders", type=int, default=5)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        np.savez(
            args.one, *(a for s in scored(args.data) for a in (s.times_ms, s.scores, s.truth, np.array(s.step_ms)))
        )
        return
    found: list[tuple[list[Labelled], F64]] = []
    for values in itertools.product(*(tried for _, _, tried in CONSTANTS)):
        series = scored_with(values, args.data)
        lengths = sorted((int(b - a) for s in series for a, b in zip(*s.segments, strict=True)), reverse=True)
        rows = np.array([counts(s, lengths[N_GIANTS - 1]) for s in series])
        found.append((series, rows))
        print(values, *(f"{value:.3f}" for value in figures(rows)), flush=True)
    n_kpis, results = len(found[0][0]), []
    for seed in range(args.orders):
        order = np.random.default_rng(seed).permutation(n_kpis)
        chosen = np.empty(n_kpis, dtype=np.int64)
        for part in (order[fold::N_FOLDS] for fold in range(N_FOLDS)):
            others = np.setdiff1d(order, part)
            chosen[part] = np.argmax([worth(rows[others]) for _, rows in found])
        held_out = np.array([found[k][1][i] for i, k in enumerate(chosen)])
        best = best_threshold(*delay_items([found[k][0][i] for i, k in enumerate(chosen)]))[1]
        results.append((*figures(held_out), best))
    names = ("average precision", "7-delay F1 at 1", "without giants", "false episodes a week", "F1, one threshold")
    print(", ".join(f"{name} {value:.3f}" for name, value in zip(names, np.mean(results, axis=0), strict=True)))


if __name__ == "__main__":
    main()
