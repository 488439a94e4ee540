"""Speed and memory of the isolation forest: a fit and a tick of many series.

Run: python benchmarks/isolation_forest.py [series]
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from engine.frame import Frame
from engine.models.base import fit, infer
from engine.models.iforest import Contamination, IsolationForest
from engine.pool import Pool

STEP_MS = 300_000
N_STEPS = 14 * 288


def main() -> None:
    """Fit and tick with and without seasonal columns, and print both."""
    n_series = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    rng = np.random.default_rng(1)
    times = STEP_MS * np.arange(N_STEPS + 1)
    values = 10 * np.sin(2 * np.pi * times / 86_400_000) + rng.standard_t(4, (n_series, times.size))
    past = Frame(np.arange(n_series), times[:-1], np.ascontiguousarray(values[:, :-1]), STEP_MS)
    tick = Frame(np.arange(n_series), times[-1:], np.ascontiguousarray(values[:, -1:]), STEP_MS)
    pool = Pool(1)
    kinds: list[list[Any]] = [[], ["hod"], ["hod", "dow"]]
    for features in kinds:
        model = IsolationForest(contamination=Contamination(0.01), seasonal_features=features)
        warm = fit(model, [past.rows(0, 2)], pool)
        infer(model, warm, tick.rows(0, 2), pool)
        started = time.perf_counter()
        state = fit(model, [past], pool)
        fitted = time.perf_counter()
        n_ticks = 5
        for _ in range(n_ticks):
            infer(model, state, tick, pool)
        ticked = (time.perf_counter() - fitted) / n_ticks
        each = f"fit {(fitted - started) / n_series * 1e3:.2f} ms, tick {ticked / n_series * 1e6:.2f} us"
        print(f"features {features}: a series: {each}, {state.size_bytes / n_series:.0f} bytes")


if __name__ == "__main__":
    main()
