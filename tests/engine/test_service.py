"""The object graph of a configuration: what its keys make of the schedule."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import certifi
import numpy as np
import pytest

from engine.build import make_reader, make_schedule, make_tasks, make_writer
from engine.config.schema import Config, load_config
from engine.errors import StartError
from engine.fitting import WindowStore
from engine.frame import Frame, Window
from engine.memory import memory_capacity
from engine.metrics import Metrics
from engine.pool import Pool
from engine.scheduler.periodic import Task, end_job, start_job
from engine.scheduler.plan import Schedule, due
from engine.scheduler.settings import PeriodicSettings
from engine.service import Service
from tests.fakes import MemoryReader, MemoryWriter

S, M, H = 1_000, 60_000, 3_600_000
NOW = 472_222 * H + 17_345
BASE = """
schedulers:
  s: {class: periodic, infer_every: 1m, fit_window: 1d, fit_every: 2h}
models: {m: {class: zscore_online}}
reader: {datasource_url: "http://vm", sampling_period: 1m, queries: {QUERIES}}
writer: {datasource_url: "http://vm"}
"""


def made(folder: Path, text: str) -> tuple[Config, list[Task], Schedule]:
    (folder / "config.yml").write_text(text)
    config = load_config([folder / "config.yml"], {})
    tasks = make_tasks(config, "s", MemoryReader(), MemoryWriter(), Pool(1), Metrics())
    settings = config.schedulers["s"]
    assert isinstance(settings, PeriodicSettings)
    return config, tasks, make_schedule(settings, tasks, NOW)


def infer_times(tasks: list[Task], schedule: Schedule, minutes: int) -> dict[str, list[int]]:
    """When each query is inferred, in milliseconds after `NOW`, by a loop that looks ten times a second."""
    found: dict[str, list[int]] = {task.unit.query.alias: [] for task in tasks}
    for now in range(NOW, NOW + minutes * M, 100):
        for task in tasks:
            for job in due(schedule, task.pace, task.progress, now):
                start_job(task, job)
                if job.kind == "infer":
                    found[task.unit.query.alias].append(now - NOW)
                task.progress.is_fitted, task.progress.fit_at_ms = True, job.at_ms
                end_job(task, job)
    return found


@pytest.mark.parametrize("scatter", [True, False])
def test_scattered_queries_are_spread_evenly_over_the_interval(tmp_path: Path, scatter: bool) -> None:
    text = BASE.replace("{QUERIES}", "{a: {expr: u}, b: {expr: v}, c: {expr: w}, d: {expr: x}}")
    _, tasks, schedule = made(tmp_path, text.replace("1m,", f"1m, scatter_infer_jobs: {scatter},".lower(), 1))
    late = {alias: [time for time in times if time > M] for alias, times in infer_times(tasks, schedule, 4).items()}
    assert all(len(times) == 3 for times in late.values())
    first = sorted(times[0] for times in late.values())
    gaps = [round((b - a) / S) for a, b in pairwise(first)]
    assert gaps == ([15] * 3 if scatter else [0] * 3)


def test_a_point_is_read_once_it_has_settled_and_offset_moves_what_is_read(tmp_path: Path) -> None:
    queries = "{short: {expr: u, step: 10s}, long: {expr: v}, past: {expr: w, offset: -10m}}"
    _, tasks, schedule = made(tmp_path, BASE.replace("{QUERIES}", queries))
    by_alias = {task.unit.query.alias: task for task in tasks}
    at = NOW + M - 17_345 + 6 * S  # six seconds after a whole minute
    jobs: dict[str, Any] = {}
    for alias, task in by_alias.items():
        (jobs[alias],) = due(schedule, task.pace, task.progress, at)
    minute = NOW - 17_345 + M
    assert {alias: job.at_ms - minute for alias, job in jobs.items()} == {"short": -M, "long": 0, "past": -10 * M}


def test_schedulers_share_the_memory_budget(tmp_path: Path) -> None:
    text = BASE.replace("{QUERIES}", "{a: {expr: u}}")
    alone = made(tmp_path, text)[1][0].unit.limits.memory_budget_bytes
    assert alone == pytest.approx(0.6 * memory_capacity(), rel=0.01)
    shared = text.replace("models:", "  t: {class: periodic, infer_every: 1m, fit_window: 1d}\nmodels:")
    assert made(tmp_path, shared)[1][0].unit.limits.memory_budget_bytes == alone // 2


def test_a_data_folder_that_is_not_there_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mount" / "data"
    monkeypatch.setenv("VMANOMALY_DATA_DUMPS_DIR", str(folder))
    config, tasks, _ = made(tmp_path, BASE.replace("{QUERIES}", "{a: {expr: u}}") + "server: {port: 0}\n")
    service = Service(config, threading.Event())
    service.start()
    service.stop(time.monotonic())
    assert folder.is_dir()
    window = Window(0, 10 * M, M)
    store = WindowStore(window, "UTC", 0, tasks[0].unit.limits.data_folder)  # no memory: all goes to the disk
    values = np.arange(11.0)[None]
    store.add(Frame(np.array([0]), window.timestamps_ms(), values, M, "UTC"))
    np.testing.assert_array_equal(next(store.blocks(np.array([0]), 10 * M)).values, values)


def test_a_data_folder_that_cannot_be_made_is_told_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VMANOMALY_DATA_DUMPS_DIR", str(tmp_path / "file" / "data"))
    config, _, _ = made(tmp_path, BASE.replace("{QUERIES}", "{a: {expr: u}}"))
    with pytest.raises(StartError, match=r"VMANOMALY_DATA_DUMPS_DIR: .*/file/data: Not a directory"):
        Service(config, threading.Event()).start()


@pytest.mark.parametrize("section", ["reader", "writer"])
def test_a_part_that_cannot_be_made_is_named(tmp_path: Path, section: str) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Path(certifi.where()).read_bytes())
    text = BASE.replace("{QUERIES}", "{a: {expr: u}}").replace(f"{section}: {{", f'{section}: {{verify_tls: "{ca}", ')
    config = made(tmp_path, text)[0]
    ca.unlink()
    make: Any = {"reader": make_reader, "writer": make_writer}[section]
    with pytest.raises(StartError, match=f"^{section}: verify_tls: No such file"):
        make(config, Metrics())


def test_multivariate_models_on_the_same_queries_share_a_unit_beside_those_of_single_queries(tmp_path: Path) -> None:
    models = """models:
  one: {class: zscore_online, queries: all, schedulers: all}
  two: {class: isolation_forest_multivariate, queries: [a, b], schedulers: all}
  three: {class: isolation_forest_multivariate, queries: [b, a], groupby: [host], schedulers: all}
  four: {class: isolation_forest_multivariate, queries: [a], schedulers: all}
"""
    text = BASE.replace("models: {m: {class: zscore_online}}\n", models)
    _, tasks, _ = made(tmp_path, text.replace("{QUERIES}", "{a: {expr: u, offset: -1m}, b: {expr: v}}"))
    units = [(task.unit.query.alias, [group.names["model_alias"] for group in task.unit.groups]) for task in tasks]
    assert units == [("a", ["one"]), ("b", ["one"]), ("a,b", ["two", "three"]), ("a", ["four"])]
    assert [task.pace.offset_ms for task in tasks] == [-M, 0, -M, -M]
