"""Time of our Prophet's fit and prediction of many series, and the `prophet` package's of a few, scaled.

``PYTHONPATH=. python benchmarks/prophet_speed.py [series] [series for the package]``; without the package only ours is
timed.
"""

from __future__ import annotations

import importlib.util
import logging
import resource
import sys
import time

import numpy as np

from engine.frame import Frame
from engine.models import base
from engine.models.prophet import Prophet
from engine.pool import Pool

STEP_MS = 300_000
N_STEPS = 4_032
START_MS = 1_718_582_400_000
ARGS = {"interval_width": 0.98}


def made(n_series: int) -> Frame:
    """Daily and weekly rhythm, a bending trend and noise: two weeks at 5 minutes."""
    rng = np.random.default_rng(0)
    t = np.arange(N_STEPS) * STEP_MS / 86_400_000
    values = 10 + 3 * np.sin(2 * np.pi * (t + rng.random((n_series, 1)))) + np.cos(2 * np.pi * t / 7)
    values += np.cumsum(rng.normal(size=values.shape) * 0.02, axis=1) + rng.normal(size=values.shape)
    return Frame(np.arange(n_series), START_MS + STEP_MS * np.arange(N_STEPS), values, STEP_MS)


def ours(frame: Frame, n_workers: int) -> tuple[float, float, float]:
    """Seconds of the fit, of predicting the whole window, and of one step of all series; the best of three."""
    model, pool = Prophet(args=ARGS), Pool(n_workers)
    best = [np.inf] * 3
    base.infer(model, base.fit(model, [frame.rows(0, 1)], pool), frame.rows(0, 1), pool)  # compiled before timing
    for _ in range(3):
        marks = [time.perf_counter()]
        state = base.fit(model, [frame], pool)
        marks.append(time.perf_counter())
        base.infer(model, state, frame, pool)
        marks.append(time.perf_counter())
        last = Frame(frame.series, frame.timestamps_ms[-1:] + STEP_MS, frame.values[:, -1:].copy(), STEP_MS)
        base.infer(model, state, last, pool)
        marks.append(time.perf_counter())
        best = [min(a, b) for a, b in zip(best, np.diff(marks), strict=True)]
    pool.close()
    return best[0], best[1], best[2]


def package(frame: Frame, n_series: int) -> float:
    """Seconds per series of the package's fit and prediction."""
    import pandas as pd
    from prophet import Prophet as Reference

    logging.disable(logging.CRITICAL)
    ds = pd.to_datetime(frame.timestamps_ms, unit="ms")
    Reference(**ARGS).fit(pd.DataFrame({"ds": ds, "y": frame.values[0]}))  # its first fit is slower
    started = time.perf_counter()
    for y in frame.values[:n_series]:
        model = Reference(**ARGS).fit(pd.DataFrame({"ds": ds, "y": y}))
        model.predict(pd.DataFrame({"ds": ds}))
    return (time.perf_counter() - started) / n_series


def main() -> None:
    """Print both and their ratio."""
    n_series = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    frame = made(n_series)
    total = 0.0
    for n_workers in (1, 2):
        fit, predict, tick = ours(frame, n_workers)
        total = fit + predict
        print(
            f"{n_series} series x {N_STEPS} points, {n_workers} thread(s): fit {fit:.3f} s, predict {predict:.3f} s,"
            f" one step of all {1000 * tick:.2f} ms"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    if importlib.util.find_spec("prophet") is None:
        return
    n_timed = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    seconds = package(frame, n_timed)
    ratio = seconds * n_series / total
    print(f"the package: {seconds:.2f} s a series ({n_timed} timed), {seconds * n_series:.0f} s; ratio {ratio:.0f}")


if __name__ == "__main__":
    main()
