"""Settings types of the readers: keys, defaults and bounds as documented."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from engine.settings import UNBOUNDED, Duration, Pair, Range, Settings

PositiveInt = Annotated[int, Meta(gt=0)]


def full_tenant(tenant: str) -> str:
    """A tenant with its project: "0" is "0:0"."""
    return f"{tenant}:0" if tenant.isdigit() else tenant


class QuerySettings(Settings, frozen=True, kw_only=True):
    """One entry of ``reader.queries``; None means: as the reader says."""

    expr: Annotated[str, Meta(min_length=1)]
    step: Duration | None = None
    data_range: Range | None = None
    max_points_per_query: PositiveInt | None = None
    tz: str | None = None
    tenant_id: str | None = None
    offset: Duration | None = None
    timeout: Duration | None = None
    detection_direction: Literal["both", "above_expected", "below_expected"] | None = None
    min_dev_from_expected: Pair | None = None
    min_rel_dev_from_expected: Pair | None = None
    n_lags: int = 0  # undocumented, without effect


class ReaderSettings(Settings, frozen=True, kw_only=True):
    """Keys common to all readers."""

    queries: dict[str, QuerySettings]
    sampling_period: Duration | None = None
    data_range: Range = UNBOUNDED
    tz: str = "UTC"
    offset: Duration = Duration(0)
    workers: Annotated[int, Meta(ge=0)] = 0
    query_from_last_seen_timestamp: bool | None = None
    query_last_seen_max_lookback: Duration | None = None
    settle: Duration | None = None


class VmReaderSettings(ReaderSettings, frozen=True, kw_only=True, tag_field="class", tag="vm"):
    """``reader`` with ``class: vm``: a Prometheus-compatible query_range API.

    The connection's keys are those of `engine.http.Connection`; a msgspec type has one base only.
    """

    datasource_url: Annotated[str, Meta(min_length=1)]
    tenant_id: str | None = None
    user: str | None = None
    password: str | None = None
    bearer_token: str | None = None
    bearer_token_file: str | None = None
    verify_tls: bool | str = True
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    timeout: Duration = Duration(30_000)
    fetch_timeout: Duration | None = None
    processing_timeout: Duration | None = None
    series_processing_batch_size: PositiveInt = 8
    max_points_per_query: PositiveInt | None = None
    query_range_path: str = "api/v1/query_range"
    health_path: str = "health"
    extra_filters: list[str] = []
    latency_offset: Duration = Duration(1)


class LocalReaderSettings(ReaderSettings, frozen=True, kw_only=True, tag_field="class", tag="local"):
    """``reader`` with ``class: local``: SQL over a DuckDB file."""

    path: Annotated[str, Meta(min_length=1)]


class VlogsReaderSettings(VmReaderSettings, frozen=True, kw_only=True, tag_field="class", tag="vlogs"):
    """``reader`` with ``class: vlogs``: the stats_query_range API of VictoriaLogs and VictoriaTraces."""

    query_range_path: str = "select/logsql/stats_query_range"


class NoopReaderSettings(ReaderSettings, frozen=True, kw_only=True, tag_field="class", tag="noop"):
    """``reader`` with ``class: noop``: reads nothing."""

    queries: dict[str, QuerySettings] = {}


class SyntheticReaderSettings(ReaderSettings, frozen=True, kw_only=True, tag_field="class", tag="synthetic_vm"):
    """``reader`` with ``class: synthetic_vm``: generated series for tests; undocumented."""

    queries: dict[str, QuerySettings] = {}
    n_queries: PositiveInt | None = None
    n_series_per_query: PositiveInt = 1
    n_labels: PositiveInt = 1
    random_state: int = 42
    max_points_per_query: PositiveInt | None = None
    tenant_id: str | None = None


class CsvReaderSettings(ReaderSettings, frozen=True, kw_only=True, tag_field="class", tag="csv"):
    """``reader`` with ``class: csv``: one series from a file with the columns timestamp and y."""

    queries: dict[str, QuerySettings] = {}
    path: Annotated[str, Meta(min_length=1)]
    metric_name: str | None = None


class NdjsonReaderSettings(ReaderSettings, frozen=True, kw_only=True, tag_field="class", tag="ndjson"):
    """``reader`` with ``class: ndjson``: series from a file in the format of the export API."""

    queries: dict[str, QuerySettings] = {}
    path: Annotated[str, Meta(min_length=1)]


class QueryRangeReaderSettings(ReaderSettings, frozen=True, kw_only=True, tag_field="class", tag="query_range"):
    """``reader`` with ``class: query_range``: one URL that holds its query."""

    queries: dict[str, QuerySettings] = {}
    path: Annotated[str, Meta(min_length=1)]
