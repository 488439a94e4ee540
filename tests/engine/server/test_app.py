"""/health and /metrics, asked over real sockets and in process."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator

import httpx
import numba
import numpy as np
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

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


@pytest.mark.parametrize("prefix", ["", "my-app"])
@pytest.mark.parametrize("path", ["/health", "/health/", "/metrics/", "/", "", "//evil.example/", "/health//"])
def test_trap_58_no_answer_names_the_host_that_was_asked(serve: Serve, prefix: str, path: str) -> None:
    client = serve(prefix)
    whole = f"/{prefix}{path}" if prefix else path or "/"
    answer = client.get(f"{str(client.base_url).rstrip('/')}{whole}", headers={"Host": "internal.example:99"})
    assert answer.status_code == (200 if path.strip("/") in ("health", "metrics") and path != "/health//" else 404)
    assert "internal.example" not in f"{answer.headers}{answer.text}"


def test_unknown_routes_and_methods_are_refused_in_json(serve: Serve) -> None:
    client = serve()
    assert client.get("/nothing").status_code == 404
    assert client.post("/health").status_code == 405
    assert client.get("/nothing").json() == {"error": "Not Found"}
    assert client.post("/metrics").json() == {"error": "Method Not Allowed"}
    assert "GET" in client.post("/metrics").headers["allow"]


def test_a_failing_collector_is_500_in_json_and_health_goes_on(metrics: Metrics, serve: Serve) -> None:
    class Broken(Collector):
        def describe(self) -> list[Metric]:
            return []

        def collect(self) -> Iterator[Metric]:
            raise RuntimeError("a detail")

    client = serve()
    metrics.registry.register(Broken())
    answer = client.get("/metrics")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
    assert httpx.get(client.base_url.join("/health")).status_code == 200


def test_openmetrics_where_it_is_asked_for(metrics: Metrics, serve: Serve) -> None:
    client = serve()
    assert client.get("/metrics").headers["content-type"].startswith("text/plain; version=")
    answer = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    assert "_created" not in answer.text


def test_a_parser_of_prometheus_text_reads_every_metric(serve: Serve) -> None:
    parsed = {family.name for family in text_string_to_metric_families(serve().get("/metrics").text)}
    assert {"vmanomaly_reader_responses", "vmanomaly_model_run_duration_seconds", "process_cpu_seconds"} <= parsed


def test_several_names_and_buckets(metrics: Metrics, serve: Serve) -> None:
    metrics.read_seconds.labels("u", "q", "s", "default").observe(1)
    metrics.read_points.labels("u", "q", "s", "default").inc()
    names = ["vmanomaly_reader_request_duration_seconds_count", "vmanomaly_reader_datapoints_received", "nothing"]
    text = serve().get("/metrics", params={"name[]": names}).text
    assert {line.split("{")[0] for line in text.splitlines() if not line.startswith("#")} == {
        "vmanomaly_reader_request_duration_seconds_count",
        "vmanomaly_reader_datapoints_received_total",
    }


def test_scrapes_are_logged_at_debug_only(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = serve()
    client.get("/metrics")
    client.get("/health")
    lines = [r for r in caplog.records if "/metrics" in r.getMessage() and "GET" in r.getMessage()]
    ours = [r for r in lines if not r.name.startswith("httpx")]
    assert [r.levelno for r in ours] == [logging.DEBUG]


def test_endless_headers_and_bodies_are_cut(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as peer:
        peer.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000)
        assert peer.recv(100).startswith(b"HTTP/1.1 4")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as peer:
        peer.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + b"a" * 70_000)
        assert peer.recv(100).startswith(b"HTTP/1.1 405")
    assert httpx.get(f"http://127.0.0.1:{server.port}/health").is_success


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


def test_a_name_that_is_no_address_is_named(metrics: Metrics) -> None:
    with pytest.raises(StartError, match=r"cannot listen on 256\.0\.0\.1:0"):
        Server(create_app(metrics), "256.0.0.1", 0).start()


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"colour": "red"}, r"uvicorn_config\.colour: is not a setting of uvicorn"),
        ({"port": 80}, r"uvicorn_config\.port: is set by the service"),
        ({"workers": 4}, r"uvicorn_config\.workers: is set by the service"),
        ({"log_level": "loud"}, r"uvicorn_config: KeyError: 'loud'"),
        ({"ssl_certfile": "/none.pem", "ssl_keyfile": "/none.key"}, "uvicorn_config: FileNotFoundError"),
    ],
)
def test_uvicorn_settings_that_cannot_work_are_named(metrics: Metrics, wanted: dict[str, object], text: str) -> None:
    with pytest.raises(StartError, match=text):
        Server(create_app(metrics), "127.0.0.1", 0, uvicorn_config=wanted)


def test_uvicorn_settings_are_passed_on(metrics: Metrics) -> None:
    made = Server(create_app(metrics), "127.0.0.1", 0, uvicorn_config={"headers": [["x-served-by", "us"]]})
    made.start()
    assert httpx.get(f"http://127.0.0.1:{made.port}/health").headers["x-served-by"] == "us"
    assert made.stop(5)


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


def test_answers_while_python_is_busy_and_kernels_are_compiled(server: Server) -> None:
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            sum(range(10_000))

    def compile_all() -> None:
        while not done.is_set():
            numba.njit(nogil=True)(lambda a: np.sort(a * a).sum()).compile("f8(f8[::1])")

    threads = [threading.Thread(target=work) for work in (count, count, compile_all)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert httpx.get(f"http://127.0.0.1:{server.port}/health", timeout=5).is_success
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_two_listeners_show_one_registry(metrics: Metrics, server: Server, serve: Serve) -> None:
    metrics.threads.set(41)
    pull = serve()
    for url in (f"http://127.0.0.1:{server.port}", str(pull.base_url)):
        assert "vmanomaly_native_threads_per_worker 41.0" in httpx.get(f"{url}/metrics").text


def test_a_stopped_server_frees_its_port(metrics: Metrics, server: Server) -> None:
    port = server.port
    assert server.stop(5)
    again = Server(create_app(metrics), "127.0.0.1", port)
    again.start()
    assert again.stop(5)


def test_a_server_that_never_started_stops(metrics: Metrics) -> None:
    assert Server(create_app(metrics), "127.0.0.1", 0).stop(1)


def test_stop_does_not_wait_for_an_idle_client(server: Server) -> None:
    with httpx.Client() as client:
        client.get(f"http://127.0.0.1:{server.port}/health")
        assert server.stop(5)
