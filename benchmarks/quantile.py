"""Speed and memory of the seasonal quantiles: a fit and a tick of many series.

Run: python benchmarks/quantile.py [series]
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from engine.frame import Frame
from engine.models.base import fit, infer
from engine.models.quantile import OnlineQuantile
from engine.pool import Pool
from engine.settings import Duration

STEP_MS = 300_000
N_STEPS = 14 * 288
HOUR_MS = 3_600_000


def main() -> None:
    """Fit and tick with and without a season, and print both."""
    n_series = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    rng = np.random.default_rng(1)
    times = STEP_MS * np.arange(N_STEPS + 1)
    noise = rng.standard_t(4, (n_series, times.size))
    pool = Pool(1)
    weekly = {"seasonal_interval": Duration(168 * HOUR_MS), "min_subseason": Duration(2 * HOUR_MS)}
    daily = {"seasonal_interval": Duration(24 * HOUR_MS), "min_subseason": Duration(HOUR_MS)}
    variants: list[tuple[str, dict[str, Any]]] = [("none", {}), ("24 hours", daily), ("84 two hours", weekly)]
    for kind, values in (("all different", noise), ("rounded", noise.round(1))):
        past = Frame(np.arange(n_series), times[:-1], np.ascontiguousarray(values[:, :-1]), STEP_MS)
        tick = Frame(np.arange(n_series), times[-1:], np.ascontiguousarray(values[:, -1:]), STEP_MS)
        for name, options in variants:
            model = OnlineQuantile(**options)
            infer(model, fit(model, [past.rows(0, 2)], pool), tick.rows(0, 2), pool)
            started = time.perf_counter()
            state = fit(model, [past], pool)
            fitted = time.perf_counter()
            n_ticks = 5
            for _ in range(n_ticks):
                infer(model, state, tick, pool)
            ticked = (time.perf_counter() - fitted) / n_ticks
            ns = (fitted - started) / n_series / N_STEPS * 1e9
            each = f"fit {ns:.0f} ns a point, tick {ticked / n_series * 1e6:.1f} us a series"
            print(f"{kind}, parts {name}: {each}, {state.size_bytes / n_series:.0f} bytes a series")


if __name__ == "__main__":
    main()
