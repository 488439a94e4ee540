"""Holt-Winters and seasonal trend decomposition: seconds of a fit and of a tick, and bytes of state.

Run: python -m benchmarks.seasons [--series 1000] [--json]

Two weeks of points every 5 minutes with a daily rhythm, the same seeded data (1 % of it missing) for all, one after the
other; the median wall time of some rounds.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from benchmarks.zscore import STEP_MS, frame, seconds
from engine.frame import Frame
from engine.models.base import Model, align, fit, infer
from engine.models.holtwinters import HoltWinters
from engine.models.stl import SeasonalTrend
from engine.pool import Pool
from engine.settings import Duration

DAY_MS = 86_400_000
DAY = Duration(DAY_MS)
MODELS: dict[str, Model] = {
    "holtwinters": HoltWinters(seasonality=DAY),
    "holtwinters, trend": HoltWinters(seasonality=DAY, args={"trend": "add"}),
    "holtwinters, damped trend": HoltWinters(seasonality=DAY, args={"trend": "add", "damped_trend": True}),
    "holtwinters, factors": HoltWinters(seasonality=DAY, args={"trend": "add", "seasonal": "mul"}),
    "std": SeasonalTrend(period=288),
    "std, jump 1": SeasonalTrend(period=288, args={"trend_jump": 1, "low_pass_jump": 1}),
    "std, robust": SeasonalTrend(period=288, args={"robust": True}),
}


def daily(plain: Frame) -> Frame:
    """The frame with a rhythm on top, all positive."""
    wave = 200 + 10 * np.sin(2 * np.pi * plain.timestamps_ms / DAY_MS)
    return Frame(plain.series, plain.timestamps_ms, plain.values + wave, plain.step_ms)


def measure(model: Model, n_series: int, n_workers: int) -> dict[str, float]:
    """Seconds of a fit and of one tick, bytes of state a series."""
    n_steps = 14 * DAY_MS // STEP_MS
    pool, window, point = Pool(n_workers), daily(frame(n_series, n_steps)), daily(frame(n_series, 1, STEP_MS * n_steps))
    state = fit(model, [window], pool)
    return {
        "fit_s": seconds(lambda: fit(model, [window], pool), 3),
        "tick_s": seconds(lambda: infer(model, *align(model, state, point), pool), 20),
        "bytes": state.size_bytes / n_series,
    }


def main() -> None:
    """Measure all and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    args = parser.parse_args()
    rows = {}
    for name, model in MODELS.items():
        rows[name] = measure(model, args.series, 0)
        rows[f"{name}, 1 thread"] = measure(model, args.series, 1)
    if args.json:
        print(json.dumps(rows))
        return
    for name, row in rows.items():
        print(f"{name:32} fit {row['fit_s']:.3f} s, tick {1000 * row['tick_s']:.2f} ms, {row['bytes']:.0f} bytes")


if __name__ == "__main__":
    main()
