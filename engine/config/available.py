"""What a valid configuration may ask for but nothing answers yet: parts that stop the start, keys without effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.config.classes import READERS, WRITERS
from engine.config.report import Report
from engine.config.sections import Parts
from engine.scheduler.settings import BacktestingSettings, OneoffSettings

_READERS = ("vm", "local", "noop")
_WRITERS = ("vm", "local", "noop")

# Keys that are accepted for the sake of older or other deployments, with what stands in for them.
_NO_EFFECT = {
    "reader.health_path": "real queries are probed instead",
    "reader.series_processing_batch_size": "series are processed all at once",
    "reader.processing_timeout": "there is no such step after a fetch",
    "writer.health_path": "real writes are watched instead",
    "monitoring.push.health_path": "real pushes are watched instead",
    "settings.native_threads_per_worker": "n_workers is the number of all compute threads",
    "server.max_concurrent_tasks": "there are no tasks over the API yet",
    "server.use_reader_connection_settings": "there is no query API yet",
    "server.ui_default_state": "there is no UI yet",
}


def missing_parts(parts: Parts, preset: str, n_shards: int) -> tuple[str, ...]:
    """One line for each part that the configuration asks for and that does not exist yet."""
    lines = []
    if preset != "default":
        lines.append(f"preset: {preset} is not available yet")
    for alias, scheduler in parts.schedulers.items():
        if isinstance(scheduler, OneoffSettings | BacktestingSettings):
            lines.append(f"schedulers.{alias}.class: {tag(scheduler)} is not available yet")
    for alias, model in parts.models.items():
        if not model.is_available:
            lines.append(f"models.{alias}.class: {tag(model)} is not available yet")
        if missing := model.missing:
            lines.append(f"models.{alias}: {missing}")
    for path, part, table, ready in (
        ("reader", parts.reader, READERS, _READERS),
        ("writer", parts.writer, WRITERS, _WRITERS),
    ):
        if part is not None and tag(part) in table.entries and tag(part) not in ready:
            lines.append(f"{path}.class: {tag(part)} is not available yet")
    if n_shards > 1:
        lines.append("VMANOMALY_MEMBERS_COUNT: sharding is not available yet")
    return tuple(lines)


def shards(environ: Mapping[str, str], report: Report) -> int:
    """How many members the environment says that the work is for."""
    count = environ.get("VMANOMALY_MEMBERS_COUNT", "").strip() or "1"
    if not (count.isascii() and count.isdigit() and int(count) >= 1):
        report.bad("VMANOMALY_MEMBERS_COUNT", count, "expected a whole number >= 1")
        return 1
    return int(count)


def tag(settings: Any) -> str:
    """The class alias of a component's settings."""
    return str(settings.__struct_config__.tag)


def warn_of_no_effect(raw: Mapping[str, Any], report: Report) -> None:
    """Name the keys that are written and change nothing."""
    for path, reason in _NO_EFFECT.items():
        value: Any = raw
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value not in (None, False):
            report.warn(path, f"has no effect: {reason}")
    reader = raw.get("reader")
    queries = reader.get("queries") if isinstance(reader, Mapping) else None
    for alias, query in queries.items() if isinstance(queries, Mapping) else ():
        if isinstance(query, Mapping) and query.get("timeout") is not None:
            report.warn(f"reader.queries.{alias}.timeout", "has no effect: reader.fetch_timeout holds for all queries")
