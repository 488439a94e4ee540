"""The service as a process against a database that goes wrong in every way it can: it lives, says so, recovers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Engine, running, until
from tests.engine.scripted import ScriptedVm, value_at

CONFIG = """
schedulers:
  fast: {{class: periodic, infer_every: 1s, fit_every: 1h, fit_window: 2m}}
models:
  z: {{class: zscore_online, queries: [q], schedulers: [fast], min_n_samples_seen: 1}}
reader:
  datasource_url: {url}
  sampling_period: 1s
  fetch_timeout: 1s
  settle: 0s
  queries:
    q: {{expr: some_metric}}
writer:
  datasource_url: {url}
  timeout: 1s
"""

# Fault of reads: the code that counts it, and a word that its log line has.
READ_FAULTS = {
    "429": ("429", "429"),
    "500": ("500", "500"),
    "503": ("503", "concurrent search requests"),
    "html": ("200", "text/html"),
    "bad query": ("422", "unknown func"),
    "redirect": ("302", "redirect"),
    "silence": ("timeout", "1 s"),
    "half": ("connection_error", ""),
}


@pytest.fixture
def vm() -> Iterator[ScriptedVm]:
    made = ScriptedVm()
    yield made
    made.stop()


def last_score(vm: ScriptedVm) -> int:
    return max(vm.written.get("anomaly_score 1", {0: 0.0}))


def scores_go_on(vm: ScriptedVm, engine: Engine) -> None:
    now = time.time() * 1000
    until(lambda: last_score(vm) > now, 30, "scores later than now", lambda: engine.log)


def test_reads_fail_in_every_way_and_nothing_is_lost(vm: ScriptedVm, tmp_path: Path) -> None:
    with running(Engine(tmp_path, CONFIG.format(url=vm.url))) as engine:
        scores_go_on(vm, engine)
        for fault, (code, words) in READ_FAULTS.items():
            before = engine.metric("vmanomaly_reader_responses_total", code=code)
            mark = len(engine.log)
            vm.fault = fault
            until(lambda c=code, b=before: engine.metric("vmanomaly_reader_responses_total", code=c) > b, 20,
                  f"{fault} is counted", lambda: engine.log)  # fmt: skip
            until(lambda m=mark, w=words: "WARNING" in engine.log[m:] and w in engine.log[m:], 20,
                  f"{fault} has a line", lambda: engine.log)  # fmt: skip
            vm.fault = None
            scores_go_on(vm, engine)
        for fault in ("empty", "duplicates", "not finite"):
            vm.fault, mark, reads = fault, len(engine.log), vm.n_reads
            until(lambda r=reads: vm.n_reads > r + 2, 20, f"{fault} is read")
            if fault == "empty":
                assert "No data for query_key" in engine.log[mark:]
            vm.fault = None
            scores_go_on(vm, engine)
        assert "Traceback" not in engine.log
        assert "secret" not in engine.log
        assert engine.stop()[0] == 0
    for series in (1, 2):
        points = vm.written[f"y {series}"]
        assert sorted(points) == list(range(min(points), max(points) + 1, 1000)), "a point was lost"
        assert points == {t: value_at(series, t / 1000) for t in points}
        assert set(vm.written[f"anomaly_score {series}"]) == set(points)
    assert all(math.isfinite(v) for points in vm.written.values() for v in points.values())


def test_database_is_absent_at_start_goes_away_and_comes_back(vm: ScriptedVm, tmp_path: Path) -> None:
    vm.stop()
    with running(Engine(tmp_path, CONFIG.format(url=vm.url))) as engine:
        until(lambda: engine.metric("vmanomaly_reader_responses_total", code="connection_error") >= 1, 20,
              "the absence is counted", lambda: engine.log)  # fmt: skip
        vm.start()
        scores_go_on(vm, engine)
        vm.stop()
        before = engine.metric("vmanomaly_reader_responses_total", code="connection_error")
        until(lambda: engine.metric("vmanomaly_reader_responses_total", code="connection_error") > before + 1, 20,
              "the second absence is counted")  # fmt: skip
        vm.start()
        scores_go_on(vm, engine)
        assert engine.process.poll() is None
        assert "Traceback" not in engine.log
    points = vm.written["y 1"]
    assert sorted(points) == list(range(min(points), max(points) + 1, 1000)), "a point was lost"


@pytest.mark.parametrize("fault", ["429", "500", "503", "reset"])
def test_writes_that_fail_for_a_while_are_delivered_later(vm: ScriptedVm, tmp_path: Path, fault: str) -> None:
    with running(Engine(tmp_path, CONFIG.format(url=vm.url))) as engine:
        scores_go_on(vm, engine)
        vm.write_fault = fault
        until(lambda: vm.n_failed_writes >= 2, 20, "writes fail", lambda: engine.log)
        vm.write_fault = None
        scores_go_on(vm, engine)
        assert "WARNING" in engine.log
    points = vm.written["y 1"]
    assert sorted(points) == list(range(min(points), max(points) + 1, 1000)), "a point was lost"


def test_refused_writes_are_counted_and_do_not_block_the_rest(vm: ScriptedVm, tmp_path: Path) -> None:
    with running(Engine(tmp_path, CONFIG.format(url=vm.url))) as engine:
        scores_go_on(vm, engine)
        vm.write_fault = "400"
        until(lambda: engine.metric("vmanomaly_writer_datapoints_dropped_total") > 0, 20, "drops are counted",
              lambda: engine.log)  # fmt: skip
        vm.write_fault = None
        scores_go_on(vm, engine)


def test_health_answers_within_a_second_from_start_through_the_first_fit(vm: ScriptedVm, tmp_path: Path) -> None:
    import httpx

    with running(Engine(tmp_path, CONFIG.format(url=vm.url))) as engine:
        slowest, deadline = 0.0, time.monotonic() + 60
        while not vm.written and time.monotonic() < deadline:
            for path in ("/health", "/metrics"):
                started = time.monotonic()
                assert httpx.get(engine.url + path, timeout=5).is_success
                slowest = max(slowest, time.monotonic() - started)
        assert vm.written, engine.log
    # The bound that operators' probes have; twice of it, since test machines are busy.
    assert slowest < 2.0
