"""Online z-score: fit, tick and backtest of many series against numpy, and bottleneck where it is installed.

Run: python benchmarks/zscore.py [--series 20000] [--days 14] [--json]

Every contender runs in a process of its own on the same seeded data (1 % of it missing) and reports the median wall
time of its rounds after a warm-up. Ours runs through the model on all threads and on one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from engine.frame import Frame
from engine.models.base import align, fit, infer
from engine.models.zscore import OnlineZscore
from engine.pool import Pool

STEP_MS = 300_000
ROUNDS = 10


def frame(n_series: int, n_steps: int, start_ms: int = 0) -> Frame:
    """Seeded gauges, 1 % missing."""
    rng = np.random.default_rng(7)
    values = rng.standard_normal((n_series, n_steps))
    values *= 3
    values += 50
    values[rng.random((n_series, n_steps), dtype=np.float32) < 0.01] = np.nan
    times = start_ms + STEP_MS * np.arange(n_steps, dtype=np.int64)
    return Frame(np.arange(n_series), times, values, STEP_MS)


def seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median wall time."""
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def engine_row(n_series: int, n_steps: int, n_workers: int, decay: float) -> dict[str, float]:
    """Fit, one tick, and every point of the window scored as a backtest would."""
    pool, model, window = Pool(n_workers), OnlineZscore(decay=decay), frame(n_series, n_steps)
    state = fit(model, [window], pool)
    point = frame(n_series, 1, STEP_MS * n_steps)
    row = {
        "fit_s": seconds(lambda: fit(model, [window], pool)),
        "tick_s": seconds(lambda: infer(model, *align(model, state, point), pool), 50),
    }
    if n_series * n_steps <= 10_000_000:  # its three outputs are as large as the window
        row["every_point_s"] = seconds(lambda: infer(model, *align(model, state, window), pool), 3)
    return row


def numpy_row(n_series: int, n_steps: int) -> dict[str, float]:
    """The NaN-aware mean and deviation that a fit needs."""
    values = frame(n_series, n_steps).values
    return {"fit_s": seconds(lambda: (np.nanmean(values, axis=1), np.nanstd(values, axis=1)), 3)}


def bottleneck_row(n_series: int, n_steps: int) -> dict[str, float]:
    """The same by bottleneck."""
    import bottleneck

    values = frame(n_series, n_steps).values
    return {"fit_s": seconds(lambda: (bottleneck.nanmean(values, axis=1), bottleneck.nanstd(values, axis=1)), 3)}


CONTENDERS: dict[str, Callable[[int, int], dict[str, float]]] = {
    "engine": lambda s, t: engine_row(s, t, 0, 1.0),
    "engine, 1 thread": lambda s, t: engine_row(s, t, 1, 1.0),
    "engine, decay": lambda s, t: engine_row(s, t, 0, 0.996),
    "engine, decay, 1 thread": lambda s, t: engine_row(s, t, 1, 0.996),
    "bottleneck": bottleneck_row,
    "numpy": numpy_row,
}


def main() -> None:
    """Run all contenders and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    n_steps = args.days * 86_400_000 // STEP_MS
    if args.only:
        row = CONTENDERS[args.only](args.series, n_steps)
        row["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(row))
        return
    rows = {}
    for name in CONTENDERS:
        if name == "bottleneck" and importlib.util.find_spec("bottleneck") is None:
            continue
        command = [sys.executable, __file__, "--series", str(args.series), "--days", str(args.days), "--only", name]
        rows[name] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        if not args.json:
            figures = ", ".join(f"{key} {value:.4g}" for key, value in rows[name].items())
            print(f"{name:>24}: {figures}", flush=True)
    if args.json:
        print(json.dumps({"series": args.series, "steps": n_steps, "rows": rows}))


if __name__ == "__main__":
    main()
