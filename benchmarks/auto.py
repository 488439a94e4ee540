"""Auto-tuning against the defaults of the class that it tunes, by average precision on 100 labelled series.

Run: python -m benchmarks.auto --data FOLDER [--classes std mad_online …] [--timeout 10] [--json]

FOLDER holds, itself or below, gzipped CSV files of timestamp, value, label: 29 KPIs. To them come 71 made-up series
(seeded): eight kinds of rhythm, walk, shift, trend and noise, with spikes, dips and steps of 1 to 36 points put in. The
first share of each is the fit window; then points are scored one by one, without refits. Labels are used for the
measure only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np

from engine import score
from engine.frame import F64, I64, Frame, Query
from engine.models.auto import AutoTuned, OptimizationParams
from engine.models.base import Model, fit, infer
from engine.offline.measures import average_precision
from engine.pool import Pool

DAY_MS = 86_400_000
N_MADE_UP = 71
KINDS = ("level", "day", "day and week", "walk", "shifts", "trend", "uneven noise", "counts")
CLASSES = (
    "zscore_online",
    "mad_online",
    "rolling_quantile",
    "quantile_online",
    "std",
    "holtwinters",
    "temporal_envelope",
)


class Labelled(NamedTuple):
    """One series."""

    name: str
    times_ms: I64
    values: F64
    truth: F64
    step_ms: int


def kpis(folder: Path) -> Iterator[Labelled]:
    """Series of files."""
    for path in sorted(folder.rglob("*.csv.gz"), key=lambda path: path.name):
        rows = duckdb.sql(f"select timestamp t, value v, label l from '{path}' order by 1").fetchnumpy()
        times_ms = rows["t"].astype(np.int64) * 1000
        step_ms = int(np.median(np.diff(times_ms)))
        yield Labelled(path.name[:8], times_ms, rows["v"].astype(np.float64), rows["l"].astype(np.float64), step_ms)


def made_up(seed: int) -> Labelled:
    """Four weeks of five minutes; no incident in the first tenth."""
    rng = np.random.default_rng(seed)
    step_ms, n, kind = 300_000, 28 * 288, KINDS[seed % len(KINDS)]
    times_ms = 1_700_006_400_000 + step_ms * np.arange(n)
    phase, size = rng.uniform(0, 2 * np.pi), rng.uniform(2, 6)
    angle = 2 * np.pi * (times_ms % DAY_MS / DAY_MS)
    wave = np.sin(angle + phase) + 0.4 * np.sin(2 * (angle + phase))
    y = rng.normal(size=n)
    if kind == "day":
        y += size * wave
    elif kind == "day and week":
        y += size * wave * np.where(times_ms // DAY_MS % 7 < 2, 0.4, 1.0)
    elif kind == "walk":
        y += np.cumsum(rng.normal(size=n)) * rng.uniform(0.05, 0.2)
    elif kind == "shifts":
        for _ in range(rng.integers(2, 6)):
            y[rng.integers(0, n) :] += rng.normal(0, 6)
    elif kind == "trend":
        y += np.linspace(0, rng.uniform(5, 30), n)
    elif kind == "uneven noise":
        y *= np.exp(0.8 * wave)
    elif kind == "counts":
        y = rng.poisson(np.exp(1 + 0.8 * wave)).astype(np.float64)
    truth = np.zeros(n)
    for _ in range(rng.integers(12, 25)):
        first, length = int(rng.integers(n // 10, n - 60)), int(rng.choice([1, 2, 4, 12, 36]))
        sign, unit = (1, 3) if kind == "counts" else (rng.choice([-1, 1]), 1)
        y[first : first + length] += sign * unit * rng.uniform(4, 9)
        truth[first : first + length] = 1
    return Labelled(f"{kind} {seed}", times_ms, y, truth, step_ms)


def precision(model: Model, series: Labelled, share: float, pool: Pool) -> tuple[float, float]:
    """Average precision after the fit window, and the seconds of the fit."""
    n_fit = round(share * series.values.size)
    head, tail = (
        Frame(np.zeros(1, np.int64), series.times_ms[part], series.values[None, part].copy(), series.step_ms)
        for part in (slice(None, n_fit), slice(n_fit, None))
    )
    started = time.perf_counter()
    state = fit(model, [head], pool)
    seconds = time.perf_counter() - started
    prediction, _ = infer(model, state, tail, pool)
    columns = score.apply(score.resolve(model, Query("q", "", series.step_ms)), model.warm_up, prediction, tail)
    return average_precision(np.nan_to_num(columns["anomaly_score"][0]), series.truth[n_fit:]), seconds


def compare(alias: str, series: list[Labelled], timeout_s: float, share: float) -> dict[str, float]:
    """How often auto is above the defaults, means of both, and the longest fit."""
    pool = Pool(1)
    plain = AutoTuned(
        tuned_class_name=alias, optimization_params=OptimizationParams(anomaly_percentage=0.01, n_trials=1)
    )
    params = OptimizationParams(anomaly_percentage=0.01, timeout=timeout_s)
    tuned = AutoTuned(tuned_class_name=alias, optimization_params=params)
    rows = []
    for each in series:
        default = plain.trials(each.step_ms).model(0)
        before, _ = precision(default, each, share, pool)
        after, seconds = precision(tuned, each, share, pool)
        rows.append((before, after, seconds))
    before, after, seconds = np.array(rows).T
    is_kpi = np.arange(len(series)) < len(series) - N_MADE_UP
    return {
        "above": int((after > before).sum()),
        "equal": int((after == before).sum()),
        "above_kpi": int((after > before)[is_kpi].sum()),
        "above_made_up": int((after > before)[~is_kpi].sum()),
        "default_kpi": float(before[is_kpi].mean()),
        "auto_kpi": float(after[is_kpi].mean()),
        "default_made_up": float(before[~is_kpi].mean()),
        "auto_made_up": float(after[~is_kpi].mean()),
        "longest_fit_s": float(seconds.max()),
    }


def main() -> None:
    """Measure and print a line for each class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--classes", nargs="+", default=CLASSES)
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--fit-fraction", type=float, default=0.1)
    parser.add_argument("--first-seed", type=int, default=0, help="of the made-up series; 0 is the set of the docs")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    series = [*kpis(args.data), *(made_up(args.first_seed + k) for k in range(N_MADE_UP))]
    if len(series) == N_MADE_UP:
        parser.error(f"--data {args.data}: no *.csv.gz in it or below")
    found = {}
    for alias in args.classes:
        found[alias] = row = compare(alias, series, args.timeout, args.fit_fraction)
        if not args.json:
            text = ", ".join(
                f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
            print(f"{alias:20} {text}", flush=True)
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
