"""The getting-started guide's stack with this engine in vmanomaly's place; cadences shortened."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Engine, Stack, free_port, needs_stack, running, until

pytestmark = [pytest.mark.e2e, needs_stack]

STEP_S = 10
OUTPUTS = ("anomaly_score", "yhat", "yhat_lower", "yhat_upper", "y")

# The guide's file but for host, port and cadence.
CONFIG = """
scheduler:
  infer_every: "10s"
  fit_every: "2h"
  fit_window: "14d"

model:
  class: "model.prophet.ProphetModel"
  args:
    interval_width: 0.98

reader:
  datasource_url: "{url}/"
  queries:
    node_cpu_rate: "rate(node_cpu_seconds_total)"

writer:
  datasource_url: "{url}/"
"""
# This server was told not to make up its last 30 s, so points settle sooner.
SETTLE = "reader: {settle: 3s}\n"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    port = free_port()
    made = Stack(
        tmp_path / "stack",
        f"--vmanomaly-port={port}",
        "--scrape-interval=2s",
        "--eval-interval=2s",
        "--vm-flag=-search.latencyOffset=0s",
    )
    made.vmanomaly_port = port
    yield made
    made.down()


def start(stack: Stack, folder: Path) -> Engine:
    port: int = stack.vmanomaly_port
    return Engine(folder, CONFIG.format(url=stack.vm), SETTLE, port=port)


def outputs(
    stack: Stack, name: str, query_key: str = "node_cpu_rate"
) -> dict[tuple[tuple[str, str], ...], dict[int, float]]:
    """By label set without the name: time to value."""
    found = {}
    for line in stack.series(f'{name}{{for="{query_key}"}}'):
        labels = tuple(sorted((k, v) for k, v in line["metric"].items() if k != "__name__"))
        found[labels] = dict(zip(line["timestamps"], line["values"], strict=True))
    return found


def test_fresh_stack_is_scored_within_three_intervals(stack: Stack, tmp_path: Path) -> None:
    with running(start(stack, tmp_path)) as engine:
        first = until(
            lambda: min((s["timestamps"][0] for s in stack.series("node_cpu_seconds_total")), default=0),
            30, "node-exporter is scraped",
        )  # fmt: skip
        until(lambda: all(outputs(stack, name) for name in OUTPUTS), 60, "all five are written", lambda: engine.log)
        written = {name: outputs(stack, name) for name in OUTPUTS}
        for name in OUTPUTS:
            earliest = min(min(points) for points in written[name].values())
            assert earliest <= first + 3 * STEP_S * 1000 + 5_000, name

        last = max(max(points) for points in written["yhat"].values()) // 1000
        inputs = stack.query_range("rate(node_cpu_seconds_total)", last, last, f"{STEP_S}s")
        expected = {tuple(sorted({**s["metric"], "for": "node_cpu_rate"}.items())) for s in inputs}
        assert {len(dict(labels)) for labels in expected} == {5}  # for, cpu, instance, job, mode: the guide's
        for name in OUTPUTS:
            assert set(written[name]) == expected, name

        until(lambda: up(stack) == "1", 20, "vmagent scrapes the engine as job vmanomaly")
        assert engine.metric("vmanomaly_models_active") == len(expected)
        names = {line["metric"]["__name__"] for line in stack.series('{for="node_cpu_rate"}')}
        assert names == set(OUTPUTS)  # and nothing else, whatever the model could tell
        code, seconds = engine.stop()
    assert code == 0
    assert seconds < 8


def test_y_is_what_the_query_answers_two_minutes_later(tmp_path: Path) -> None:
    """Steps below and above one minute, on a server that makes up its last 30 s."""
    stack = Stack(tmp_path / "stack", "--scrape-interval=2s")
    try:
        short = CONFIG.format(url=stack.vm)
        long = short.replace('infer_every: "10s"', 'infer_every: "1m"').replace("node_cpu_rate", "by_minute")
        with running(Engine(tmp_path, short)) as first, running(Engine(tmp_path, long)) as second:
            until(lambda: settled(stack, "node_cpu_rate"), 300, "y is two minutes old at 10 s", lambda: first.log)
            until(lambda: settled(stack, "by_minute"), 300, "y is two minutes old at 1 m", lambda: second.log)
            for query_key, step in (("node_cpu_rate", "10s"), ("by_minute", "1m")):
                for labels, points in settled(stack, query_key).items():
                    selector = ",".join(f'{k}="{v}"' for k, v in labels if k != "for")
                    expr = f"rate(node_cpu_seconds_total{{{selector}}})"
                    answer = stack.query_range(expr, min(points) // 1000, max(points) // 1000, step)
                    later = {int(t * 1000): float(v) for t, v in answer[0]["values"]}
                    assert points == {t: pytest.approx(later[t], rel=1e-12, abs=1e-15) for t in points}, query_key
    finally:
        stack.down()


def settled(stack: Stack, query_key: str) -> dict[tuple[tuple[str, str], ...], dict[int, float]]:
    """The points of y that are at least two minutes old."""
    before = (time.time() - 120) * 1000
    found = outputs(stack, "y", query_key)
    old = {labels: {t: v for t, v in points.items() if t <= before} for labels, points in found.items()}
    return {labels: points for labels, points in old.items() if points}


def up(stack: Stack) -> str | None:
    reply = httpx.get(f"{stack.vm}/api/v1/query", params={"query": 'up{job="vmanomaly"}'}).json()
    result = reply["data"]["result"]
    return result[0]["value"][1] if result else None


def history(live: list[dict[str, Any]], days: int = 14, step_s: int = 60) -> list[dict[str, Any]]:
    """Counters that lead up to the live ones, of a machine whose user time wanders as a busy test machine's does."""
    end_s = min(line["timestamps"][0] for line in live) // 1000
    times = range(end_s - days * 86_400, end_s, step_s)
    lines = []
    for line in live:
        metric = line["metric"]
        rng = random.Random(f"{metric['cpu']} {metric['mode']}")
        mean, spread = (0.3, 0.22) if metric["mode"] in ("user", "idle") else (0.05, 0.05)
        total, values = 0.0, []
        for _ in times:
            total += step_s * min(1.0, max(0.0, rng.gauss(mean, spread)))
            values.append(total)
        # No jump where the live counter takes over.
        offset = line["values"][0] - total
        values = [round(value + offset, 2) for value in values]
        lines.append({"metric": metric, "values": values, "timestamps": [t * 1000 for t in times]})
    return lines


