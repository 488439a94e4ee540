"""One model on one set of files, for `quality.py`: its figures as a line of JSON.

Run in a process of its own, whose `engine` is that of the checkout that is measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import EngineError
from engine.offline.measures import Labelled, at_threshold
from engine.offline.score_command import Options, Result, compute, labelled
from engine.pool import Pool


def worker(task: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one task."""
    options = Options(
        files=task["files"],
        class_name=task["class"],
        arguments=task["arguments"],
        fit_fraction=task.get("fraction"),
        fit_rows=task.get("rows"),
        labels="label",
    )
    pool = Pool(0)
    _compile(options, pool)
    started = time.perf_counter()
    result, _ = compute(options, pool)
    pool.close()
    seconds = time.perf_counter() - started
    row = _figures(result, task)
    row |= {"seconds": seconds, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    return row


def _compile(options: Options, pool: Pool) -> None:
    """Score a small file first: what is timed is the work, not the compilation of kernels that changed."""
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file, contextlib.suppress(EngineError):
        rows = (f"{300 * t},{t * (7 + k) % 11},h{k},{int(t == 900)}" for t in range(1000) for k in range(2))
        file.write("\n".join(["timestamp,value,host,label", *rows]) + "\n")
        file.flush()
        compute(dataclasses.replace(options, files=[file.name], fit_rows=None, fit_fraction=0.5), pool)


def _figures(result: Result, task: Mapping[str, Any]) -> dict[str, float]:
    scores = result.columns["anomaly_score"]
    row = {"above_1": float((scores > 1).sum() / max(1, np.isfinite(scores).sum()))}
    if result.measures is None:
        return row
    m = result.measures
    row |= {
        "ap": m.average_precision,
        "series_f1": m.series_delay_f1,
        "best_f1": m.best_delay_f1.delay_f1,
        "best_point_f1": m.best_f1.f1,
        "f1_at_1": m.at_one.delay_f1,
        "episodes": m.at_one.false_episodes,
    }
    if task["set"] == "kpi":
        row["f1_at_1_small"] = _without_giants(result)
    if task["set"] == "asd":
        row["hit_rate"] = _hit_rate(result, task["files"])
    return row


def _without_giants(result: Result) -> float:
    """7-delay F1 at 1 without the five longest segments, which are half of all labelled points."""

    series = [s for batch in result.batches for s in labelled(result.points, result.columns["anomaly_score"], batch)]
    lengths = sorted((int(b - a) for s in series for a, b in zip(*s.segments, strict=True)), reverse=True)
    kept = []
    for s in series:
        keep = np.ones(s.truth.size, dtype=bool)
        for a, b in zip(*s.segments, strict=True):
            keep[a:b] = b - a < lengths[4]
        kept.append(Labelled(s.times_ms[keep], s.scores[keep], s.truth[keep], s.step_ms))
    return at_threshold(kept, 1.0).delay_f1


def _hit_rate(result: Result, files: Sequence[str]) -> float:
    """Of an anomaly with k listed metrics, the share of them among the k that are blamed most; mean over anomalies.

    The blame of a metric is what it adds to the scores of the anomaly's rows, all together: contribution times score.
    """
    blames = {
        name.removeprefix("contribution_"): column for name, column in result.columns.items() if "contrib" in name
    }
    if not blames:
        return float("nan")
    names, points = list(blames), result.points
    scores = np.nan_to_num(result.columns["anomaly_score"])
    hits = []
    for cause in json.loads((Path(files[0]).parent / "root_causes.json").read_text()):
        labels = {"file": cause["server"]}
        series = next(k for k in range(len(points.table)) if points.table.labels(k) == labels)
        first, last = (1000 * cause[key] for key in ("start_timestamp", "end_timestamp"))
        rows = (points.series == series) & (points.times_ms >= first) & (points.times_ms <= last)
        blame = [float(np.nansum(blames[name][rows] * scores[rows])) for name in names]
        most = {names[k] for k in np.argsort(blame)[::-1][: len(cause["metrics"])]}
        hits.append(len(most & set(cause["metrics"])) / len(cause["metrics"]))
    return float(np.mean(hits))


if __name__ == "__main__":
    print(json.dumps(worker(json.loads(sys.argv[1]))))
