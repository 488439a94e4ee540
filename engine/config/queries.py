"""Query settings to queries with every fallback filled in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.config.report import Report
from engine.frame import Query
from engine.reader.settings import QuerySettings, ReaderSettings
from engine.settings import Duration


def resolve_queries(
    reader: ReaderSettings, raw_reader: Mapping[str, Any], infer_every: Iterable[Duration], report: Report
) -> dict[str, Query]:
    """By alias, each query with step, zone, offset, tenant, limits and policies.

    `data_range` is None where neither the query nor the reader says one: then the model's counts.
    """
    period = _sampling_period(reader, list(infer_every), report)
    if period is None:
        return {}
    reader_range = reader.data_range if raw_reader.get("data_range") is not None else None
    return {alias: _resolve(alias, q, reader, period, reader_range) for alias, q in reader.queries.items()}


def _sampling_period(reader: ReaderSettings, infer_every: list[Duration], report: Report) -> Duration | None:
    if reader.sampling_period is not None:
        return reader.sampling_period
    if all(query.step is not None for query in reader.queries.values()):
        return Duration(60_000)  # not used by any query
    if infer_every:
        shortest = min(infer_every)
        report.warn(
            "reader.sampling_period", f"not given: the smallest infer_every, {shortest}, is the step of queries"
        )
        return shortest
    report.missing("reader.sampling_period", 'expected a duration like "1m"')
    return None


def _resolve(
    alias: str,
    query: QuerySettings,
    reader: ReaderSettings,
    period: Duration,
    reader_range: tuple[float, float] | None,
) -> Query:
    tenant = query.tenant_id if query.tenant_id is not None else getattr(reader, "tenant_id", None)
    limit = query.max_points_per_query or getattr(reader, "max_points_per_query", None)
    return Query(
        alias=alias,
        expr=query.expr,
        step_ms=int(query.step or period),
        tz=query.tz or reader.tz,
        offset_ms=int(query.offset if query.offset is not None else reader.offset),
        tenant_id=tenant or "",
        max_points_per_query=limit,
        data_range=query.data_range if query.data_range is not None else reader_range,
        detection_direction=query.detection_direction,
        min_dev_from_expected=query.min_dev_from_expected,
        min_rel_dev_from_expected=query.min_rel_dev_from_expected,
    )
