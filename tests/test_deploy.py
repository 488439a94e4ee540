"""The deploy folder: what its files say of each other, and what real services make of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from engine.config.schema import load_config
from engine.metrics import Metrics
from tests.e2e.stack import Stack, needs_stack

DEPLOY = Path(__file__).parents[1] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/anomalies.json").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
HEALTH = yaml.safe_load((DEPLOY / "vmalert-health.yml").read_text())
RULES = {rule["alert"]: rule["expr"] for group in HEALTH["groups"] for rule in group["rules"]}
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
TARGETS = [(title, target["expr"]) for title, panel in PANELS.items() for target in panel["targets"]]

_NAME = re.compile(r"\b(?:vmanomaly|process)_\w+")


def exposed_names() -> set[str]:
    """Sample names of /metrics: our own and the process's."""
    names = {"process_max_fds"}  # only where the system tells it
    for family in Metrics().registry.collect():
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + ending for ending in endings}
    return names


def test_the_stack_is_the_guides_with_an_alertmanager() -> None:
    services = COMPOSE["services"]
    guides = {"vmagent", "victoriametrics", "grafana", "vmalert", "vmanomaly", "node-exporter"}
    assert set(services) == guides | {"alertmanager"}
    assert services["vmanomaly"]["command"] == ["/config.yaml"]
    assert services["vmanomaly"]["read_only"] is True
    for name, service in services.items():
        assert service["container_name"] == name
        assert ":latest" not in service["image"] or "build" in service
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], mount


def test_every_host_that_a_file_names_is_a_service() -> None:
    hosts = set()
    for path in [DEPLOY / "docker-compose.yml", *DEPLOY.glob("*.yml"), *(DEPLOY / "grafana").glob("*.yml")]:
        lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
        hosts |= set(re.findall(r"(?:https?://|- targets: \[ ?')([a-z][\w-]*):\d+", "\n".join(lines)))
    assert {"victoriametrics", "vmanomaly", "alertmanager"} <= hosts <= set(COMPOSE["services"])


def test_the_guides_configuration_loads_without_a_problem() -> None:
    config = load_config([DEPLOY / "vmanomaly_config.yml"], {}, strict=True)
    assert list(config.unavailable) == []


def test_health_rules_and_dashboard_use_metrics_that_exist() -> None:
    used = {name for _, expr in TARGETS for name in _NAME.findall(expr)}
    used |= {name for expr in RULES.values() for name in _NAME.findall(expr)}
    assert used - exposed_names() == set()


