"""Batches made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engine.frame import F64, Batch, Output
from engine.series import SeriesTable

MINUTE_MS = 60_000
START_MS = 1_700_000_000_000 // MINUTE_MS * MINUTE_MS
ALIASES = {"model_alias": "m", "scheduler_alias": "s", "preset": "default"}
IO_NAMES = {"query_key": "cpu", "scheduler_alias": "s", "preset": "default"}


def make_batch(
    labels: Sequence[Mapping[str, str]],
    columns: Mapping[str, Sequence[Sequence[float]] | F64],
    *,
    table: SeriesTable | None = None,
    query_key: str = "cpu",
    aliases: Mapping[str, str] = ALIASES,
    start_ms: int = START_MS,
) -> Batch:
    """A batch whose rows are the given label sets, one step a minute."""
    table = table if table is not None else SeriesTable()
    series = np.array([table.intern(each) for each in labels], dtype=np.int64)
    arrays = {name: np.array(rows, dtype=np.float64) for name, rows in columns.items()}
    arrays = {name: array.reshape(len(labels), array.shape[-1]) for name, array in arrays.items()}
    n_steps = next(iter(arrays.values())).shape[1]
    times = start_ms + MINUTE_MS * np.arange(n_steps, dtype=np.int64)
    return Batch(Output(series, times, arrays), table, query_key, metric_labels=IO_NAMES, **aliases)


def simple_batch(
    n_series: int = 1, n_steps: int = 1, table: SeriesTable | None = None, start_ms: int = START_MS
) -> Batch:
    """One column `y` with the row's number, plus step / 10."""
    rows = np.arange(n_series)[:, None] + np.arange(n_steps) / 10
    return make_batch([{"i": str(i)} for i in range(n_series)], {"y": rows}, table=table, start_ms=start_ms)


def numbered(k: int, table: SeriesTable | None = None) -> Batch:
    """A batch of one point whose value is k."""
    return make_batch([{"i": "0"}], {"y": [[float(k)]]}, table=table, start_ms=START_MS + k * MINUTE_MS)
