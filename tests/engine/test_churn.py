"""A simulated day in which a tenth of the series is replaced each hour: memory and disk stay level."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine.build import make_schedule, make_tasks
from engine.config.schema import load_config
from engine.disk.codec import Record
from engine.frame import Query, Samples, Window
from engine.metrics import Metrics
from engine.pool import Pool
from engine.scheduler.periodic import replay
from engine.scheduler.settings import PeriodicSettings
from engine.series import SeriesTable
from engine.state.store import StateStore
from engine.writer.noop import NoopWriter

M, H = 60_000, 3_600_000
T0 = 472_222 * H
N_SERIES = 100
TTL_MS = 2 * H
CONFIG = """
schedulers: {s: {class: periodic, infer_every: 10m, fit_window: 10h, fit_every: 6h}}
models:
  z: {class: zscore_online}
  mad: {class: mad_online}
  both: {class: temporal_envelope_multivariate, groupby: [pod]}
reader: {datasource_url: "http://vm", sampling_period: 10m, queries: {a: {expr: u}, b: {expr: v}}}
writer: {datasource_url: "http://vm"}
"""


class ChurningReader:
    """In hour h the series h/10 of N to h/10 of N + N are there."""

    def __init__(self) -> None:
        self._tables: dict[str, SeriesTable] = {}

    def table(self, query: Query) -> SeriesTable:
        return self._tables.setdefault(query.alias, SeriesTable())

    def read(self, query: Query, window: Window, scheduler_alias: str) -> Iterator[tuple[Window, Samples]]:
        times = window.timestamps_ms()
        first = ((times - T0) // H * (N_SERIES // 10)).astype(np.int64)
        names = np.arange(first.min(), first.max() + N_SERIES)
        table = self.table(query)
        series = np.array([table.intern({"pod": f"pod-{k:06d}", "x": "y" * 40}) for k in names.tolist()])
        parts = [times[(first <= k) & (k < first + N_SERIES)] for k in names.tolist()]
        indptr = np.concatenate([[0], np.cumsum([part.size for part in parts])])
        flat = np.concatenate(parts)
        yield window, Samples(series, indptr, flat, np.sin(flat / 1e7) + np.repeat(names, np.diff(indptr)) % 7)

    def placed(self, query: Query, scheduler_alias: str, seconds: float) -> None:
        return

    def close(self) -> None:
        return


def live(folder: Path, n_hours: int, *, retention: bool) -> tuple[list[int], list[int], list[int], list[int]]:
    """By hour: bytes of Python and numpy that are held, bytes of state on disk, fitted series, label sets known."""
    (folder / "c.yml").write_text(CONFIG)
    config = load_config([folder / "c.yml"], {})
    settings = config.schedulers["s"]
    assert isinstance(settings, PeriodicSettings)
    store, metrics, pool = StateStore(folder / "state"), Metrics(), Pool(1)
    carried: dict[str, Record] = {}
    held, on_disk, fitted, known = [], [], [], []
    reader = ChurningReader()
    tasks = make_tasks(config, "s", reader, NoopWriter(), pool, metrics, store=store)
    schedule = make_schedule(settings, tasks, T0)
    for hour in range(n_hours):
        if retention and hour:
            # What the service does when there is something to drop.
            assert hour < 4 or any(task.unit.n_stale(TTL_MS) for task in tasks)
            carried = {k: record for task in tasks for k, record in task.unit.carry(TTL_MS).items()}
            reader = ChurningReader()
            store.begin()
            tasks = make_tasks(config, "s", reader, NoopWriter(), pool, metrics, store=store, carried=carried)
            assert store.remove_unused() == 0
            schedule = make_schedule(settings, tasks, T0 + hour * H)
        carried = {}
        replay(schedule, tasks, T0 + hour * H + 10_000, T0 + (hour + 1) * H - 1)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
        on_disk.append(sum(path.stat().st_size for path in (folder / "state").iterdir()))
        fitted.append(sum(group.state.series.size for task in tasks for group in task.unit.groups if group.state))
        known.append(len(reader.table(config.queries["a"])))
    store.close()
    return held, on_disk, fitted, known


def test_with_retention_a_day_of_churn_leaves_memory_and_disk_level(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        held, on_disk, fitted, known = live(tmp_path, 24, retention=True)
    finally:
        tracemalloc.stop()
    # The first hours fill up to what the time to live allows: N, and three tenths that are on their way out.
    for values, slack in ((held, 1.1), (on_disk, 1.35), (fitted, 1.05), (known, 1.05)):
        assert max(values[12:]) <= slack * max(values[4:12])
    n_columns = 6  # two models on two queries, and one on both
    assert n_columns * N_SERIES <= max(fitted) <= n_columns * 1.3 * N_SERIES


def test_without_retention_labels_are_never_forgotten(tmp_path: Path) -> None:
    """The test above could not fail if they were."""
    _, _, _, known = live(tmp_path, 8, retention=False)
    assert known[-1] >= 1.8 * N_SERIES
