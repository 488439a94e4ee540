"""Import lines a second: the encoder against orjson with its numpy option, on the same series and numbers.

``python -m benchmarks.encode`` prints one JSON object a case: best and median of the rounds.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import numba
import numpy as np
import orjson

from engine.frame import Batch, Output
from engine.series import SeriesTable
from engine.writer.encode import Encoder
from engine.writer.settings import METRIC_FORMAT

COLUMNS = ("anomaly_score", "yhat", "yhat_lower", "yhat_upper", "y")
ROUNDS = 11


def labels(i: int) -> dict[str, str]:
    """Labels as long as those of real HTTP metrics."""
    return {
        "instance": f"10.0.{i >> 8 & 255}.{i & 255}:9100",
        "job": "node",
        "handler": f"/api/v1/resource/{i % 97}",
        "code": str(200 + i % 5),
        "cluster": "eu-1",
        "pod": f"backend-{i:05d}-abcde",
    }


def make_batch(n_series: int, n_steps: int) -> Batch:
    """Numbers with all their digits, as ratios and bands have them."""
    rng = np.random.default_rng(0)
    table = SeriesTable()
    series = np.array([table.intern(labels(i)) for i in range(n_series)], dtype=np.int64)
    times = 1_700_000_000_000 + 300_000 * np.arange(n_steps, dtype=np.int64)
    columns = {name: rng.random((n_series, n_steps)) * 1000 for name in COLUMNS}
    return Batch(Output(series, times, columns), table, "http_requests", "zscore", "default", "default")


def with_orjson(batch: Batch) -> Callable[[], int]:
    """One mapping a line, numbers straight from numpy."""
    own = {"for": "http_requests", "model_alias": "zscore", "scheduler_alias": "default", "preset": "default"}
    table = batch.table
    metrics = {
        name: [{"__name__": name, **own, **table.labels(int(k))} for k in batch.output.series] for name in COLUMNS
    }
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    times = batch.output.timestamps_ms

    def run() -> int:
        lines = [
            orjson.dumps({"metric": metric, "values": values, "timestamps": times}, option=option)
            for name in COLUMNS
            for metric, values in zip(metrics[name], batch.output.columns[name], strict=True)
        ]
        return len(b"".join(lines))

    return run


def with_encoder(batch: Batch) -> Callable[[], int]:
    """Bodies as the writer sends them."""
    encoder = Encoder(METRIC_FORMAT, "", max_bytes=8 << 20, max_series=10_000)
    return lambda: sum(len(body.data) for body in encoder.encode(batch))


def measure(name: str, n_series: int, n_steps: int, run: Callable[[], int]) -> float:
    """Print one case; returns its best seconds."""
    size = run()
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    n_lines = n_series * len(COLUMNS)
    best = min(seconds)
    row = {
        "encoder": name,
        "series": n_series,
        "steps": n_steps,
        "mb": round(size / 1e6, 1),
        "best_ms": round(best * 1e3, 2),
        "median_ms": round(statistics.median(seconds) * 1e3, 2),
        "million_lines_s": round(n_lines / best / 1e6, 2),
        "ns_value": round(best / n_lines / n_steps * 1e9, 1),
        "numba": numba.__version__,
    }
    print(json.dumps(row))
    return best


def main() -> None:
    """Measure both shapes: a tick, and a day in one go."""
    for n_series, n_steps in ((20_000, 1), (2_000, 288)):
        batch = make_batch(n_series, n_steps)
        theirs = measure("orjson", n_series, n_steps, with_orjson(batch))
        ours = measure("engine", n_series, n_steps, with_encoder(batch))
        print(json.dumps({"series": n_series, "steps": n_steps, "times_faster": round(theirs / ours, 1)}))
        started = time.perf_counter()
        with_encoder(batch)()
        print(json.dumps({"first_encode_of_new_series_ms": round((time.perf_counter() - started) * 1e3, 1)}))


if __name__ == "__main__":
    main()
