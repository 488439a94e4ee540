"""Limits, credentials and failures of the real VictoriaMetrics and vmauth; docs/compatibility.md lists them all."""

from __future__ import annotations

import base64
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from engine.errors import ReadError
from engine.frame import Query, Window
from engine.metrics import Metrics
from engine.reader.vm import VmReader
from engine.series import SeriesTable
from tests.e2e.stack import Engine, Stack, needs_stack, running, until
from tests.e2e.test_reader_stack import MINUTE, count_of, read, stack_of, store, yesterday
from tests.e2e.test_writer_stack import batch_of, recent_ms, responses, writing
from tests.engine.reader.memory_server import settings_of

pytestmark = [pytest.mark.e2e, needs_stack]

ONLY = "--only=victoriametrics"


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server with small limits."""
    flags = ("search.maxUniqueTimeseries=300", "search.maxConcurrentRequests=1", "search.maxQueueDuration=50ms",
             "http.connTimeout=300ms", "maxConcurrentInserts=2", "insert.maxQueueDuration=200ms")  # fmt: skip
    with stack_of(tmp_path_factory.mktemp("tight"), ONLY, *(f"--vm-flag=-{flag}" for flag in flags)) as made:
        yield made


def test_more_series_than_the_server_allows_is_an_error_that_says_so(tight: Stack) -> None:
    start = yesterday()
    store(tight, "crowd", np.arange(301.0).reshape(301, 1), start)
    metrics = Metrics()
    with pytest.raises(ReadError, match="the number of matching timeseries exceeds 300") as caught:
        read(tight.vm, "crowd", Window(start, start + 59 * MINUTE, MINUTE), metrics)
    assert caught.value.code == "422"
    assert count_of(metrics, "422") == 1  # neither tried again nor cut: a smaller window has as many series


def test_a_full_queue_of_queries_is_waited_for(tight: Stack) -> None:
    start = yesterday()
    store(tight, "slow", np.random.default_rng(4).random((200, 1440)), start)
    params: dict[str, Any] = {"query": "quantile_over_time(0.5, slow[10m])", "start": start // 1000,
                              "end": start // 1000 + 86_340, "step": 20, "nocache": "1"}  # fmt: skip
    metrics = Metrics()
    deadline = time.monotonic() + 30

    def keep_busy() -> None:
        while not count_of(metrics, "503") and time.monotonic() < deadline:
            httpx.get(f"{tight.vm}/api/v1/query_range", params=params, timeout=60)

    other = threading.Thread(target=keep_busy)
    other.start()
    try:
        while not count_of(metrics, "503") and time.monotonic() < deadline:
            assert read(tight.vm, 'slow{n="0"}', Window(start, start + MINUTE, MINUTE), metrics, fetch_timeout="20s")
    finally:
        other.join()
    assert count_of(metrics, "503") >= 1
    assert count_of(metrics, "200") >= 1


def test_connections_that_the_server_ends_by_age_cost_nothing(tight: Stack) -> None:
    start, metrics = yesterday(), Metrics()
    reader = VmReader(settings_of(datasource_url=tight.vm), metrics, "default")
    with writing(tight.vm, metrics) as writer:
        table = SeriesTable()
        for k in range(6):
            list(reader.read(Query("q", "aged", MINUTE), Window(start, start, MINUTE), "s"))
            writer.submit(batch_of(table, [{"i": "0"}], {"aged": np.ones((1, 1))}, start + k * MINUTE))
            assert writer.drain(10)
            time.sleep(0.2)
    reader.close()
    assert count_of(metrics, "200") == responses(metrics, "204") == 6
    assert count_of(metrics, "connection_error") == responses(metrics, "connection_error") == 0


def test_insert_slots_held_by_others_delay_and_lose_nothing(tight: Stack) -> None:
    address = urlsplit(tight.vm)
    metrics = Metrics()
    with ExitStack() as uploads, writing(tight.vm, metrics) as writer:
        for _ in range(2):
            upload = uploads.enter_context(socket.create_connection((address.hostname, address.port), 5))
            upload.sendall(b"POST /api/v1/import HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
        until(lambda: metric_of(tight, "vm_concurrent_addrows_current") >= 2
              or metric_of(tight, "vm_concurrent_insert_current") >= 2, 10, "the slots are taken")  # fmt: skip
        writer.submit(batch_of(SeriesTable(), [{"i": "0"}], {"queued": np.ones((1, 1))}, recent_ms(1)))
        until(lambda: responses(metrics, "503") >= 1, 15, "the server refuses for now")
        assert responses(metrics, "204") == 0
        uploads.close()
        assert writer.drain(20)
    assert len(tight.series("queued")) == 1


def metric_of(stack: Stack, name: str) -> float:
    text = httpx.get(f"{stack.vm}/metrics", timeout=10).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)


def test_credentials_of_the_server_itself(tmp_path: Path) -> None:
    flags = "--vm-flag=-httpAuth.username=someone", "--vm-flag=-httpAuth.password=pass-w0rd"
    with stack_of(tmp_path, ONLY, *flags) as own:
        window = Window(yesterday(), yesterday(), MINUTE)
        assert read(own.vm, "m", window, user="someone", password="pass-w0rd") == {}
        for keys in ({}, {"user": "someone", "password": "wrong"}):
            with pytest.raises(ReadError, match="status 401") as caught:
                read(own.vm, "m", window, **keys)
            assert caught.value.code == "401"


def test_a_storage_that_was_read_only_gets_what_waited(tmp_path: Path) -> None:
    metrics = Metrics()
    with stack_of(tmp_path, ONLY, "--vm-flag=-storage.minFreeDiskSpaceBytes=900000GiB") as own:
        with writing(own.vm, metrics) as writer:
            writer.submit(batch_of(SeriesTable(), [{"i": "0"}], {"y": np.ones((1, 1))}, recent_ms(1)))
            until(lambda: responses(metrics, "503") >= 1, 20, "the storage is read-only")
            assert read(own.vm, "y", Window(yesterday(), yesterday(), MINUTE)) == {}  # reading goes on
            own.kill("victoriametrics", signal.SIGTERM)
            until(lambda: not is_up(own), 10, "it has stopped")
            own.up(ONLY)
            assert writer.drain(30)
        assert len(own.series("y")) == 1


def is_up(stack: Stack) -> bool:
    try:
        return httpx.get(f"{stack.vm}/health", timeout=2).is_success
    except httpx.TransportError:
        return False


CONFIG = """
schedulers: {{s: {{class: periodic, infer_every: 1s, fit_every: 1h, fit_window: 1m}}}}
models: {{z: {{class: zscore_online, queries: [q], schedulers: [s]}}}}
reader: {{datasource_url: "{url}", user: "{user}", password: "{password}", sampling_period: 1s, settle: 0s,
          queries: {{q: {{expr: m}}}}}}
