"""Settings types of the writers: keys, defaults and bounds as documented."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from engine.http import Connection
from engine.settings import Duration, Settings, Size

METRIC_FORMAT = {"__name__": "$VAR", "for": "$QUERY_KEY"}


class SpoolSettings(Settings, frozen=True, kw_only=True):
    """``writer.spool``: where results wait on disk, and how many; the oldest are given up beyond."""

    dir: Annotated[str, Meta(min_length=1)] | None = None
    max_bytes: Size = Size(1 << 30)
    max_age: Duration = Duration(86_400_000)


class VmWriterSettings(Connection, frozen=True, kw_only=True, tag_field="class", tag="vm"):
    """``writer`` with ``class: vm``: the JSON-line import API of VictoriaMetrics."""

    datasource_url: Annotated[str, Meta(min_length=1)]
    metric_format: dict[str, str] = field(default_factory=lambda: dict(METRIC_FORMAT))
    import_json_path: str = "/api/v1/import"
    health_path: str = "/health"
    timeout: Duration = Duration(5_000)
    connection_retry_attempts: Annotated[int, Meta(ge=0)] = 1
    batch_max_series: Annotated[int, Meta(gt=0)] = 10_000
    batch_max_bytes: Annotated[int, Meta(gt=0)] = 8 << 20
    metric_prefix_cache_max_entries: Annotated[int, Meta(ge=0)] | None = None
    spool: SpoolSettings | None = None


class LocalWriterSettings(Settings, frozen=True, kw_only=True, tag_field="class", tag="local"):
    """``writer`` with ``class: local``: rows of a DuckDB table."""

    path: Annotated[str, Meta(min_length=1)]
    table: Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] = "anomaly"
    metric_format: dict[str, str] = field(default_factory=lambda: dict(METRIC_FORMAT))


class NoopWriterSettings(Settings, frozen=True, kw_only=True, tag_field="class", tag="noop"):
    """``writer`` with ``class: noop``: writes nothing."""


class NdjsonWriterSettings(Settings, frozen=True, kw_only=True, tag_field="class", tag="ndjson"):
    """``writer`` with ``class: ndjson``: import lines into a file."""

    path: Annotated[str, Meta(min_length=1)]
    metric_format: dict[str, str] = field(default_factory=lambda: dict(METRIC_FORMAT))
    override: bool = True


class CsvWriterSettings(Settings, frozen=True, kw_only=True, tag_field="class", tag="csv"):
    """``writer`` with ``class: csv``: one table in a file."""

    path: Annotated[str, Meta(min_length=1)]
    header: bool = True
    override: bool = True
    tz: str = "UTC"
