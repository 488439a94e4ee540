"""Our own metrics against the original's table, and docs/metrics.md against both."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client import generate_latest

from engine.memory import cpu_capacity
from engine.metrics import Metrics

IO = ("url", "query_key", "scheduler_alias", "preset")
MODEL = ("query_key", "model_alias", "scheduler_alias", "preset")
STAGE = ("stage", *MODEL)
SCHEDULER = ("scheduler_alias", "preset")

# The original's names, types and labels, from its monitoring documentation.
ORIGINAL: dict[str, tuple[str, tuple[str, ...]]] = {
    "vmanomaly_start_time_seconds": ("gauge", ()),
    "vmanomaly_version_info": ("gauge", ("version",)),
    "vmanomaly_available_memory_bytes": ("gauge", ()),
    "vmanomaly_cpu_cores_available": ("gauge", ()),
    "vmanomaly_native_threads_per_worker": ("gauge", ()),
    "vmanomaly_config_entities": ("gauge", ("preset", "scope")),
    "vmanomaly_config_reload_enabled": ("gauge", ()),
    "vmanomaly_config_reloads": ("counter", ("status",)),
    "vmanomaly_config_last_reload_successful": ("gauge", ()),
    "vmanomaly_config_last_reload_success_timestamp_seconds": ("gauge", ()),
    "vmanomaly_scheduler_alive": ("gauge", SCHEDULER),
    "vmanomaly_scheduler_restarts": ("counter", (*SCHEDULER, "status")),
    "vmanomaly_reader_request_duration_seconds": ("histogram", IO),
    "vmanomaly_reader_responses": ("counter", (*IO, "code")),
    "vmanomaly_reader_received_bytes": ("counter", IO),
    "vmanomaly_reader_response_parsing_seconds": ("histogram", (*IO, "step")),
    "vmanomaly_reader_timeseries_received": ("counter", IO),
    "vmanomaly_reader_datapoints_received": ("counter", IO),
    "vmanomaly_reader_processing_tasks_queued": ("gauge", IO),
    "vmanomaly_model_runs": ("counter", STAGE),
    "vmanomaly_model_run_duration_seconds": ("histogram", STAGE),
    "vmanomaly_model_datapoints_accepted": ("counter", STAGE),
    "vmanomaly_model_datapoints_produced": ("counter", STAGE),
    "vmanomaly_models_active": ("gauge", MODEL),
    "vmanomaly_model_runs_skipped": ("counter", STAGE),
    "vmanomaly_model_run_errors": ("counter", STAGE),
    "vmanomaly_writer_request_duration_seconds": ("histogram", IO),
    "vmanomaly_writer_responses": ("counter", (*IO, "code")),
    "vmanomaly_writer_sent_bytes": ("counter", IO),
    "vmanomaly_writer_request_serialize_seconds": ("histogram", IO),
    "vmanomaly_writer_datapoints_sent": ("counter", IO),
    "vmanomaly_writer_timeseries_sent": ("counter", IO),
}

DOCS = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
ROW = re.compile(r"^\| `(vmanomaly_\w+)`( \*\*\+\*\*)? \| (\w+) \|([^|]*)\|", re.MULTILINE)


class Declared(NamedTuple):
    kind: str
    labels: tuple[str, ...]


def declared() -> dict[str, Declared]:
    """Every vmanomaly metric on a fresh registry, by name."""
    collectors: list[Any] = [c for c in vars(Metrics()).values() if hasattr(c, "_labelnames")]
    return {d.name: Declared(d.type, tuple(c._labelnames)) for c in collectors for d in c.describe()}


FOUND = declared()


def test_every_metric_stands_on_the_registry_that_was_passed() -> None:
    metrics = Metrics()
    shown = {family.name for family in metrics.registry.collect() if family.name.startswith("vmanomaly_")}
    assert shown == set(FOUND)


@pytest.mark.parametrize("name", ORIGINAL)
def test_name_type_and_labels_are_the_originals(name: str) -> None:
    kind, labels = ORIGINAL[name]
    assert FOUND[name].kind == kind
    assert set(FOUND[name].labels) == set(labels)


@pytest.mark.parametrize("name", FOUND)
def test_every_metric_is_documented_with_type_and_labels(name: str) -> None:
    rows = {m[1]: m for m in ROW.finditer(DOCS)}
    section = DOCS[: rows[name].start()].rpartition("\n## ")[2]
    common = set() if "only" in rows[name][4] else set(re.findall(r"`(\w+)`", section.split("| Metric")[0]))
    own = set(re.findall(r"`(\w+)`", rows[name][4]))
    documented = own | {label for label in common if not label.startswith("vmanomaly_")}
    if name == "vmanomaly_models_active":
        documented -= {"stage"}
    assert rows[name][3] == FOUND[name].kind
    assert documented == set(FOUND[name].labels)
    assert bool(rows[name][2]) is (name not in ORIGINAL)


def test_nothing_is_documented_that_does_not_exist() -> None:
    assert {m[1] for m in ROW.finditer(DOCS)} == set(FOUND)


def test_every_label_is_explained() -> None:
    explained = set(re.findall(r"`(\w+)`", DOCS.partition("\n## ")[0]))
    assert {label for d in FOUND.values() for label in d.labels} <= explained | {"version", "reason"}


def test_counters_end_in_total_once() -> None:
    metrics = Metrics()
    metrics.reloads.labels("success").inc()
    metrics.scheduler_restarts.labels("s", "default", "failure").inc()
    text = generate_latest(metrics.registry).decode()
    assert 'vmanomaly_config_reloads_total{status="success"} 1.0' in text
    assert "vmanomaly_scheduler_restarts_total{" in text
    assert "total_total" not in text
    assert "_created" not in text


def test_no_alert_fires_on_a_service_that_has_just_started() -> None:
    text = generate_latest(Metrics(memory_bytes=5).registry).decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines["vmanomaly_config_last_reload_successful"]) == 1
    assert float(lines["vmanomaly_available_memory_bytes"]) == 5
    assert float(lines["vmanomaly_cpu_cores_available"]) == cpu_capacity()
    assert float(lines["process_resident_memory_bytes"]) > 0
    assert float(lines["process_max_fds"]) - float(lines["process_open_fds"]) > 0
    assert "vm_license_expires_in_seconds" not in lines


def test_two_services_in_one_process_do_not_share_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.threads.set(3)
    assert one.registry.get_sample_value("vmanomaly_native_threads_per_worker") == 3
    assert other.registry.get_sample_value("vmanomaly_native_threads_per_worker") == 0
