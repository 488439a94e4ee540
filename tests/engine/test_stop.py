"""SIGTERM to the real process in the middle of everything: over within eight seconds, exit code 0, nothing torn."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Engine, free_port, running, until
from tests.engine.scripted import ScriptedVm
from tests.engine.server.test_push import Endpoint

STOP_S = 8.0
CONFIG = """
schedulers:
  fast: {{class: periodic, infer_every: 1s, fit_every: 1h, fit_window: 2m}}
models:
  z: {{class: zscore_online, queries: [q], schedulers: [fast], min_n_samples_seen: 1}}
reader:
  datasource_url: {url}
  sampling_period: 1s
  settle: 0s
  queries:
    q: {{expr: some_metric}}
writer:
  datasource_url: {url}
"""
# The service with a model whose fit takes a minute of computing that nothing can interrupt.
SLOW_FIT = """
import sys, time
from pathlib import Path
from engine.models.zscore import OnlineZscore
def finish(self, state):
    print("fitting", flush=True)
    time.sleep(60)
    return state
OnlineZscore.finish = finish
from engine import service
from engine.config.schema import load_config
sys.exit(service.run(load_config([Path(sys.argv[1])], {})))
"""


@pytest.fixture
def vm() -> Iterator[ScriptedVm]:
    made = ScriptedVm()
    yield made
    made.stop()


@pytest.fixture
def silent() -> Iterator[str]:
    """A database that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def stops(engine: Engine) -> None:
    code, seconds = engine.stop()
    assert code == 0, engine.log
    assert seconds < STOP_S, engine.log
    assert "SIGTERM: stopping" in engine.log
    assert "Traceback" not in engine.log


def is_whole(vm: ScriptedVm) -> None:
    """Every timestamp was written with all of its columns."""
    for series in range(vm.n_series):
        times = [set(vm.written.get(f"{name} {series}", {})) for name in ("anomaly_score", "y", "yhat")]
        assert times[0] == times[1] == times[2]


def test_in_the_middle_of_scoring(vm: ScriptedVm, tmp_path: Path) -> None:
    with running(Engine(tmp_path, CONFIG.format(url=vm.url))) as engine:
        until(lambda: vm.written, 30, "scores", lambda: engine.log)
        stops(engine)
        assert "cut short" not in engine.log
    is_whole(vm)


