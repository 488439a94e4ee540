"""Rolling quantile: every point of a window, and a tick, against pandas, bottleneck and numpy where they are installed.

Run: python benchmarks/rolling.py [--series 500] [--days 14] [--window 288] [--json]

All contenders see the same seeded data (1 % of it missing) and give median, lower and upper bound of every window of
`--window` steps; bottleneck knows the median only. numpy, far slower, gets a hundredth of the series. Median wall time
of some rounds in one process, in nanoseconds a point.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import warnings
from typing import Any

import numpy as np
from zscore import STEP_MS, frame, seconds

from engine.frame import F64
from engine.models.base import align, fit, infer
from engine.models.rolling_quantile import RollingQuantile
from engine.pool import Pool

SHARES = (0.5, 1 - 0.99, 0.99)


def engine_row(n_series: int, n_steps: int, width: int, n_workers: int) -> dict[str, float]:
    """Every point as a backtest would, a fit, a tick, and bytes of state a series."""
    pool, model, window = Pool(n_workers), RollingQuantile(quantile=0.99, window_steps=width), frame(n_series, n_steps)
    state = fit(model, [window], pool)
    empty, point = model.fresh(window.series, window), frame(n_series, 1, STEP_MS * n_steps)
    n_points = n_series * n_steps
    return {
        "point_ns": 1e9 * seconds(lambda: infer(model, empty, window, pool), 3) / n_points,
        "fit_ns": 1e9 * seconds(lambda: fit(model, [window], pool), 3) / n_points,
        "tick_us_a_series": 1e6 * seconds(lambda: infer(model, *align(model, state, point), pool), 10) / n_series,
        "bytes": state.size_bytes / n_series,
    }


def pandas_row(values: F64, width: int) -> dict[str, float]:
    """Three passes of its skip list."""
    import pandas as pd

    table = pd.DataFrame(values.T)
    windows = table.rolling(width, min_periods=1)
    return {"point_ns": 1e9 * seconds(lambda: [windows.quantile(q) for q in SHARES], 1) / values.size}


def bottleneck_row(values: F64, width: int) -> dict[str, float]:
    """The median by its double heap."""
    import bottleneck

    return {"point_ns": 1e9 * seconds(lambda: bottleneck.move_median(values, width, 1, axis=1), 3) / values.size}


def numpy_row(values: F64, width: int) -> dict[str, float]:
    """Windows as a view."""
    few = values[: max(1, values.shape[0] // 100)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # windows without a value
        windows = np.lib.stride_tricks.sliding_window_view(few, width, axis=1)
        return {"point_ns": 1e9 * seconds(lambda: np.nanquantile(windows, SHARES, axis=2), 1) / few.size}


def main() -> None:
    """Run all contenders and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=500)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--window", type=int, default=288)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    args = parser.parse_args()
    n_steps = args.days * 86_400_000 // STEP_MS
    values = frame(args.series, n_steps).values
    rows: dict[str, Any] = {
        "engine": engine_row(args.series, n_steps, args.window, 0),
        "engine, 1 thread": engine_row(args.series, n_steps, args.window, 1),
    }
    if importlib.util.find_spec("pandas") is not None:
        rows["pandas"] = pandas_row(values, args.window)
    if importlib.util.find_spec("bottleneck") is not None:
        rows["bottleneck, median only"] = bottleneck_row(values, args.window)
    rows["numpy"] = numpy_row(values, args.window)
    if args.json:
        print(json.dumps({"series": args.series, "steps": n_steps, "window": args.window, "rows": rows}))
        return
    for name, row in rows.items():
        print(f"{name:>24}: " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