writer: {{datasource_url: "{url}", user: "{user}", password: "{password}"}}
settings: {{logger_levels: {{httpx: DEBUG, httpcore: DEBUG}}}}
"""


def test_a_proxy_without_backend_is_waited_for_and_its_errors_leak_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """vmauth repeats the Authorization header in the answer to wrong credentials; without backend it answers 502."""
    caplog.set_level(logging.DEBUG)
    with stack_of(tmp_path, "--only=victoriametrics", "--vmauth") as own:
        auth, proxy = own.reply["auth"], own.urls["vmauth"]
        right = {"user": auth["username"], "password": auth["password"]}
        window, metrics = Window(yesterday(), yesterday(), MINUTE), Metrics()
        assert read(proxy, "m", window, **right) == {}
        own.kill("victoriametrics")
        with pytest.raises(ReadError, match="status 502") as caught:
            read(proxy, "m", window, fetch_timeout="2s", **right)
        assert caught.value.code == "502"
        with writing(proxy, metrics, **right) as writer:
            writer.submit(batch_of(SeriesTable(), [{"i": "0"}], {"y": np.ones((1, 1))}, recent_ms(1)))
            until(lambda: responses(metrics, "502") >= 1, 20, "the proxy has no backend")
            own.up()
            assert writer.drain(30)
        assert len(own.series("y")) == 1
        wrong = {"user": "someone", "password": "wr0ng-secret"}
        encoded = base64.b64encode(b"someone:wr0ng-secret").decode().rstrip("=")
        reply = httpx.get(f"{proxy}/api/v1/query", auth=("someone", "wr0ng-secret"))
        assert encoded in reply.text, "this proxy repeats the header"
        with running(Engine(tmp_path, CONFIG.format(url=proxy, **wrong), options=("--loggerLevel=DEBUG",))) as engine:
            until(lambda: engine.metric("vmanomaly_reader_responses_total", code="400") >= 1, 30, "it is refused",
                  lambda: engine.log)  # fmt: skip
            until(lambda: "Writing is not possible yet" in engine.log, 10, "the probe is refused", lambda: engine.log)
            shown = engine.log + httpx.get(f"{engine.url}/metrics").text + caplog.text
        for secret in ("wr0ng-secret", encoded, auth["password"], auth["bearer_token"]):
            assert secret not in shown
