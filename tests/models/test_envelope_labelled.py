"""What the envelope finds in labelled metrics of real services, with default arguments, in one run."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import score
from engine.frame import Frame, Query
from engine.models.envelope import TemporalEnvelope
from engine.offline.measures import Labelled, measure

DATA = os.environ.get("ENGINE_TEST_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="ENGINE_TEST_DATA names no folder of labelled series")
# One outage in five of the KPIs: half of all labelled points.
GIANT = 6_000


def scored(path: Path) -> Labelled:
    """A KPI's scores after its first tenth."""
    with gzip.open(path, "rt") as file:
        times, values, labels = np.loadtxt(file, delimiter=",", skiprows=1).T
    times_ms = (1000 * times).astype(np.int64)
    step_ms = int(np.median(np.diff(times_ms)))
    model, frame = TemporalEnvelope(), Frame(np.arange(1), times_ms, np.ascontiguousarray(values[None]), step_ms)
    prediction, _ = model.infer(model.fresh(frame.series, frame), frame)
    columns = score.apply(score.resolve(model, Query("kpi", "kpi", step_ms)), model.warm_up, prediction, frame)
    later = slice(values.size // 10, None)
    return Labelled(times_ms[later], columns["anomaly_score"][0, later], labels[later], step_ms)


@pytest.fixture(scope="module")
def kpis() -> list[Labelled]:
    paths = sorted((Path(str(DATA)) / "aiops-kpi" / "train").glob("*.csv.gz"))
    assert len(paths) == 29
    return [scored(path) for path in paths]


def without_giants(series: Labelled) -> Labelled:
    """The points outside segments of more than `GIANT` points."""
    keep = np.ones(series.truth.size, dtype=bool)
    for start, end in zip(*series.segments, strict=True):
        keep[start:end] = end - start <= GIANT
    return replace(series, times_ms=series.times_ms[keep], scores=series.scores[keep], truth=series.truth[keep])


def test_it_ranks_and_finds_anomalies_of_29_kpis_and_seldom_cries_wolf(kpis: list[Labelled]) -> None:
    found = measure(kpis)
    assert found is not None
    assert found.average_precision >= 0.50
    assert found.best_delay_f1.delay_f1 >= 0.86
    assert found.at_one.delay_f1 >= 0.84
    assert found.at_one.false_episodes <= 4.5


def test_it_does_not_live_on_the_five_longest_outages(kpis: list[Labelled]) -> None:
    shorter = [without_giants(series) for series in kpis]
    assert sum(a.truth.size != b.truth.size for a, b in zip(shorter, kpis, strict=True)) == 5
    found = measure(shorter)
    assert found is not None
    assert found.at_one.delay_f1 >= 0.67
