"""How costs grow with series and with points: a fit, and a tick from answer bytes to import bytes without a network.

Run: python -m benchmarks.scaling [--models zscore_online temporal_envelope] [--json]

Medians of five rounds on one thread, one process a size. The exponent is the slope of log time over log size from the
size on at which fixed costs no longer count: a thousand series, a thousand points.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.decode import make_body
from engine.config.classes import MODELS
from engine.frame import Batch, Frame, Query, Window, pack
from engine.group import Group
from engine.metrics import Metrics
from engine.models.base import fit
from engine.pool import Pool
from engine.reader.decode import Decoder
from engine.score import resolve
from engine.series import SeriesTable
from engine.writer.encode import Encoder
from engine.writer.settings import METRIC_FORMAT

# (series, points of a fit): either grows while the other stays.
SERIES = [(n, 100) for n in (100, 1_000, 10_000, 50_000, 200_000)]
POINTS = [(200, n) for n in (100, 1_000, 4_000, 40_000)]
MODELS_SHOWN = ("zscore_online", "temporal_envelope")
LEAST = 1_000
ROUNDS = 5
STEP_MS = 60_000
START_MS = 1_700_000_000_000 // STEP_MS * STEP_MS
NAMES = {"scheduler_alias": "s", "model_alias": "m", "query_key": "q", "preset": "default"}


def measure(alias: str, n_series: int, n_points: int) -> dict[str, float]:
    """Seconds of a fit and of a tick."""
    model, pool, table = MODELS.settings_type(alias)(), Pool(1), SeriesTable()
    body = make_body(n_series, 1)
    decoder, encoder = Decoder(table), Encoder(METRIC_FORMAT, "", 8 << 20, 10_000)
    series = np.unique(decoder.decode(bytearray(body)).samples.series)
    rng, times = np.random.default_rng(0), START_MS + STEP_MS * np.arange(-n_points, 0)
    past = Frame(series, times, 50 + rng.standard_normal((n_series, n_points)), STEP_MS)
    fits = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        state = fit(model, [past], pool)
        fits.append(time.perf_counter() - started)
    query = Query("q", "", STEP_MS)
    group = Group(model, query, resolve(model, query), NAMES, pool, Metrics())
    group.adopt(state, int(times[-1]))
    ticks = []
    for k in range(ROUNDS + 1):
        at = START_MS // 1000 + k * STEP_MS // 1000
        answer = bytearray(bytes(body).replace(b"[1700000000,", b"[%d," % at))
        window = Window(at * 1000, at * 1000, STEP_MS)
        started = time.perf_counter()
        batches: list[Batch] = group.infer(pack(decoder.decode(answer).samples, window), table)
        n_bytes = sum(len(found.data) for batch in batches for found in encoder.encode(batch))
        ticks.append(time.perf_counter() - started)
        assert n_bytes > 100 * n_series
    return {"fit_s": statistics.median(fits[1:]), "tick_s": statistics.median(ticks[1:])}


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of log seconds over log size, where size is at least `LEAST`."""
    kept = [(np.log(size), np.log(value)) for size, value in zip(sizes, seconds, strict=True) if size >= LEAST]
    slope: float = np.polyfit(*np.array(kept).T, 1)[0]
    return slope


def sweep(alias: str) -> list[dict[str, Any]]:
    """The rows of one model."""
    rows = []
    for what, sizes in (("series", SERIES), ("points", POINTS)):
        found = []
        for n_series, n_points in sizes:
            words = [sys.executable, "-m", "benchmarks.scaling", "--one", alias, str(n_series), str(n_points)]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        grown = [size[what == "points"] for size in sizes]
        for stage in ("fit_s", "tick_s") if what == "series" else ("fit_s",):
            seconds = [each[stage] for each in found]
            row = {
                "model": alias,
                "stage": stage.removesuffix("_s"),
                "grows": what,
                "exponent": exponent(grown, seconds),
            }
            rows.append(row | {"seconds": dict(zip(map(str, grown), seconds, strict=True))})
    return rows


def main() -> None:
    """Print a line for each model, stage and direction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS_SHOWN))
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], int(args.one[1]), int(args.one[2]))))
        return
    for alias in args.models:
        for row in sweep(alias):
            if args.json:
                print(json.dumps(row), flush=True)
                continue
            sizes = ", ".join(f"{size}: {1e3 * value:.3g} ms" for size, value in row["seconds"].items())
            print(f"{alias} {row['stage']} by {row['grows']}: exponent {row['exponent']:.2f} ({sizes})", flush=True)


if __name__ == "__main__":
    main()