def test_every_alert_says_what_happened() -> None:
    for group in HEALTH["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert set(rule["annotations"]) == {"summary", "description"}


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    text = json.dumps([DASHBOARD["panels"], DASHBOARD["templating"]])
    used = set(re.findall(r"\$\{?([a-z]\w+)", text)) - {"__range"}
    assert used <= set(VARIABLES)
    assert {panel["datasource"]["uid"] for panel in PANELS.values()} == {"${datasource}"}
    for upper in DASHBOARD["panels"]:
        x, y, w, h = (upper["gridPos"][k] for k in "xywh")
        for other in DASHBOARD["panels"]:
            ox, oy, ow, oh = (other["gridPos"][k] for k in "xywh")
            apart = x + w <= ox or ox + ow <= x or y + h <= oy or oy + oh <= y
            assert other is upper or apart, (upper["title"], other["title"])


def test_the_band_is_filled_between_its_edges_and_the_score_has_its_line() -> None:
    band = PANELS["Value inside its band"]
    properties = {o["matcher"]["options"]: {p["id"]: p["value"] for p in o["properties"]}
                  for o in band["fieldConfig"]["overrides"]}  # fmt: skip
    assert properties["yhat_upper"]["custom.fillBelowTo"] == "yhat_lower"
    assert {t["legendFormat"] for t in band["targets"]} == set(properties) == {"y", "yhat", "yhat_lower", "yhat_upper"}
    defaults = PANELS["Score"]["fieldConfig"]["defaults"]
    assert defaults["thresholds"]["steps"][-1]["value"] == 1
    assert defaults["custom"]["thresholdsStyle"]["mode"].startswith("line")


SPAN_S = 2400
STEP_S = 15


def samples(name: str, labels: dict[str, str], value: Any, until_s: int, end_s: int) -> dict[str, Any]:
    """An import line: `value(t)` at each step t of the span, up to `until_s` before its end."""
    times = range(0, SPAN_S - until_s + 1, STEP_S)
    stamps = [(end_s - SPAN_S + t) * 1000 for t in times]
    return {"metric": {"__name__": name, **labels}, "values": [float(value(t)) for t in times], "timestamps": stamps}


def service_lines(instance: str, end_s: int) -> list[dict[str, Any]]:
    """The self-metrics of a service that is well, or ill in every way that a rule looks for."""
    ill = instance == "ill"
    base = {"job": "vmanomaly", "instance": instance}
    scheduler = {"scheduler_alias": "s", "preset": "default"}
    io = {"url": "http://db", "query_key": "q", **scheduler}
    model = {"stage": "infer", "query_key": "q", "model_alias": "m", **scheduler}
    made: list[dict[str, Any]] = []

    def put(name: str, value: Any, *labels: dict[str, str], until_s: int = 0) -> None:
        made.append(samples(name, {k: v for part in (base, *labels) for k, v in part.items()}, value, until_s, end_s))

    put("up", lambda t: not ill)
    put("process_start_time_seconds", lambda t: 1000 + (t // 240 if ill else 0))
    put("vmanomaly_start_time_seconds", lambda t: 1000, until_s=1200 if ill else 0)
    put("vmanomaly_scheduler_alive", lambda t: not ill, scheduler)
    put("vmanomaly_scheduler_restarts_total", lambda t: t // 180 if ill else 0, {"status": "failure"}, scheduler)
    put("process_max_fds", lambda t: 1024)
    put("process_open_fds", lambda t: 1000 if ill else 20)
    put("process_cpu_seconds_total", lambda t: t * (1.95 if ill else 0.1))
    put("vmanomaly_cpu_cores_available", lambda t: 2)
    put("process_resident_memory_bytes", lambda t: 900e6 if ill else 90e6)
    put("vmanomaly_available_memory_bytes", lambda t: 1e9)
    put("vmanomaly_config_last_reload_successful", lambda t: not ill)
    for name in ("model_runs_skipped", "model_run_errors"):
        put(f"vmanomaly_{name}_total", lambda t: t if ill else 0, model)
    put("vmanomaly_model_runs_total", lambda t: t, model)
    put("vmanomaly_state_commit_errors_total", lambda t: t // 60 if ill else 0, model)
    put("vmanomaly_writer_spool_oldest_seconds", lambda t: t if ill else 0, {"url": "http://db"})
    put("vmanomaly_writer_datapoints_dropped_total", lambda t: t if ill else 0, {"reason": "refused"}, io)
    put("vmanomaly_scheduler_longest_job_seconds", lambda t: t if ill else 0, scheduler)
    for part in ("reader", "writer"):
        put(f"vmanomaly_{part}_responses_total", lambda t: t, {"code": "200"}, io)
        put(f"vmanomaly_{part}_responses_total", lambda t: t if ill else 0, {"code": "500"}, io)
    for name in ("reader_request", "model_run", "writer_request"):
        for ending, value in (("sum", 0.1), ("count", 1.0)):
            labels = model if name == "model_run" else io
            put(f"vmanomaly_{name}_duration_seconds_{ending}", lambda t, v=value: t * v, labels)
    return made


def output_lines(end_s: int) -> list[dict[str, Any]]:
    """What the engine writes for three series, one of them anomalous at the end, and vmalert's alert on it."""
    made = []
    for cpu, peak in (("0", 0.5), ("1", 3.0), ("2", 0.7)):
        labels = {"for": "node_cpu_rate", "cpu": cpu, "instance": "a:9100", "job": "node", "mode": "user"}
        for name, level in (("y", 0.5), ("yhat", 0.4), ("yhat_lower", 0.2), ("yhat_upper", 0.6)):
            made.append(samples(name, labels, lambda t, level=level: level, 0, end_s))
        made.append(samples("anomaly_score", labels, lambda t, p=peak: p * t / SPAN_S, 0, end_s))
        if peak > 1:
            alert = {"alertname": "HighAnomalyScore", "alertstate": "firing", **labels}
            made.append(samples("ALERTS", alert, lambda t: 1, 0, end_s))
    return made


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A database with one well and one ill service and the outputs of three series; and the time of its end."""
    folder = tmp_path_factory.mktemp("deploy")
    stack = Stack(folder / "stack", "--only", "victoriametrics", "--vm-flag=-search.latencyOffset=0s")
    end_s = int(time.time()) // STEP_S * STEP_S
    try:
        stack.add([*service_lines("well", end_s), *service_lines("ill", end_s), *output_lines(end_s)])
        stack.flush()
        yield stack.vm, end_s
    finally:
        stack.down()


def instant(url: str, expr: str, at_s: int) -> list[dict[str, Any]]:
    reply = httpx.get(f"{url}/api/v1/query", params={"query": expr, "time": at_s, "nocache": "1"}, timeout=30)
    assert reply.is_success, f"{expr}: {reply.text}"
    found: list[dict[str, Any]] = reply.json()["data"]["result"]
    return found


@pytest.mark.e2e
@needs_stack
@pytest.mark.parametrize("name", RULES)
def test_a_health_rule_fires_for_the_service_that_is_ill(name: str, database: tuple[str, int]) -> None:
    url, end_s = database
    assert {r["metric"]["instance"] for r in instant(url, RULES[name], end_s)} == {"ill"}


def series_options(url: str, end_s: int) -> list[str]:
    """The choices of the variable `series`, as Grafana makes them of the query's answer."""
    variable = VARIABLES["series"]
    expr = re.search(r"query_result\((.+)\)$", variable["query"]["query"])
    assert expr is not None
    options = []
    for row in instant(url, fill(expr[1]), end_s):
        labels = ",".join(f'{k}="{v}"' for k, v in row["metric"].items() if k != "__name__")
        text = f"{row['metric'].get('__name__', '')}{{{labels}}} {row['value'][1]} {end_s * 1000}"
        match = re.search(variable["regex"].strip("/"), text)
        assert match is not None, text
        options.append(match[1])
    return options


def fill(expr: str, series: str = "") -> str:
    """An expression with all variables at "All"."""
    for name in ("for", "model_alias", "instance"):
        expr = expr.replace(f"${name}", ".*")
    return expr.replace("$__range", f"{SPAN_S}s").replace("${series:raw}", series)


@pytest.mark.e2e
@needs_stack
def test_the_series_to_choose_from_begin_with_the_most_anomalous(database: tuple[str, int]) -> None:
    options = series_options(*database)
    assert [re.findall(r'cpu="(\d)"', option) for option in options] == [["1"], ["2"], ["0"]]


@pytest.mark.e2e
@needs_stack
@pytest.mark.parametrize(("title", "expr"), TARGETS)
def test_a_panels_query_answers(title: str, expr: str, database: tuple[str, int]) -> None:
    url, end_s = database
    params: dict[str, str | int] = {
        "query": fill(expr, series_options(url, end_s)[0]), "start": end_s - 900, "end": end_s, "step": "15s",
    }  # fmt: skip
    reply = httpx.get(f"{url}/api/v1/query_range", params=params, timeout=30)
    assert reply.is_success, reply.text
    result = reply.json()["data"]["result"]
    assert len(result) == 1 if "${series" in expr else result, title


@pytest.mark.e2e
@needs_stack
def test_vmalert_and_alertmanager_accept_their_files() -> None:
    for command in (
        [str(shutil.which("vmalert")), "-dryRun", f"-rule={DEPLOY}/vmalert*.yml"],
        [str(shutil.which("amtool")), "check-config", str(DEPLOY / "alertmanager.yml")],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.e2e
@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is missing")
def test_compose_accepts_its_file() -> None:
    command = [str(shutil.which("docker-compose")), "-f", str(DEPLOY / "docker-compose.yml"), "config"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(COMPOSE["services"])
