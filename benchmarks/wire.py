"""Decoding of answers and encoding of import lines against msgspec and orjson, as rows of docs/benchmarks.md."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import decode, encode

# (series, steps, how many times faster ours is to be)
DECODED = ((100, 20_160, 10), (10_000, 10, 8))
ENCODED = ((20_000, 1, 8), (2_000, 288, None))


def median_s(run: Callable[[], object], rounds: int) -> float:
    """Median seconds, after a first round that does not count."""
    run()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def measure() -> list[dict[str, Any]]:
    """Both ways of all shapes."""
    rows = []
    for n_series, n_steps, bar in DECODED:
        body = decode.make_body(n_series, n_steps)
        ours, theirs = decode.with_ours(body), decode.with_msgspec(body)
        assert ours() == theirs() == n_series * n_steps
        speeds = [len(body) / 1e6 / median_s(run, rounds) for run, rounds in ((ours, 9), (theirs, 3))]
        rows.append(_row("decode", n_series, n_steps, bar, "msgspec, typed, into arrays", "MB/s", *speeds))
    for n_series, n_steps, bar in ENCODED:
        batch = encode.make_batch(n_series, n_steps)
        lines = n_series * len(encode.COLUMNS) / 1e6
        runs = (encode.with_encoder(batch), 9), (encode.with_orjson(batch), 3)
        speeds = [lines / median_s(run, rounds) for run, rounds in runs]
        rows.append(_row("encode", n_series, n_steps, bar, "orjson, mappings of numpy rows", "M lines/s", *speeds))
    return rows


def _row(
    what: str, n_series: int, n_steps: int, bar: float | None, peer: str, unit: str, ours: float, theirs: float
) -> dict[str, Any]:
    shape = f"{n_series:,} series of {n_steps:,} points"
    return {"what": what, "shape": shape, "peer": peer, "unit": unit, "ours": ours, "theirs": theirs, "bar": bar}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of the page."""
    lines = ["| What | Against | Ours | Theirs | Ratio | Bar |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = row["ours"] / row["theirs"]
        shown = f"**{ratio:.3g}**" if row["bar"] and ratio >= row["bar"] else f"{ratio:.3g}"
        cells = [f"{row['what']} {row['shape']}", row["peer"]]
        cells += [f"{row['ours']:.3g} {row['unit']}", f"{row['theirs']:.3g} {row['unit']}", shown]
        lines.append("| " + " | ".join([*cells, "" if row["bar"] is None else f"{row['bar']:g}"]) + " |")
    return lines
