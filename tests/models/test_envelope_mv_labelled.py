"""What the multivariate envelope finds and blames in labelled metrics of servers, with default arguments."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import score
from engine.channels.joint import score_groups
from engine.frame import F64, I64, Frame, Query
from engine.models.base import align, fit, infer
from engine.models.envelope_mv import TemporalEnvelopeMultivariate
from engine.offline.measures import Labelled, measure
from engine.pool import Pool

DATA = os.environ.get("ENGINE_TEST_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="ENGINE_TEST_DATA names no folder of labelled series")
STEP_MS = 300_000


def read(path: Path) -> tuple[I64, F64, int, I64]:
    """Times, channels, where the test part begins, and its labels."""
    with gzip.open(path, "rt") as file:
        rows = [line.rstrip("\n").split(",") for line in file][1:]
    n_train = sum(row[1] == "train" for row in rows)
    labels = np.array([int(row[2]) for row in rows[n_train:]])
    times_ms = 1000 * np.array([int(row[0]) for row in rows])
    return times_ms, np.array([[float(cell) for cell in row[3:]] for row in rows]).T, n_train, labels


def scored(times_ms: I64, channels: F64, n_train: int) -> dict[str, F64]:
    """The columns of the test part: fitted on the rest, then online."""

    def part(a: int, b: int) -> Frame:
        groups = np.zeros(channels.shape[0], dtype=np.int64)
        values = np.ascontiguousarray(channels[:, a:b])
        return Frame(np.arange(channels.shape[0]), times_ms[a:b], values, STEP_MS, groups=groups)

    model, pool = TemporalEnvelopeMultivariate(), Pool(1)
    state, frame = align(model, fit(model, [part(0, n_train)], pool), part(n_train, times_ms.size))
    prediction, _ = infer(model, state, frame, pool)
    policies = [score.resolve(model, Query("server", "server", STEP_MS))]
    return score_groups(model, policies, np.zeros(channels.shape[0], dtype=np.int64), prediction, frame)


def hit_rate(contribution: F64, cause: dict[str, Any]) -> float:
    """Of k metrics that show an anomaly the share that is among the k blamed most over its rows."""
    total = contribution[:, cause["start_test_row"] : cause["end_test_row"] + 1].sum(axis=1)
    blamed = {f"m{row + 1}" for row in np.argsort(-total, kind="stable")[: len(cause["metrics"])]}
    return len(blamed & set(cause["metrics"])) / len(cause["metrics"])


def test_it_ranks_anomalies_of_six_servers_blames_the_right_metrics_and_seldom_cries_wolf() -> None:
    folder = Path(str(DATA)) / "asd-servers"
    causes = json.loads((folder / "root_causes.json").read_text())
    precision, hits, false = [], [], []
    for server in sorted({cause["server"] for cause in causes}):
        times_ms, channels, n_train, labels = read(folder / f"{server}.csv.gz")
        columns = scored(times_ms, channels, n_train)
        scores = columns["anomaly_score"][0]
        found = measure([Labelled(times_ms[n_train:], scores, labels, STEP_MS)])
        assert found is not None
        precision.append(found.average_precision)
        hits += [hit_rate(columns["contribution"], c) for c in causes if c["server"] == server]
        false.append((scores[labels == 0] > 1).mean())
    assert len(precision) == 6
    assert len(hits) == 38
    assert np.mean(precision) >= 0.42
    assert np.mean(hits) >= 0.85
    assert max(false) <= 0.005