def test_before_it_runs_as_process_1_too_which_has_no_default_for_signals(tmp_path: Path) -> None:
    model = tmp_path / "model.py"
    model.write_text('import time\nprint("loading", flush=True)\ntime.sleep(60)\n')
    config = CONFIG.format(url="http://127.0.0.1:1").replace("class: zscore_online", "class: custom")
    (tmp_path / "config.yml").write_text(f"{config}custom: {{path: {model}}}\n")
    words = [str(Path(sys.executable).with_name("engine")), str(tmp_path / "config.yml")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"loading\n"
            process.terminate()
            assert process.wait(STOP_S) == 0  # -SIGTERM without a handler: process 1 would have gone on
        finally:
            process.kill()


def test_in_the_middle_of_a_fit(vm: ScriptedVm, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "config.yml").write_text(f"{CONFIG.format(url=vm.url)}server: {{addr: 127.0.0.1, port: {port}}}\n")
    words = [sys.executable, "-c", SLOW_FIT, str(tmp_path / "config.yml")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"fitting\n"
            assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).is_success
            started = time.monotonic()
            process.terminate()
            assert process.wait(30) == 0
            assert time.monotonic() - started < STOP_S
        finally:
            process.kill()


def test_in_the_middle_of_a_compilation(vm: ScriptedVm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_KERNEL_CACHE", str(tmp_path / "kernels"))
    config = CONFIG.format(url=vm.url).replace("class: zscore_online", "class: prophet")
    with running(Engine(tmp_path, config.replace(", min_n_samples_seen: 1", ""))) as engine:
        # The first answer is decoded by a kernel, which is compiled for seconds.
        until(lambda: engine.metric("vmanomaly_reader_received_bytes_total"), 30, "an answer", lambda: engine.log)
        assert not vm.written
        stops(engine)
    assert not list((tmp_path / "kernels").rglob("*.tmp.*")), "a torn file"


def test_while_database_and_push_endpoint_hang(silent: str, tmp_path: Path) -> None:
    push = f"monitoring: {{push: {{url: {silent}, timeout: 30s}}, pull: {{addr: 127.0.0.1, port: {free_port()}}}}}\n"
    with running(Engine(tmp_path, CONFIG.format(url=silent), push)) as engine:
        until(lambda: engine.metric("process_open_fds") > 0, 10, "metrics")
        stops(engine)


def test_during_a_reload_while_the_database_hangs(vm: ScriptedVm, tmp_path: Path) -> None:
    one = "{class: periodic, infer_every: 1s, fit_every: 1h, fit_window: 2m}"
    many = [f"s{k}" for k in range(6)]
    config = CONFIG.format(url=vm.url).replace("models:\n", "".join(f"  {k}: {one}\n" for k in many) + "models:\n")
    config = config.replace("[fast]", "all").replace("reader:\n", "reader:\n  workers: 16\n")
    with running(Engine(tmp_path, config, options=("--watch", "-configCheckInterval=200ms"))) as engine:
        runs = "vmanomaly_model_runs_total"
        for alias in many:
            # Called before the loop goes on.
            until(lambda: engine.metric(runs, stage="infer", scheduler_alias=alias), 30, "scores", lambda: engine.log)  # noqa: B023
        vm.fault = "silence"
        time.sleep(2)  # all inferences are under way
        path = next(tmp_path.glob("config-*-0.yml"))
        path.write_text(path.read_text().replace("min_n_samples_seen: 1", "min_n_samples_seen: 2"))
        time.sleep(2)
        stops(engine)


def test_while_the_database_hangs_with_results_to_write(vm: ScriptedVm, silent: str, tmp_path: Path) -> None:
    config = CONFIG.format(url=vm.url).rpartition("datasource_url")[0] + f"datasource_url: {silent}\n"
    with running(Engine(tmp_path, config)) as engine:
        until(lambda: engine.metric("vmanomaly_writer_queue_bytes"), 30, "results that wait", lambda: engine.log)
        vm.fault = "silence"
        reads = vm.n_reads
        until(lambda: vm.n_reads > reads, 10, "a read that hangs", lambda: engine.log)
        stops(engine)
        assert "given up (shutdown)" in engine.log


def test_metrics_are_pulled_from_their_own_port_and_pushed(vm: ScriptedVm, tmp_path: Path) -> None:
    pushed = Endpoint()
    pull = free_port()
    monitoring = f"monitoring: {{push: {{url: {pushed.url}}}, pull: {{addr: 127.0.0.1, port: {pull}}}}}\n"
    with running(Engine(tmp_path, CONFIG.format(url=vm.url), monitoring)) as engine:
        until(lambda: vm.written and pushed.pushes, 30, "scores and a push", lambda: engine.log)
        for url in (engine.url, f"http://127.0.0.1:{pull}"):
            assert "vmanomaly_scheduler_alive{" in httpx.get(f"{url}/metrics", timeout=5).text
        stops(engine)
    pushed.server.shutdown()
    pushed.server.server_close()
    assert all(path.startswith("/api/v1/import/prometheus?") for path, _, _ in pushed.pushes)
    # The last push comes after the last job.
    assert 'vmanomaly_scheduler_alive{preset="default",scheduler_alias="fast"} 0.0' in pushed.pushes[-1][2]


def test_two_schedulers_one_of_which_always_fails(vm: ScriptedVm, tmp_path: Path) -> None:
    class_of = "{class: periodic, infer_every: 1s, fit_every: 1h, fit_window: 2m}"
    config = CONFIG.format(url=vm.url).replace("models:\n", f"  other: {class_of}\nmodels:\n")
    config = config.replace(
        "reader:\n", "  b: {class: zscore_online, queries: [bad], schedulers: [other]}\nreader:\n", 1
    )
    config = config.replace("    q: {", "    bad: {expr: fails_always}\n    q: {")
    with running(Engine(tmp_path, config)) as engine:
        until(lambda: engine.metric("vmanomaly_reader_responses_total", query_key="bad", code="422") >= 3, 30,
              "failures", lambda: engine.log)  # fmt: skip
        mark = max(vm.written.get("y 1", {0: 0}))
        until(lambda: max(vm.written.get("y 1", {0: 0})) > mark, 20, "the other goes on", lambda: engine.log)
        for alias in ("fast", "other"):
            assert engine.metric("vmanomaly_scheduler_alive", scheduler_alias=alias) == 1
        assert engine.metric("vmanomaly_model_runs_skipped_total", scheduler_alias="fast") == 0
        stops(engine)