def test_a_cpu_burn_fires_the_guides_alert(stack: Stack, tmp_path: Path) -> None:
    until(lambda: len(stack.series("node_cpu_seconds_total")) >= 8, 30, "node-exporter is scraped")
    live = stack.series("node_cpu_seconds_total")
    stack.add(history(live))
    stack.flush()
    with running(start(stack, tmp_path)) as engine:
        user = 'anomaly_score{mode="user"}'
        until(lambda: stack.series(user), 90, "user time is scored", lambda: engine.log)
        until(quiet_for(stack, 40), 180, "forty seconds without an alert", lambda: engine.log)
        until(lambda: time.time() % STEP_S < 0.5, STEP_S + 1, "the start of an interval")
        burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
        started = time.monotonic()
        try:
            until(lambda: fired(stack, "vmalert"), 60, "the alert fires", lambda: engine.log)
            seconds = time.monotonic() - started
            until(lambda: fired(stack, "alertmanager"), 20, "Alertmanager has it")
        finally:
            for burner in burners:
                burner.kill()
                burner.wait()
        # Two intervals, the settling time, and one evaluation of the rule.
        assert seconds <= 2 * STEP_S + 3 + 2 + 2


def quiet_for(stack: Stack, seconds: float) -> Callable[[], bool]:
    """A condition: for that long no alert has fired. Starting takes CPU time that the history does not have."""
    last = time.monotonic()

    def is_quiet() -> bool:
        nonlocal last
        if fired(stack, "vmalert"):
            last = time.monotonic()
        return time.monotonic() - last >= seconds

    return is_quiet


def fired(stack: Stack, where: str) -> list[Any]:
    return [a for a in stack.alerts("HighAnomalyScore")[where] if a["labels"].get("mode") == "user"]
