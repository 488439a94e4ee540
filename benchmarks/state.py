"""What it costs to keep state and results on disk: a snapshot, a commit and a record of the spool a tick, a restart.

Run: python -m benchmarks.state [--series 20000] [--models zscore_online temporal_envelope] [--folder FOLDER]

The folder's disk is what is measured; the temporary folder may be memory. Prints one JSON object a model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from engine.config.classes import MODELS
from engine.frame import I64, Frame, Query
from engine.group import Group
from engine.metrics import Metrics
from engine.models.base import Model, fit
from engine.pool import Pool
from engine.saving import Saver
from engine.score import resolve
from engine.series import SeriesTable
from engine.spool.spool import Spool
from engine.state.store import StateStore
from engine.writer.noop import NoopWriter

STEP_MS = 300_000
N_STEPS = 576
N_TICKS = 30
NAMES = {"scheduler_alias": "s", "model_alias": "m", "query_key": "q", "preset": "default"}
KEY = {"scheduler": "s", "model": "m", "query": "q"}


def labels(k: int) -> dict[str, str]:
    """Labels as long as those of node metrics."""
    name = {"__name__": "node_cpu_seconds_total", "instance": f"host-{k % 97}:9100"}
    return name | {"cpu": f"{k:06d}", "job": "node", "mode": "user"}


def frame(series: I64, first: int, last: int) -> Frame:
    """Noise around one level at steps first..last - 1."""
    values = 50 + np.random.default_rng(first).standard_normal((series.size, last - first))
    return Frame(series, STEP_MS * np.arange(first, last), values, STEP_MS)


def measure(model: Model, n_series: int, folder: Path) -> dict[str, float]:
    """Save, commit and restore one group."""
    pool, metrics, table = Pool(), Metrics(), SeriesTable()
    series = np.array([table.intern(labels(k)) for k in range(n_series)])
    query = Query("q", "", STEP_MS)
    group = Group(model, query, resolve(model, query), NAMES, pool, metrics)
    group.adopt(fit(model, [frame(series, 0, N_STEPS)], pool), (N_STEPS - 1) * STEP_MS)
    store = StateStore(folder)
    keeper = store.keeper(KEY, "i")
    saver = Saver(group, table, "i", keeper, NoopWriter(), metrics)
    started = time.perf_counter()
    saver.save({"at_ms": 0})
    row = {"save_s": time.perf_counter() - started, "bytes_a_series": keeper.size_bytes / n_series}
    infers, commits = [], []
    for k in range(N_STEPS, N_STEPS + N_TICKS):
        now = frame(series, k, k + 1)
        marks = [time.perf_counter()]
        group.infer(now, table)
        marks.append(time.perf_counter())
        saver.commit()
        marks.append(time.perf_counter())
        infers.append(marks[1] - marks[0])
        commits.append(marks[2] - marks[1])
    row |= {"infer_ms": 1e3 * statistics.median(infers), "commit_ms": 1e3 * statistics.median(commits)}
    row["longest_commit_ms"] = 1e3 * max(commits)
    store.close()
    row |= spooled(group, table, series, folder / "spool")
    again, names = Group(model, query, resolve(model, query), NAMES, pool, metrics), SeriesTable()
    store = StateStore(folder)
    started = time.perf_counter()
    Saver(again, names, "i", store.keeper(KEY, "i"), NoopWriter(), metrics).restore(names)
    row["restore_s"] = time.perf_counter() - started
    store.close()
    assert again.state is not None
    assert again.state.series.size == n_series
    return row


def spooled(group: Group, table: SeriesTable, series: I64, folder: Path) -> dict[str, float]:
    """Put the results of some ticks into a spool, and read them back as another process would."""
    spool, seconds = Spool(folder, 4 << 30), []
    for k in range(N_STEPS + N_TICKS, N_STEPS + 2 * N_TICKS):
        (batch,) = group.infer(frame(series, k, k + 1), table)
        started = time.perf_counter()
        spool.add(batch)
        seconds.append(time.perf_counter() - started)
    row = {"spool_ms": 1e3 * statistics.median(seconds), "longest_spool_ms": 1e3 * max(seconds)}
    row["spool_bytes_a_series_and_tick"] = spool.size_bytes() / series.size / N_TICKS
    spool.close()
    started = time.perf_counter()
    spool = Spool(folder, 4 << 30)
    while (entry := spool.next()) is not None:
        spool.done(entry)
    row["spool_read_s"] = time.perf_counter() - started
    spool.close()
    return row


def main() -> None:
    """Measure each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--models", nargs="+", default=["zscore_online", "temporal_envelope"])
    parser.add_argument("--folder", type=Path, help="where a folder for the state is made")
    args = parser.parse_args()
    for alias in args.models:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            row = measure(MODELS.settings_type(alias)(), args.series, Path(name))
        print(json.dumps({"model": alias, **{key: round(value, 3) for key, value in row.items()}}))


if __name__ == "__main__":
    main()
