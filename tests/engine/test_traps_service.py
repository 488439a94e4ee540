"""Mistakes that vmanomaly's changelog tells of, in connections and the service; docs/compatibility.md lists them."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import engine.http
import engine.scheduler.periodic
from engine.build import make_tasks
from engine.config.schema import load_config
from engine.errors import ReadError
from engine.frame import Query, Samples, Window
from engine.metrics import Metrics
from engine.pipeline import Limits, Unit
from engine.pool import Pool
from engine.reader.vm import VmReader
from engine.scheduler.periodic import PeriodicScheduler, Task, now_ms
from engine.scheduler.plan import Pace, Schedule
from engine.writer.settings import VmWriterSettings
from engine.writer.vm import VmWriter
from tests.e2e.stack import free_port, until
from tests.engine.reader.memory_server import Server, reader_of, settings_of
from tests.engine.scripted import ScriptedVm, value_at
from tests.engine.test_traps import group_of, total
from tests.engine.unit_bench import T0, M
from tests.engine.writer.batches import numbered
from tests.engine.writer.server import Answer, ImportServer
from tests.fakes import CountingModel, MemoryReader, MemoryWriter

BASE = """
schedulers: {s: {class: periodic, infer_every: 1m, fit_window: 1d, fit_every: 2h}}
models: {a: {class: zscore_online}, b: {class: prophet}}
reader: {class: vm, datasource_url: "http://vm:8428", sampling_period: 1m,
         queries: {q: {expr: up, step: 60}, r: {expr: up}}}
