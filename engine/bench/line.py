"""End to end: the service's own reader, pipeline and writer, from the first request to the last acknowledged write."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from engine.bench.made import expr_of
from engine.bench.measuring import REPEATS, Found, Stopwatch, Task, need, peak_rss_bytes, row
from engine.build import make_reader, make_tasks, make_writer
from engine.config.classes import MODELS
from engine.config.schema import Config, load_config
from engine.errors import WriteError
from engine.frame import Window
from engine.metrics import Metrics
from engine.models.examples import ARGUMENTS
from engine.pipeline import Unit
from engine.pool import Pool
from engine.writer.base import Writer

_WRITE_S = 300.0


def config_text(task: Task) -> str:
    """The configuration of one model on one query, as JSON, which is YAML."""
    model = {"class": task.model, **ARGUMENTS.get(task.model, {}), "queries": "all", "schedulers": "all"}
    if MODELS.settings_type(task.model).is_multivariate and not task.query:
        model["groupby"] = ["host"]
    step = f"{task.step_ms}ms"
    window = f"{(task.n_points - 1) * task.step_ms}ms"
    every = {"class": "periodic", "fit_window": window, "fit_every": "1d", "infer_every": step}
    names = {"__name__": f"{task.prefix}$VAR", "for": "$QUERY_KEY"}
    config: dict[str, Any] = {
        "schedulers": {"s": every},
        "models": {"m": model},
        "reader": {
            "datasource_url": task.source_url,
            "sampling_period": step,
            "queries": {"q": {"expr": task.query or expr_of(task.n_series)}},
        },
        "writer": {"datasource_url": task.target_url, "metric_format": names},
        "settings": {"n_workers": task.threads},
    }
    return json.dumps(config)


def measure_line(task: Task) -> Found:
    """Whole fits and whole ticks of one model.

    Raises
    ------
    EngineError : the database does not answer, or has nothing; the model cannot be fitted.
    """
    config = _config(task)
    metrics, pool = Metrics(), Pool(task.threads)
    reader, writer = make_reader(config, metrics), make_writer(config, metrics)
    try:
        (made,) = make_tasks(config, "s", reader, writer, pool, metrics)
        return _measure(task, made.unit, writer, metrics)
    finally:
        reader.close()
        writer.close(5.0)
        pool.close()


def _config(task: Task) -> Config:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(config_text(task))
        file.flush()
        return load_config([Path(file.name)], {})


def _measure(task: Task, unit: Unit, writer: Writer, metrics: Metrics) -> Found:
    n_steps = Window(task.end_ms - (task.n_points - 1) * task.step_ms, task.end_ms, task.step_ms).n_steps
    read = _Counter(metrics)
    fits, ticks = [Stopwatch() for _ in range(REPEATS + 1)], [Stopwatch() for _ in range(REPEATS + 1)]
    for watch in fits:
        need(watch.run(lambda: unit.fit(task.end_ms)).is_fitted, task.model)
    fit_bytes = read.since() // len(fits)
    for k, watch in enumerate(ticks):
        watch.run(partial(_one_tick, unit, writer, task.end_ms + (k + 1) * task.step_ms))
    tick_bytes = read.since() // len(ticks)
    rows = [
        row("whole fit", fits[1:], task.n_series, task.n_series * n_steps, fit_bytes),
        row("whole tick", ticks[1:], task.n_series, task.n_series, tick_bytes),
    ]
    return Found(rows=rows, peak_rss_bytes=peak_rss_bytes(), n_series=task.n_series)


def _one_tick(unit: Unit, writer: Writer, at_ms: int) -> None:
    unit.infer(at_ms)
    if not writer.drain(_WRITE_S):
        raise WriteError(f"the outputs were not taken within {_WRITE_S:g} s", "timeout")


class _Counter:
    """How many bytes the reader was answered with since it was last asked."""

    def __init__(self, metrics: Metrics) -> None:
        self._metric, self._last = metrics.read_bytes, 0

    def since(self) -> int:
        total = int(sum(s.value for m in self._metric.collect() for s in m.samples if s.name.endswith("_total")))
        self._last, grown = total, total - self._last
        return grown
