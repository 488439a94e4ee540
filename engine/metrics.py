"""Every self-monitoring metric, declared once on a registry that is passed in. Names and labels are the original's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from engine import __version__
from engine.memory import cpu_capacity

disable_created_metrics()  # type: ignore[no-untyped-call] # a gauge beside each counter that nothing uses

_IO = ("url", "query_key", "scheduler_alias", "preset")
_MODEL = ("query_key", "model_alias", "scheduler_alias", "preset")
_STAGE = ("stage", *_MODEL)
_SCHEDULER = ("scheduler_alias", "preset")


class Metrics:
    """All metrics of one process; `registry` is what /metrics shows and push sends."""

    def __init__(self, registry: CollectorRegistry | None = None, memory_bytes: int = 0) -> None:
        self.registry = registry or CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

        self._labelled: list[tuple[tuple[str, ...], Counter | Gauge | Histogram]] = []

        def counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
            made = Counter(name, text, labels, registry=self.registry)
            self._labelled.append((labels, made))
            return made

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            made = Gauge(name, text, labels, registry=self.registry)
            self._labelled.append((labels, made))
            return made

        def histogram(name: str, text: str, labels: tuple[str, ...]) -> Histogram:
            made = Histogram(name, text, labels, registry=self.registry)
            self._labelled.append((labels, made))
            return made

        self.start_time = gauge("vmanomaly_start_time_seconds", "When the service started, Unix seconds")
        self.start_time.set(time.time())
        self.version = gauge("vmanomaly_version_info", "Version of the service", ("version",))
        self.version.labels(__version__).set(1)
        self.memory = gauge("vmanomaly_available_memory_bytes", "Memory that this process may use")
        self.memory.set(memory_bytes)
        self.cpus = gauge("vmanomaly_cpu_cores_available", "CPUs that this process may use")
        self.cpus.set(cpu_capacity())
        self.threads = gauge("vmanomaly_native_threads_per_worker", "Threads that run kernels")
        self.entities = gauge(
            "vmanomaly_config_entities", "Parts of the configuration: in all, and run here", ("preset", "scope")
        )
        self.reload_enabled = gauge("vmanomaly_config_reload_enabled", "1 where the configuration is watched")
        self.reloads = counter("vmanomaly_config_reloads", "Attempts to reload the configuration", ("status",))
        self.reload_ok = gauge("vmanomaly_config_last_reload_successful", "0 after a failed reload")
        self.reload_ok.set(1)  # an alert fires on 0: none was tried, none has failed
        self.reload_time = gauge(
            "vmanomaly_config_last_reload_success_timestamp_seconds", "Last good load, Unix seconds"
        )
        self.reload_time.set_to_current_time()
        self.scheduler_alive = gauge("vmanomaly_scheduler_alive", "1 while the scheduler's thread runs", _SCHEDULER)
        self.scheduler_restarts = counter(
            "vmanomaly_scheduler_restarts", "Attempts to restart a scheduler's thread", (*_SCHEDULER, "status")
        )
        self.longest_job = gauge(
            "vmanomaly_scheduler_longest_job_seconds", "For how long the longest running job has run", _SCHEDULER
        )

        self.read_seconds = histogram("vmanomaly_reader_request_duration_seconds", "Time of datasource queries", _IO)
        self.reads = counter("vmanomaly_reader_responses", "Answers by code, errors too", (*_IO, "code"))
        self.read_bytes = counter("vmanomaly_reader_received_bytes", "Bytes of answers, decompressed", _IO)
        self.parse_seconds = histogram(
            "vmanomaly_reader_response_parsing_seconds", "Time to decode (json) and to place (df)", (*_IO, "step")
        )
        self.read_series = counter("vmanomaly_reader_timeseries_received", "Series in answers", _IO)
        self.read_points = counter("vmanomaly_reader_datapoints_received", "Points in answers", _IO)
        self.read_queue = gauge("vmanomaly_reader_processing_tasks_queued", "Answers that wait to be processed", _IO)
        self.read_duplicates = counter(
            "vmanomaly_reader_duplicate_series", "Series that came twice in one answer, merged", _IO
        )

        self.runs = counter("vmanomaly_model_runs", "Successful runs", _STAGE)
        self.run_seconds = histogram("vmanomaly_model_run_duration_seconds", "Time of the model alone", _STAGE)
        self.accepted = counter("vmanomaly_model_datapoints_accepted", "Valid points taken, unseen at infer", _STAGE)
        self.produced = counter("vmanomaly_model_datapoints_produced", "Points generated", _STAGE)
        self.models_active = gauge("vmanomaly_models_active", "Series with a fitted model", _MODEL)
        self.skipped = counter("vmanomaly_model_runs_skipped", "Runs with nothing to do or no model yet", _STAGE)
        self.run_errors = counter("vmanomaly_model_run_errors", "Runs that failed", _STAGE)
        self.series_skipped = counter(
            "vmanomaly_model_series_skipped",
            "Series left out of a run: no model until the next fit (unknown), no recent points (stale), "
            "too few points or a failure in the fit (unfit), a failure at inference (failed)",
            (*_STAGE, "reason"),
        )
        self.not_taken = gauge(
            "vmanomaly_series_not_taken",
            "Series of answers that settings.max_series keeps out",
            ("query_key", *_SCHEDULER),
        )
        self.expired = counter("vmanomaly_series_expired", "Series dropped by settings.retention", ())
        self.incomplete = counter(
            "vmanomaly_model_timestamps_incomplete",
            "Times at which a group of channels was not scored because one was missing",
            _STAGE,
        )

        self.state_seconds = histogram("vmanomaly_state_commit_seconds", "Time to commit state to disk", _MODEL)
        self.state_errors = counter("vmanomaly_state_commit_errors", "Commits of state that failed", _MODEL)
        self.state_bytes = gauge("vmanomaly_state_size_bytes", "Fitted state on disk", _MODEL)

        self.write_seconds = histogram("vmanomaly_writer_request_duration_seconds", "Time of each write", _IO)
        self.writes = counter("vmanomaly_writer_responses", "Answers by code, errors too", (*_IO, "code"))
        self.sent_bytes = counter("vmanomaly_writer_sent_bytes", "Bytes delivered", _IO)
        self.serialize_seconds = histogram("vmanomaly_writer_request_serialize_seconds", "Time to encode", _IO)
        self.sent_points = counter("vmanomaly_writer_datapoints_sent", "Points delivered", _IO)
        self.sent_series = counter("vmanomaly_writer_timeseries_sent", "Series delivered", _IO)
        self.dropped_points = counter(
            "vmanomaly_writer_datapoints_dropped", "Points given up: refused, or the queue was full", (*_IO, "reason")
        )
        self.write_queue = gauge("vmanomaly_writer_queue_bytes", "Outputs that wait to be written", ("url",))
        self.spool_bytes = gauge("vmanomaly_writer_spool_bytes", "Outputs on disk until they are written", ("url",))
        self.spool_age = gauge(
            "vmanomaly_writer_spool_oldest_seconds", "For how long the oldest output has waited", ("url",)
        )

    def forget_all_but(self, names: Iterable[Mapping[str, str]]) -> None:
        """Remove the samples of schedulers, models and queries that are no more.

        Parameters
        ----------
        names : label values of what is there; a sample stays if one of these says nothing else.
        """
        known = [dict(each) for each in names]
        for labels, metric in self._labelled:
            if "scheduler_alias" not in labels:
                continue
            shared = [name for name in ("scheduler_alias", "model_alias", "query_key", "preset") if name in labels]
            kept = {tuple(each[name] for name in shared) for each in known}
            samples = [sample.labels for family in metric.collect() for sample in family.samples]
            for values in {tuple(sample[name] for name in labels) for sample in samples}:
                if tuple(values[labels.index(name)] for name in shared) not in kept:
                    metric.remove(*values)
