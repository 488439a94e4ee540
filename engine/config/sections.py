"""The result of reading a configuration, and the settings types that no component owns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from msgspec import Meta

from engine.frame import Query
from engine.models.base import Model
from engine.reader.settings import ReaderSettings
from engine.scheduler.settings import (
    BacktestingSettings,
    NoopSchedulerSettings,
    OneoffSettings,
    PeriodicSettings,
)
from engine.server.settings import MonitoringSettings, ServerSettings
from engine.settings import Duration, Settings, Size

SchedulerSettings = PeriodicSettings | OneoffSettings | BacktestingSettings | NoopSchedulerSettings

# Names of our loggers, each also by the part before a point.
LOGGERS = (
    *("config", "demo", "http", "model", "monitoring", "monitoring.access", "monitoring.push", "reader", "reader.vm"),
    *("reload", "scheduler", "service", "state", "writer.local", "writer.spool", "writer.vm"),
)
# What vmanomaly calls them where it has other names.
LOGGER_ALIASES = {"vmanomaly": "service", "util.files": "reload"}
# Of libraries that log.
OTHER_LOGGERS = ("asyncio", "httpcore", "httpx", "numba", "uvicorn")

_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_LEAST_BYTES = 16 << 20


class MemoryBudget(str):
    """Bytes like "512MiB", or a share of the container's memory like "60%"."""

    @classmethod
    def parse(cls, value: Any) -> Self:
        """The budget that a configuration value says.

        Raises
        ------
        ValueError : it says none.
        """
        text = str(value).strip()
        share = _SHARE.fullmatch(text)
        try:
            in_bounds = 0 < float(share[1]) <= 100 if share else Size.parse(value) >= _LEAST_BYTES
        except ValueError:
            in_bounds = False
        if not in_bounds:
            raise ValueError('expected at least "16MiB", or a share of the memory like "60%"')
        return cls(text)

    def bytes_of(self, capacity_bytes: int) -> int:
        """The budget in bytes where the container has `capacity_bytes`."""
        share = _SHARE.fullmatch(self)
        return int(capacity_bytes * float(share[1]) / 100) if share else Size.parse(self)


class LogLevel(str):
    """A logging level by its upper-case name."""

    @classmethod
    def parse(cls, value: Any) -> Self:
        """The level that a configuration value says, in any case; FATAL is CRITICAL.

        Raises
        ------
        ValueError : it says none.
        """
        name = str(value).upper()
        name = {"FATAL": "CRITICAL", "WARN": "WARNING"}.get(name, name)
        if name not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            raise ValueError("expected one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
        return cls(name)


class RetentionSettings(Settings, frozen=True, kw_only=True):
    """``settings.retention``: when fitted state that nothing uses is dropped."""

    ttl: Duration | None = None
    check_interval: Duration | None = None


class MaxSeries(Settings, frozen=True, kw_only=True):
    """``settings.max_series``: how many series are taken, in each scheduler, of what queries answer."""

    per_query: Annotated[int, Meta(gt=0)] | None = None
    total: Annotated[int, Meta(gt=0)] | None = None


class ServiceSettings(Settings, frozen=True, kw_only=True):
    """``settings``: what belongs to no single component."""

    n_workers: Annotated[int, Meta(ge=-1)] = 0
    native_threads_per_worker: Annotated[int, Meta(ge=0)] = 0
    memory_budget: MemoryBudget = MemoryBudget("60%")
    anomaly_score_outside_data_range: Annotated[float, Meta(ge=0)] = 1.01
    restore_state: bool = False
    retention: RetentionSettings | None = None
    max_series: MaxSeries | None = None
    logger_levels: dict[str, LogLevel] = {}


@dataclass(frozen=True, slots=True)
class Parts:
    """The sections, each converted by itself; a bad component is left out or None."""

    schedulers: Mapping[str, SchedulerSettings]
    models: Mapping[str, Model]
    reader: ReaderSettings | None
    writer: Settings | None
    settings: ServiceSettings
    server: ServerSettings
    monitoring: MonitoringSettings


@dataclass(frozen=True, slots=True)
class Group:
    """One model on one query in one scheduler.

    For a multivariate model `query_alias` is its `for` label, and `query_aliases` are its channels.
    """

    scheduler_alias: str
    model_alias: str
    query_alias: str
    query_aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Config:
    """A checked configuration: only what is attached to something, with every default and fallback filled in.

    `unavailable` has one line for each valid part that does not exist yet: with any, nothing may start.
    """

    schedulers: Mapping[str, SchedulerSettings]
    models: Mapping[str, Model]
    queries: Mapping[str, Query]
    groups: tuple[Group, ...]
    reader: ReaderSettings
    writer: Settings
    settings: ServiceSettings = field(default_factory=ServiceSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)
    preset: str = "default"
    is_oldest_style: bool = False
    # Where state is kept, or was kept if `settings.restore_state` is off now.
    state_dir: Path | None = None
    warnings: tuple[str, ...] = ()
    unavailable: tuple[str, ...] = ()
    # Certificates and keys, and what they held: it is part of what runs.
    tls_files: tuple[Path, ...] = ()
    tls_digest: bytes = b""
    # The merged source, for credentials to be recognised by.
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)
