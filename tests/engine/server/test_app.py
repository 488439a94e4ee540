"""/health and /metrics, asked over real sockets and in process."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest

from engine.errors import StartError
from engine.frame import Frame
from engine.metrics import Metrics
from engine.models.zscore import OnlineZscore
from engine.server.app import Server, create_app

Serve = Callable[..., httpx.Client]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(memory_bytes=1 << 30)


@pytest.fixture
def server(metrics: Metrics) -> Iterator[Server]:
    made = Server(create_app(metrics), "127.0.0.1", 0)
    made.start()
    yield made
    made.stop(5)


@pytest.fixture
def serve(metrics: Metrics) -> Iterator[Serve]:
    """Serves the app, with a prefix if one is given, and gives a client for it."""
    servers, clients = [], []

    def start(prefix: str = "") -> httpx.Client:
        servers.append(Server(create_app(metrics, prefix), "127.0.0.1", 0))
        servers[-1].start()
        clients.append(httpx.Client(base_url=f"http://127.0.0.1:{servers[-1].port}"))
        return clients[-1]

    yield start
    for client in clients:
        client.close()
    for server in servers:
        server.stop(5)


def test_health_is_ok(serve: Serve) -> None:
    answer = serve().get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("prefix", ["x", "/x", "/x/", "a/b"])
def test_prefix_stands_before_every_route(serve: Serve, prefix: str) -> None:
    client = serve(prefix)
    path = prefix.strip("/")
    assert client.get(f"/{path}/health").status_code == 200
    assert client.get(f"/{path}/metrics").status_code == 200
    assert client.get("/health").status_code == 404


def test_unknown_routes_and_methods_are_refused_in_json(serve: Serve) -> None:
    client = serve()
    assert client.get("/nothing").status_code == 404
    assert client.post("/health").status_code == 405
    assert "error" in client.get("/nothing").json()


def test_metrics_have_the_originals_names(metrics: Metrics, serve: Serve) -> None:
    io = {"url": "u", "query_key": "q", "scheduler_alias": "s", "preset": "default"}
    metrics.reads.labels(**io, code="200").inc()
    metrics.scheduler_restarts.labels("s", "default", "success").inc()
    text = serve().get("/metrics").text
    labels = 'code="200",preset="default",query_key="q",scheduler_alias="s",url="u"'
    assert f"vmanomaly_reader_responses_total{{{labels}}} 1.0" in text
    assert re.search(r"^vmanomaly_scheduler_restarts_total\{", text, re.MULTILINE)
    for name in ("process_resident_memory_bytes", "process_open_fds", "vmanomaly_start_time_seconds"):
        assert re.search(rf"^{name} \d", text, re.MULTILINE), name
    assert 'vmanomaly_version_info{version="' in text
    assert "\nvmanomaly_config_last_reload_successful 1.0" in text


def test_capacity_gauges_have_no_labels(serve: Serve) -> None:
    text = serve().get("/metrics").text
    assert "\nvmanomaly_available_memory_bytes 1.073741824e+09" in text
    assert re.search(r"^vmanomaly_cpu_cores_available \d", text, re.MULTILINE)


def test_no_licence_metric_that_an_alert_could_fire_on(serve: Serve) -> None:
    assert "vm_license" not in serve().get("/metrics").text


@pytest.mark.parametrize("name", ["vmanomaly_reader_responses", "vmanomaly_reader_responses_total", "process_open_fds"])
def test_name_filter_takes_metric_and_sample_names(metrics: Metrics, serve: Serve, name: str) -> None:
    io = {"url": "u", "query_key": "q", "scheduler_alias": "s", "preset": "default"}
    metrics.reads.labels(**io, code="200").inc()
    text = serve().get("/metrics", params={"name[]": name}).text
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert names == {name if name.startswith("process") else "vmanomaly_reader_responses_total"}


def test_no_created_samples(metrics: Metrics, serve: Serve) -> None:
    metrics.reads.labels("u", "q", "s", "default", "200").inc()
    metrics.read_seconds.labels("u", "q", "s", "default").observe(1)
    assert "_created" not in serve().get("/metrics").text


def test_a_port_in_use_is_named(server: Server, metrics: Metrics) -> None:
    with pytest.raises(StartError, match=rf"cannot listen on 127\.0\.0\.1:{server.port}: Address already in use"):
        Server(create_app(metrics), "127.0.0.1", server.port).start()


def test_unknown_uvicorn_setting_is_named(metrics: Metrics) -> None:
    with pytest.raises(StartError, match=r"server\.uvicorn_config: .*colour"):
        Server(create_app(metrics), "127.0.0.1", 0, uvicorn_config={"colour": "red"})


def test_answers_while_kernels_run(server: Server) -> None:
    done = threading.Event()

    def compute() -> None:
        frame = Frame(np.arange(2000), np.arange(2000), np.ones((2000, 2000)), 1)
        model = OnlineZscore(decay=0.99)
        while not done.is_set():
            model.learn(model.fresh(frame.series, frame), frame)

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert httpx.get(f"http://127.0.0.1:{server.port}/health", timeout=5).is_success
        assert httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=5).is_success
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_stop_does_not_wait_for_an_idle_client(server: Server) -> None:
    with httpx.Client() as client:
        client.get(f"http://127.0.0.1:{server.port}/health")
        assert server.stop(5)
