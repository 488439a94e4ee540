"""Multivariate models on the real VictoriaMetrics: two queries, one score for each instance, and who is to blame."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.stack import Engine, Stack, needs_stack, running, until

pytestmark = [pytest.mark.e2e, needs_stack]

STEP_S = 5
MINUTES = 20
CONFIG = """
schedulers:
  s: {class: periodic, infer_every: 5s, fit_every: 1h, fit_window: 20m}
models:
  forest:
    class: isolation_forest_multivariate
    queries: [cpu, mem]
    groupby: [instance]
    contamination: 0.01
    provide_series: [anomaly_score, contribution]
  envelope:
    class: temporal_envelope_multivariate
    queries: [cpu, mem]
    groupby: [instance]
    provide_series: [anomaly_score, contribution, yhat]
reader:
  datasource_url: "{url}"
  sampling_period: 5s
  settle: 1s
  queries:
    cpu: {expr: usage_cpu}
    mem: {expr: usage_mem}
writer: {datasource_url: "{url}"}
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    made = Stack(tmp_path / "stack", "--only", "victoriametrics", "--vm-flag=-search.latencyOffset=0s")
    yield made
    made.down()


def feed(stack: Stack, begin: int, first: int, last: int, burst: float = 0.0) -> None:
    """Two cores and the memory of each of two instances at grid times first..last; on `b` core 1 may burst.

    At `begin` the rhythm is in its middle: at its ends every channel is rare, and a forest may blame any of them.
    """
    times = np.arange(first, last + 1, STEP_S)
    lines: list[dict[str, Any]] = []
    for instance in ("a", "b"):
        load = 50 + 10 * np.sin((times - begin) / 300) + np.sin(times * 7.3 + ord(instance))
        for name, labels, factor in (
            ("usage_cpu", {"core": "0"}, 1.0),
            ("usage_cpu", {"core": "1"}, 1.1),
            ("usage_mem", {}, 0.5),
        ):
            values = factor * load + np.sin(times * 3.1 + 9 * factor)
            if instance == "b" and labels == {"core": "1"}:
                values = values + burst
            metric = {"__name__": name, "instance": instance, "job": "node", **labels}
            lines.append({"metric": metric, "values": values.tolist(), "timestamps": (1000 * times).tolist()})
    stack.add(lines)


def written(stack: Stack, name: str, model: str) -> dict[tuple[tuple[str, str], ...], dict[int, float]]:
    """By labels without those that are the same for all: Unix seconds to value."""
    found = {}
    for row in stack.series(f'{name}{{model_alias="{model}"}}'):
        labels = {k: v for k, v in row["metric"].items() if k not in ("__name__", "model_alias", "preset")}
        assert labels.pop("scheduler_alias") == "s"
        times = [t // 1000 for t in row["timestamps"]]
        found[tuple(sorted(labels.items()))] = dict(zip(times, row["values"], strict=True))
    return found


def test_joint_scores_and_contributions_of_two_queries_by_instance(stack: Stack, tmp_path: Path) -> None:
    begin = int(time.time()) // STEP_S * STEP_S
    feed(stack, begin, begin - MINUTES * 60, begin)
    groups = {(("for", "cpu,mem"), ("instance", name), ("job", "node")) for name in "ab"}
    channels = {
        tuple(sorted({"for": alias, "instance": name, "job": "node", **core}.items()))
        for name in "ab"
        for alias, core in (("cpu", {"core": "0"}), ("cpu", {"core": "1"}), ("mem", {}))
    }
    with running(Engine(tmp_path, CONFIG.replace("{url}", stack.vm))) as engine:
        fed = begin

        def quiet_is_scored() -> bool:
            """All models score; usual steps are fed until then, however long they take to fit."""
            nonlocal fed
            now = int(time.time()) // STEP_S * STEP_S
            if now > fed:
                feed(stack, begin, fed + STEP_S, now)
                fed = now
            return all(written(stack, "anomaly_score", model) for model in ("envelope", "forest"))

        until(quiet_is_scored, 120, "scores are written", lambda: engine.log)
        # A time of its own: the newest may have been scored without the burst.
        until(lambda: time.time() >= fed + STEP_S, 2 * STEP_S, "the next step has come")
        burst = int(time.time()) // STEP_S * STEP_S
        if fed + STEP_S < burst:
            feed(stack, begin, fed + STEP_S, burst - STEP_S)
        feed(stack, begin, burst, burst, burst=400.0)

        def scored() -> bool:
            found = (
                written(stack, name, m) for name in ("anomaly_score", "contribution") for m in ("envelope", "forest")
            )
            return all(points and all(burst in cells for cells in points.values()) for points in found)

        until(scored, 60, "the burst is scored", lambda: engine.log)
        for model in ("envelope", "forest"):
            scores, shares = written(stack, "anomaly_score", model), written(stack, "contribution", model)
            assert set(scores) == groups
            assert set(shares) == channels
            for name in "ab":
                own = [cells[burst] for labels, cells in shares.items() if ("instance", name) in labels]
                assert sum(own) == pytest.approx(1.0)
            blamed = max((labels for labels in shares if ("instance", "b") in labels), key=lambda k: shares[k][burst])
            assert blamed == (("core", "1"), ("for", "cpu"), ("instance", "b"), ("job", "node")), model
        envelope = {
            dict(labels)["instance"]: cells[burst]
            for labels, cells in written(stack, "anomaly_score", "envelope").items()
        }
        assert envelope["b"] > 1
        assert envelope["b"] > 2 * envelope["a"]
        assert set(written(stack, "yhat", "envelope")) == channels
        assert written(stack, "yhat", "forest") == {}
        assert engine.metric("vmanomaly_models_active") == 4
        code, _ = engine.stop()
    assert code == 0
