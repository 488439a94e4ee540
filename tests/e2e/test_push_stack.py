"""Our own metrics pushed to a real VictoriaMetrics, and what its queries then see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.metrics import Metrics
from engine.server.push import Pusher
from engine.server.settings import PushSettings
from tests.e2e.stack import Stack, needs_stack, until

pytestmark = [pytest.mark.e2e, needs_stack]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("push")
    made = Stack(folder / "stack", "--only", "victoriametrics")
    yield made
    made.down()


def test_every_sample_of_the_registry_arrives_with_the_labels_of_the_instance(stack: Stack) -> None:
    metrics = Metrics(memory_bytes=1 << 30)
    metrics.runs.labels("infer", "q", "m", "s", "default").inc(3)
    metrics.run_seconds.labels("infer", "q", "m", "s", "default").observe(0.2)
    pusher = Pusher(PushSettings(url=stack.vm, extra_labels={"dc": "eu"}), metrics, port=8500)
    assert pusher.push()
    assert pusher.stop(1)
    until(lambda: stack.series('vmanomaly_start_time_seconds{job="vmanomaly"}'), 30, "the pushed samples")
    found = {s["metric"]["__name__"]: s for s in stack.series('{job="vmanomaly",instance=~".+:8500",dc="eu"}')}
    sent = {s.name for family in metrics.registry.collect() for s in family.samples}
    assert set(found) == sent
    assert found["vmanomaly_model_runs_total"]["values"] == [3]
    assert found["vmanomaly_model_runs_total"]["metric"]["stage"] == "infer"
    assert found["vmanomaly_available_memory_bytes"]["values"] == [1 << 30]


def test_extra_labels_replace_job_and_instance(stack: Stack) -> None:
    labels = {"job": "mine", "instance": "here"}
    json_lines = f"{stack.vm}/api/v1/import"  # takes no text, but answers 204
    pusher = Pusher(PushSettings(url=json_lines, extra_labels=labels), Metrics(), port=1)
    assert pusher.push()
    assert pusher.stop(1)
    until(lambda: stack.series('vmanomaly_start_time_seconds{job="mine",instance="here"}'), 30, "the replaced labels")
