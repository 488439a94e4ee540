"""What an undisturbed run writes, and how far that is from what a disturbed one has written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from engine.build import make_reader, make_schedule, make_tasks
from engine.config.schema import load_config
from engine.frame import Batch
from engine.metrics import Metrics
from engine.pool import Pool
from engine.scheduler.periodic import replay
from engine.scheduler.settings import PeriodicSettings
from engine.writer.noop import NoopWriter
from tests.chaos.world import N_SERIES, STEP_S

# VictoriaMetrics keeps decimals with a common exponent for a block of samples.
_SAME = {"rtol": 1e-9, "atol": 1e-9}
Grid = dict[tuple[str, str], NDArray[np.float64]]
Marks = dict[tuple[str, str], NDArray[np.bool_]]


class _Collector(NoopWriter):
    def __init__(self, begin_s: int, n_steps: int) -> None:
        self.begin_ms, self.n_steps = 1000 * begin_s, n_steps
        self.grid: Grid = {}

    def submit(self, batch: Batch) -> None:
        hosts = [int(batch.table.labels(k)["host"][1:]) for k in batch.output.series.tolist()]
        steps = (batch.output.timestamps_ms - self.begin_ms) // (1000 * STEP_S)
        for name, column in batch.output.columns.items():
            empty = np.full((N_SERIES, self.n_steps), np.nan)
            self.grid.setdefault((batch.model_alias, name), empty)[np.ix_(hosts, steps)] = column


def undisturbed(folder: Path, config: str, begin_s: int, end_s: int) -> Grid:
    """By model and output (series, steps since `begin_s`), from the same jobs run one after the other."""
    path = folder / "undisturbed.yml"
    path.write_text(config)
    loaded = load_config([path], {})
    settings = loaded.schedulers["s"]
    assert isinstance(settings, PeriodicSettings)
    metrics, pool = Metrics(), Pool(2)
    reader, writer = make_reader(loaded, metrics), _Collector(begin_s, (end_s - begin_s) // STEP_S + 1)
    try:
        tasks = make_tasks(loaded, "s", reader, writer, pool, metrics)
        schedule = make_schedule(settings, tasks, 1000 * begin_s - 1)
        settle_ms = tasks[0].pace.settle_ms
        replay(schedule, tasks, 1000 * begin_s + settle_ms, 1000 * end_s + settle_ms)
    finally:
        reader.close()
        pool.close()
    return writer.grid


@dataclass
class Verdict:
    """How a disturbed run compares; `missing` and `wrong` name some of them."""

    n_expected: int = 0
    n_there: int = 0
    n_twice: int = 0
    n_refused: int = 0
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def compare(url: str, expected: Grid, begin_s: int, end_s: int, refused: Iterable[bytes]) -> Verdict:
    """Every sample in the database, repeated ones too, against the undisturbed run up to `end_s`.

    Parameters
    ----------
    refused : bodies that the database would not take: what is in them may be missing.
    """
    verdict, n_steps = Verdict(), (end_s - begin_s) // STEP_S + 1
    there = {key: np.zeros(grid.shape, dtype=np.bool_) for key, grid in expected.items()}
    allowed = {key: np.zeros(grid.shape, dtype=np.bool_) for key, grid in expected.items()}
    for body in refused:
        for line in body.splitlines():
            _mark(json.loads(line), allowed, begin_s)
    for column in sorted({column for _, column in expected}):
        params = {"match[]": f'{column}{{for="load"}}', "reduce_mem_usage": "1"}
        with httpx.stream("GET", f"{url}/api/v1/export", params=params, timeout=300) as answer:
            for line in answer.iter_lines():
                _check(json.loads(line), expected, there, begin_s, verdict)
    for key, grid in expected.items():
        wanted = np.isfinite(grid)
        wanted[:, n_steps:] = False
        verdict.n_expected += int(wanted.sum())
        verdict.n_there += int((wanted & there[key]).sum())
        verdict.n_refused += int((wanted & ~there[key] & allowed[key]).sum())
        for host, step in np.argwhere(wanted & ~there[key] & ~allowed[key]).tolist():
            verdict.missing.append(f"{key} h{host} {begin_s + STEP_S * step}")
    return verdict


def _mark(row: Mapping[str, Any], marks: Marks, begin_s: int) -> None:
    labels = row["metric"]
    steps = (np.array(row["timestamps"]) // 1000 - begin_s) // STEP_S
    mark = marks[labels["model_alias"], labels["__name__"]][int(labels["host"][1:])]
    mark[steps[steps < mark.size]] = True


def _check(row: Mapping[str, Any], expected: Grid, there: Marks, begin_s: int, verdict: Verdict) -> None:
    labels = row["metric"]
    key, host = (labels["model_alias"], labels["__name__"]), int(labels["host"][1:])
    steps = (np.array(row["timestamps"]) // 1000 - begin_s) // STEP_S
    values = np.array(row["values"], dtype=np.float64)
    inside = (steps >= 0) & (steps < expected[key].shape[1])
    steps, values = steps[inside], values[inside]
    verdict.n_twice += steps.size - np.unique(steps).size
    wanted = expected[key][host, steps]
    for k in np.flatnonzero(~np.isclose(values, wanted, **_SAME)).tolist():
        verdict.wrong.append(f"{key} h{host} {begin_s + STEP_S * int(steps[k])}: {values[k]} for {wanted[k]}")
    there[key][host, steps] = True
