"""Online MAD: fit and tick of many series against numpy's exact medians, and bottleneck's where it is installed.

Run: python benchmarks/mad.py [--series 20000] [--days 14] [--json]

All contenders see the same seeded data (1 % of it missing) one after the other; the median wall time of some rounds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from dataclasses import replace
from typing import Any

import numpy as np
from zscore import STEP_MS, frame, seconds

from engine.models.base import align, fit, infer
from engine.models.mad import OnlineMad
from engine.pool import Pool


def engine_row(n_series: int, n_steps: int, n_workers: int, decay: float) -> dict[str, float]:
    """Fit, one tick, and bytes of state a series."""
    pool, model, window = Pool(n_workers), OnlineMad(decay=decay), frame(n_series, n_steps)
    state = replace(fit(model, [window], pool), is_given=True)  # as a tick of the service has it
    point = frame(n_series, 1, STEP_MS * n_steps)
    return {
        "fit_s": seconds(lambda: fit(model, [window], pool), 2),
        "tick_s": seconds(lambda: infer(model, *align(model, state, point), pool), 10),
        "bytes": state.size_bytes / n_series,
    }


def exact_row(n_series: int, n_steps: int, nanmedian: Any) -> dict[str, float]:
    """Both medians of a window, a series at a time as memory allows."""
    values = frame(n_series, n_steps).values

    def both() -> None:
        for row in np.array_split(values, max(1, n_series // 100)):
            center = nanmedian(row, axis=1)
            nanmedian(np.abs(row - center[:, None]), axis=1)

    return {"fit_s": seconds(both, 2)}


def main() -> None:
    """Run all contenders and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    args = parser.parse_args()
    size = args.series, args.days * 86_400_000 // STEP_MS
    rows = {
        "engine": engine_row(*size, 0, 1.0),
        "engine, 1 thread": engine_row(*size, 1, 1.0),
        "engine, decay, 1 thread": engine_row(*size, 1, 0.996),
        "numpy": exact_row(*size, np.nanmedian),
    }
    if importlib.util.find_spec("bottleneck") is not None:
        import bottleneck

        rows["bottleneck"] = exact_row(*size, bottleneck.nanmedian)
    if args.json:
        print(json.dumps({"series": size[0], "steps": size[1], "rows": rows}))
        return
    for name, row in rows.items():
        print(f"{name:>24}: " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
