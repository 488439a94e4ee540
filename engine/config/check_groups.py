"""Checks across sections: time against time, tenants, channels of one model."""

from __future__ import annotations

from collections.abc import Mapping

from engine.config.check_parts import budget
from engine.config.report import Report
from engine.config.sections import Group, Parts
from engine.frame import Query
from engine.models.base import BAND_KEYS
from engine.reader.settings import ReaderSettings, full_tenant
from engine.scheduler.settings import PeriodicSettings
from engine.settings import Duration, Settings


def check_groups(parts: Parts, groups: tuple[Group, ...], queries: Mapping[str, Query], report: Report) -> None:
    """Report what does not fit together."""
    if parts.reader is None:
        return
    for scheduler_alias in dict.fromkeys(group.scheduler_alias for group in groups):
        scheduler = parts.schedulers.get(scheduler_alias)
        if isinstance(scheduler, PeriodicSettings):
            its = {q for g in groups if g.scheduler_alias == scheduler_alias for q in g.query_aliases if q in queries}
            _check_times(scheduler_alias, scheduler, [queries[q] for q in sorted(its)], parts.reader, report)
    for group in {g.model_alias: g for g in groups if parts.models[g.model_alias].is_multivariate}.values():
        _check_channels(group, [queries[q] for q in group.query_aliases if q in queries], report)
    for model_alias, query_alias in dict.fromkeys((g.model_alias, q) for g in groups for q in g.query_aliases):
        if query_alias in queries and not parts.models[model_alias].has_band:
            _check_policies(model_alias, queries[query_alias], report)
    _check_tenants(parts.reader, parts.writer, queries, report)


def _check_policies(model_alias: str, query: Query, report: Report) -> None:
    """Policies of a query that a model without a band cannot follow."""
    for key in BAND_KEYS:
        if getattr(query, key, None) is not None:
            path = f"reader.queries.{query.alias}.{key}"
            report.warn(path, f"has no effect on model {model_alias}: its class has no band")


def _check_times(
    alias: str, scheduler: PeriodicSettings, queries: list[Query], reader: ReaderSettings, report: Report
) -> None:
    path = f"schedulers.{alias}"
    for query in queries:
        step = Duration(query.step_ms)
        if scheduler.infer_every < step:
            text = f"{scheduler.infer_every} is shorter than the step of query {query.alias}, {step}"
            report.warn(f"{path}.infer_every", f"{text}: runs between two points find nothing new")
        if scheduler.fit_window < step:
            text = f"{scheduler.fit_window} is shorter than the step of query {query.alias}, {step}"
            report.warn(f"{path}.fit_window", f"{text}: there is nothing to fit")
    if (longest := budget(reader)) > scheduler.infer_every:
        text = f"{longest} is longer than infer_every of scheduler {alias}, {scheduler.infer_every}"
        report.warn("reader.timeout", f"{text}: a slow fetch delays later runs")


def _check_channels(group: Group, queries: list[Query], report: Report) -> None:
    """Channels of a multivariate model share one grid and one tenant."""
    path = f"models.{group.model_alias}.queries"
    if len({query.step_ms for query in queries}) > 1:
        steps = ", ".join(f"{q.alias} {Duration(q.step_ms)}" for q in queries)
        report.problem(path, f"steps differ ({steps}), expected one step for all queries of a multivariate model")
    if len({full_tenant(query.tenant_id) for query in queries}) > 1:
        report.problem(path, "tenants differ, expected one tenant for all queries of a multivariate model")
    if len({query.tz for query in queries}) > 1:
        first = min(queries, key=lambda query: query.alias)
        report.warn(path, f"time zones differ: that of {first.alias}, {first.tz}, counts for all channels")
    if len({query.offset_ms for query in queries}) > 1:
        least = Duration(min(query.offset_ms for query in queries))
        report.warn(path, f"offsets differ: the smallest one, {least}, counts for all channels")


def _check_tenants(
    reader: ReaderSettings, writer: Settings | None, queries: Mapping[str, Query], report: Report
) -> None:
    reader_tenant = getattr(reader, "tenant_id", None) or ""
    for alias, query in reader.queries.items():
        if query.tenant_id and not reader_tenant:
            expected = "expected reader.tenant_id too: a single-node database has no tenants"
            report.bad(f"reader.queries.{alias}.tenant_id", query.tenant_id, expected)
    used = {full_tenant(query.tenant_id) for query in queries.values()} - {""}
    if not used or writer is None or not hasattr(writer, "tenant_id"):
        return
    writer_tenant = full_tenant(writer.tenant_id or "")
    if writer_tenant == "multitenant" or used == {writer_tenant} == {full_tenant(reader_tenant)}:
        return
    text = f"the reader uses {', '.join(sorted(used))}; scores of all go to {writer_tenant or 'no tenant'}"
    report.warn("writer.tenant_id", f"{text}. Write multitenant to send each one back to its own")
