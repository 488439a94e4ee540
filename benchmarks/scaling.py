"""How costs grow with series and points, without a network: a fit from answer to state, a tick from answer to imports.

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
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.decode import make_body
from engine.config.classes import MODELS
from engine.frame import Batch, Query, Samples, Window, pack
from engine.group import Group
from engine.metrics import Metrics
from engine.pipeline import Limits, Unit
from engine.pool import Pool
from engine.reader.decode import Decoder
from engine.reader.pieces import POINTS_PER_PIECE
from engine.score import resolve
from engine.series import SeriesTable
from engine.writer.encode import Encoder
from engine.writer.noop import NoopWriter
from engine.writer.settings import METRIC_FORMAT

# (series, points of a fit): either grows while the other stays.
SERIES = [(n, 100) for n in (100, 1_000, 10_000, 50_000, 200_000)]
POINTS = [(200, n) for n in (100, 1_000, 4_000, 40_000)]
MODELS_SHOWN = ("zscore_online", "temporal_envelope")
LEAST = 1_000
ROUNDS = 5
STEP_MS = 60_000
START_MS = 1_700_000_000_000 // STEP_MS * STEP_MS
BODY_MS = 1_700_000_000_000
NAMES = {"scheduler_alias": "s", "model_alias": "m", "query_key": "q", "preset": "default"}


class BodyReader:
    """Answers any window in the pieces that the engine would ask for, each from the same bytes at other times."""

    def __init__(self, n_series: int, n_points: int) -> None:
        self.series = SeriesTable()
        self._n_steps = min(n_points, max(1, POINTS_PER_PIECE // n_series))
        # The last piece may be shorter.
        sizes = {self._n_steps, n_points % self._n_steps or self._n_steps}
        self._bodies = {size: make_body(n_series, size) for size in sizes}
        self._decoder = Decoder(self.series)

    def table(self, query: Query) -> SeriesTable:
        return self.series

    def read(self, query: Query, window: Window, scheduler_alias: str) -> Iterator[tuple[Window, Samples]]:
        for piece in window.split(self._n_steps):
            samples = self._decoder.decode(self._bodies[piece.n_steps]).samples
            yield piece, replace(samples, timestamps_ms=samples.timestamps_ms + (piece.start_ms - BODY_MS))

    def placed(self, query: Query, scheduler_alias: str, seconds: float) -> None:
        """Is part of the fit's time."""

    def close(self) -> None:
        """Holds nothing."""


def measure(alias: str, n_series: int, n_points: int) -> dict[str, float]:
    """Seconds of a fit and of a tick."""
    model, pool, metrics, query = MODELS.settings_type(alias)(), Pool(1), Metrics(), Query("q", "", STEP_MS)
    group = Group(model, query, resolve(model, query), NAMES, pool, metrics)
    reader, window_ms = BodyReader(n_series, n_points), (n_points - 1) * STEP_MS
    unit = Unit("s", query, [group], Limits(window_ms, STEP_MS, STEP_MS), reader, NoopWriter(), pool, metrics)
    fits = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        assert unit.fit(START_MS).is_complete
        fits.append(time.perf_counter() - started)
    body = make_body(n_series, 1)
    decoder, encoder = Decoder(reader.series), Encoder(METRIC_FORMAT, "", 8 << 20, 10_000)
    ticks = []
    for k in range(1, ROUNDS + 2):
        at = START_MS // 1000 + k * STEP_MS // 1000
        answer = bytearray(bytes(body).replace(b"[1700000000,", b"[%d," % at))
        window = Window(at * 1000, at * 1000, STEP_MS)
        started = time.perf_counter()
        batches: list[Batch] = group.infer(pack(decoder.decode(answer).samples, window), reader.series)
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