writer: {class: vm, datasource_url: "http://vm:8428"}
"""


ROOT = Path(__file__).parents[2]
ENGINE = str(Path(sys.executable).with_name("engine"))
QUERY_1S = Query("q", "m", 1000)


def loaded(folder: Path, text: str = BASE) -> Any:
    (folder / "config.yml").write_text(text)
    return load_config([folder / "config.yml"], {})


def test_models_of_a_query_share_one_fetch(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    reader, pool = MemoryReader(), Pool(1)
    reader.points["a"] = {T0 + k * M: float(k % 5) for k in range(-200, 3)}
    tasks = make_tasks(config, "s", reader, MemoryWriter(), pool, Metrics())
    assert [(task.unit.query.alias, len(task.unit.groups)) for task in tasks] == [("q", 2), ("r", 2)]
    tasks[0].unit.fit(T0)
    tasks[0].unit.infer(T0)
    assert len(reader.windows) == 2
    assert config.queries["q"].step_ms == 60_000  # written as a number


def test_every_probe_asks_what_will_be_asked_and_never_a_health_page() -> None:
    server = Server()
    reader = reader_of(server)
    reader.probe()
    reader.close()
    paths = {request.url.path for request in server.requests}
    assert paths == {"/api/v1/query_range", "/flags"}
    imports = ImportServer()
    try:
        writer = VmWriter(VmWriterSettings(datasource_url=imports.url), Metrics())
        writer.probe()
        writer.close(1)
    finally:
        imports.stop()
    assert {request.path for request in imports.requests} == {"/api/v1/import"}


def test_more_queries_than_connections_wait_and_lose_nothing() -> None:
    vm = ScriptedVm()
    queries = {f"q{k}": {"expr": "m"} for k in range(40)}
    metrics = Metrics()
    reader = VmReader(settings_of(datasource_url=vm.url, workers=2, queries=queries), metrics, "default")
    window = Window(T0, T0 + 9 * M, M)

    def read(alias: str) -> list[Samples]:
        return [samples for _, samples in reader.read(Query(alias, "m", M), window, "s")]

    try:
        with ThreadPoolExecutor(40) as threads:
            found = list(threads.map(read, queries))
    finally:
        reader.close()
        vm.stop()
    expected = [value_at(k, (T0 + t * M) / 1000) for k in range(3) for t in range(10)]
    assert all(np.allclose(np.concatenate([s.values for s in each]), expected, rtol=1e-15) for each in found)
    assert total(metrics, "vmanomaly_reader_responses_total", code="200") == 40
    assert total(metrics, "vmanomaly_reader_responses_total") == 40


def test_connections_are_dropped_before_the_server_drops_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine.http.KEEPALIVE_S <= 30  # VictoriaMetrics: 60
    monkeypatch.setattr(engine.http, "KEEPALIVE_S", 0.2)
    server = ImportServer()
    writer = VmWriter(VmWriterSettings(datasource_url=server.url), Metrics())
    try:
        for k in range(3):
            writer.submit(numbered(k))
            assert writer.drain(10)
            time.sleep(0.4)
        assert [request.connection for request in server.requests] == [0, 1, 2]
    finally:
        writer.close(1)
        server.stop()


def test_parts_can_be_logged_and_show_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reader = VmReader(settings_of(user="u", password="hunter2"), Metrics(), "default")
    logging.getLogger("reader").debug("%r %s", reader, reader)
    reader.close()
    assert "VmReader" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_read_that_hangs_holds_up_no_other_query() -> None:
    release = threading.Event()

    class HangingReader(MemoryReader):
        def read(self, query: Query, window: Window, scheduler_alias: str) -> Iterator[tuple[Window, Samples]]:
            if query.alias == "hangs":
                release.wait(30)
                raise ReadError("no answer", "timeout")
            yield from super().read(query, window, scheduler_alias)

    now = time.time_ns() // 1_000_000 // 1000 * 1000
    reader, writer, metrics, pool = HangingReader(), MemoryWriter(), Metrics(), Pool(1)
    reader.points["a"] = {now + k * 1000: float(k % 3) for k in range(-100, 100)}
    tasks = []
    for alias in ("good", "hangs"):
        query = Query(alias, "m", 1000)
        group = group_of(CountingModel(), "m", (pool, metrics), query, "s")
        unit = Unit("s", query, [group], Limits(20_000, 1000, 60_000), reader, writer, pool, metrics)
        tasks.append(Task(unit, Pace(1000, 0)))
    scheduler = PeriodicScheduler("s", "default", Schedule(20_000, 3_600_000, 1000, now - 1000), tasks, 2, metrics)
    try:
        scheduler.start()
        until(lambda: len({t for _, t, _ in writer.written()}) >= 3, 20, "the other query is scored")
    finally:
        scheduler.stop()
        release.set()
        assert scheduler.join(5)
        pool.close()


def test_a_scheduler_whose_loop_failed_is_begun_again() -> None:
    failures = iter([True])

    def clock() -> int:
        if next(failures, False):
            raise RuntimeError("can't start new thread")
        return time.time_ns() // 1_000_000

    metrics, pool, reader, writer = Metrics(), Pool(1), MemoryReader(), MemoryWriter()
    now = time.time_ns() // 1_000_000_000 * 1000
    reader.points["a"] = {now + k * 1000: float(k % 3) for k in range(-100, 100)}
    group = group_of(CountingModel(), "m", (pool, metrics), QUERY_1S, "s")
    unit = Unit("s", QUERY_1S, [group], Limits(20_000, 1000, 60_000), reader, writer, pool, metrics)
    plan = Schedule(20_000, 3_600_000, 1000, now - 1000)
    scheduler = PeriodicScheduler("s", "default", plan, [Task(unit, Pace(1000, 0))], 1, metrics, clock)
    try:
        scheduler.start()
        until(writer.written, 20, "it scores")
        assert total(metrics, "vmanomaly_scheduler_restarts_total", status="success") == 1
        assert total(metrics, "vmanomaly_scheduler_alive") == 1
    finally:
        scheduler.stop()
        assert scheduler.join(5)
        pool.close()


def test_a_scheduler_that_fails_again_and_again_is_given_up_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine.scheduler.periodic, "_RESTART_S", 0.01)
    metrics, pool, reader, writer = Metrics(), Pool(1), MemoryReader(), MemoryWriter()
    now = time.time_ns() // 1_000_000_000 * 1000
    reader.points["a"] = {now + k * 1000: float(k % 3) for k in range(-100, 100)}
    n_looks = iter(range(100))

    def broken() -> int:
        next(n_looks)
        raise RuntimeError("can't start new thread")

    made = []
    for alias, clock in (("bad", broken), ("good", now_ms)):
        group = group_of(CountingModel(), "m", (pool, metrics), QUERY_1S, alias)
        unit = Unit(alias, QUERY_1S, [group], Limits(20_000, 1000, 60_000), reader, writer, pool, metrics)
        plan = Schedule(20_000, 3_600_000, 1000, now - 1000)
        made.append(PeriodicScheduler(alias, "default", plan, [Task(unit, Pace(1000, 0))], 1, metrics, clock))

    def restarts(status: str) -> float:
        return total(metrics, "vmanomaly_scheduler_restarts_total", scheduler_alias="bad", status=status)

    try:
        for scheduler in made:
            scheduler.start()
        until(lambda: "given up after 5 restarts" in caplog.text, 20, "it is given up")
        assert (restarts("success"), restarts("failure"), next(n_looks)) == (5, 1, 6)
        assert total(metrics, "vmanomaly_scheduler_alive", scheduler_alias="bad") == 0
        n = len({t for _, t, _ in writer.written()})
        until(lambda: len({t for _, t, _ in writer.written()}) > n + 1, 20, "the other scores")
        assert total(metrics, "vmanomaly_scheduler_alive", scheduler_alias="good") == 1
    finally:
        for scheduler in made:
            scheduler.stop()
            assert scheduler.join(5)
        pool.close()


def test_a_failed_write_is_in_the_durations_too() -> None:
    server, metrics = ImportServer(), Metrics()
    server.script = [Answer(500)]
    try:
        writer = VmWriter(VmWriterSettings(datasource_url=server.url), metrics)
        writer.submit(numbered(1))
        assert writer.drain(10)
        writer.close(1)
    finally:
        server.stop()
    assert total(metrics, "vmanomaly_writer_request_duration_seconds_count") == 2
    assert total(metrics, "vmanomaly_writer_responses_total", code="500") == 1


def test_the_service_listens_on_all_addresses_and_names_its_version(tmp_path: Path) -> None:
    port = free_port()
    config, log = tmp_path / "config.yml", tmp_path / "log"
    config.write_text(BASE.replace("http://vm:8428", "http://127.0.0.1:1") + f"server: {{port: {port}}}\n")
    with log.open("w") as file:
        service = subprocess.Popen([ENGINE, str(config)], stderr=file)
    try:
        # Another address than the one that everything binds by mistake.
        url = f"http://127.0.0.2:{port}/metrics"
        text = until(lambda: httpx.get(url, timeout=5).text, 60, "it answers", log.read_text)
    finally:
        service.kill()
        service.wait()
    released = re.findall(r"^__version__ = \"(.+)\"$", (ROOT / "engine/__init__.py").read_text(), re.MULTILINE)
    assert re.findall(r"^vmanomaly_version_info\{version=\"(.+)\"\} 1\.0$", text, re.MULTILINE) == released
    told = subprocess.run([ENGINE, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.split() == ["engine", *released]


def test_signals_while_it_stops_do_no_harm(tmp_path: Path) -> None:
    port = free_port()
    config, log = tmp_path / "config.yml", tmp_path / "log"
    server = f"server: {{addr: 127.0.0.1, port: {port}}}\n"
    config.write_text(BASE.replace("http://vm:8428", "http://127.0.0.1:1") + server)
    with log.open("w") as file:
        service = subprocess.Popen([ENGINE, str(config)], stderr=file)
    try:
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/health").is_success, 60, "/health answers", log.read_text)
        for _ in range(5):
            service.send_signal(signal.SIGTERM)
        assert service.wait(15) == 0, log.read_text()
    finally:
        service.kill()
        service.wait()
    assert "Traceback" not in log.read_text()
    assert log.read_text().count("SIGTERM: stopping") == 1
