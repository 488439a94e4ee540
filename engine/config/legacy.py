"""Old spellings to the newest ones: class names, flat sections, string queries, renamed keys."""

from __future__ import annotations

from typing import Any

from engine.config.classes import MODELS, READERS, SCHEDULERS, WRITERS, ClassTable
from engine.config.report import Report

Raw = dict[str, Any]

DEFAULT_SCHEDULER = "default_scheduler"
DEFAULT_MODEL = "default_model"

_MOST_NAMED = 5


def respell(raw: Raw, report: Report) -> Raw:
    """One file's settings in today's spelling, so that files in different spellings merge into one entity."""
    result = {key: value for key, value in raw.items() if value is not None}
    for section, table in (("reader", READERS), ("writer", WRITERS), ("scheduler", SCHEDULERS), ("model", MODELS)):
        if isinstance(result.get(section), dict):
            result[section] = _with_alias(result[section], section, table, report)
    for section, table in (("schedulers", SCHEDULERS), ("models", MODELS)):
        if isinstance(result.get(section), dict):
            entries = result[section].items()
            result[section] = {a: _with_alias(spec, f"{section}.{a}", table, report) for a, spec in entries}
    for path, spec in [("model", result.get("model")), *_entries(result.get("models"))]:
        _respell_tuned(spec, path, report)
    if isinstance(result.get("reader"), dict):
        result["reader"] = _respell_queries(result["reader"], report)
    if isinstance(result.get("monitoring"), dict):
        result["monitoring"] = _respell_monitoring(result["monitoring"], report)
    for alias, spec in (result.get("schedulers") or {}).items() if isinstance(result.get("schedulers"), dict) else ():
        result["schedulers"][alias] = _respell_times(spec)
    return result


def _with_alias(spec: Any, path: str, table: ClassTable, report: Report) -> Any:
    """The spec with its class by the canonical alias; unknown names stay for the error."""
    if not isinstance(spec, dict) or (entry := table.find(spec.get("class"))) is None:
        return spec
    name = spec["class"]
    if table.is_redirected(name):
        report.warn(f"{path}.class", f"{name} is an older name; it runs as {entry.alias}")
    return {**spec, "class": entry.alias}


def _entries(section: Any) -> list[tuple[str, Any]]:
    return [(f"models.{alias}", spec) for alias, spec in section.items()] if isinstance(section, dict) else []


def _respell_tuned(spec: Any, path: str, report: Report) -> None:
    """The docs' prose has another name for the class that `auto` tunes; `spec` is a copy of what was read."""
    if isinstance(spec, dict) and spec.get("class") == "auto" and "tuned_model_class" in spec:
        report.warn(f"{path}.tuned_model_class", "another spelling of tuned_class_name")
        name = spec.pop("tuned_model_class")
        spec.setdefault("tuned_class_name", name)


def _respell_queries(reader: Raw, report: Report) -> Raw:
    queries = reader.get("queries")
    if not isinstance(queries, dict):
        return reader
    if isinstance(queries.get("extra_filters"), list):  # an example of the docs has it there
        report.warn("reader.queries.extra_filters", "belongs under `reader`; used as reader.extra_filters")
        reader = {**reader, "extra_filters": queries["extra_filters"]}
        queries = {alias: query for alias, query in queries.items() if alias != "extra_filters"}
    if texts := [alias for alias, query in queries.items() if isinstance(query, str)]:
        named = ", ".join(texts[:_MOST_NAMED]) + (f" and {len(texts) - _MOST_NAMED} more" * (len(texts) > _MOST_NAMED))
        report.warn("reader.queries", f"{named}: plain text is the old spelling of {{expr: …}}")
    return {**reader, "queries": {a: {"expr": q} if isinstance(q, str) else q for a, q in queries.items()}}


def _respell_monitoring(monitoring: Raw, report: Report) -> Raw:
    """`endpoint_url` and `pull.enable` are from before 1.2."""
    result = dict(monitoring)
    if "endpoint_url" in result:
        report.warn("monitoring.endpoint_url", "the old spelling of monitoring.push.url")
        result["push"] = {"url": result.pop("endpoint_url"), **(result.get("push") or {})}
    push = result.get("push")
    if isinstance(push, dict) and "endpoint_url" in push:
        report.warn("monitoring.push.endpoint_url", "the old spelling of monitoring.push.url")
        url = push["endpoint_url"]
        result["push"] = {"url": url, **{k: v for k, v in push.items() if k != "endpoint_url"}}
    pull = result.get("pull")
    if isinstance(pull, dict) and "enable" in pull:
        report.warn("monitoring.pull.enable", "no longer used; `pull` is on where it is written")
        result["pull"] = {k: v for k, v in pull.items() if k != "enable"}
        if pull["enable"] is False:
            del result["pull"]
    return result


_OLD_TIMES = {
    "from": "from_iso",
    "to": "to_iso",
    "from_start_iso": "from_iso",
    "to_end_iso": "to_iso",
    "from_start_s": "from_s",
    "to_end_s": "to_s",
}


def _respell_times(spec: Any) -> Any:
    """Range ends of backtesting by their present names; a number under an `_iso` name is Unix seconds."""
    if not isinstance(spec, dict) or spec.get("class") not in ("backtesting", "oneoff"):
        return spec
    renames = _OLD_TIMES if spec["class"] == "backtesting" else {}
    result: Raw = {}
    for key, value in spec.items():
        name = str(renames.get(key, key))
        if name.endswith("_iso") and isinstance(value, int | float) and not isinstance(value, bool):
            name = name.removesuffix("_iso") + "_s"
        result[name] = value
    return result


def unflatten(raw: Raw, report: Report) -> tuple[Raw, bool]:
    """The merged settings with maps of schedulers and models, and whether both were flat: the oldest style."""
    result = dict(raw)
    n_flat = 0
    for old, new, alias in (("scheduler", "schedulers", DEFAULT_SCHEDULER), ("model", "models", DEFAULT_MODEL)):
        if old not in result:
            continue
        flat = result.pop(old)
        if new in result:
            report.warn(old, f"has no effect beside {new}")
            continue
        report.warn(old, f"the old spelling of `{new}: {{{alias}: …}}`")
        result[new] = {alias: _respell_times(flat)}
        n_flat += 1
    return result, n_flat == 2
