"""Configuration files to one checked `Config`, or all their problems at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from engine.config.attach import attach, warn_of_orphans
from engine.config.available import missing_parts, shards, tag, warn_of_no_effect
from engine.config.check_groups import check_groups
from engine.config.check_http import tls_files
from engine.config.check_parts import check_parts
from engine.config.classes import MODELS, READERS, SCHEDULERS, WRITERS, ClassTable
from engine.config.convert import to_settings
from engine.config.document import unset_variables
from engine.config.legacy import Raw, unflatten
from engine.config.load import digest, read_files
from engine.config.queries import resolve_queries
from engine.config.report import Report
from engine.config.secrets import Masker
from engine.config.sections import Config, Group, Parts, ServiceSettings
from engine.errors import ConfigError
from engine.frame import Query
from engine.models.args import CustomFile
from engine.models.base import Model
from engine.reader.settings import NoopReaderSettings
from engine.scheduler.settings import NoopSchedulerSettings, PeriodicSettings
from engine.server.settings import MonitoringSettings, ServerSettings
from engine.writer.settings import NoopWriterSettings

__all__ = ["Config", "Group", "load_config"]

_STATE_VARIABLE = "VMANOMALY_MODEL_DUMPS_DIR"
_SECTIONS = ("schedulers", "models", "reader", "writer", "monitoring", "settings", "server", "preset", "custom")
_ARGS_HINT = "; arguments of the inner library stand under `args`"


def load_config(
    paths: Sequence[Path], environ: Mapping[str, str], *, strict: bool = False, state_dir: Path | None = None
) -> Config:
    """The configuration that files and folders say together.

    Parameters
    ----------
    environ : for %{NAME} placeholders and for the variables that the service itself reads.
    strict : unknown keys are problems.
    state_dir : of the command line; it turns `settings.restore_state` on.

    Raises
    ------
    ConfigError : with every problem found, each as path, value, what was expected.
    """
    report = Report(strict=strict)
    raw, is_oldest_style = unflatten(read_files(paths, environ, report), report)
    report.masker = Masker(raw)
    if report.problems:
        raise ConfigError(report.problems)
    _check_placeholders(raw, "", report)
    preset = _preset(raw, report)
    report.is_partial = preset != "default"
    parts = _convert(raw, report)
    # Bad sections would only bring up problems that follow from theirs.
    groups, queries = _connect(parts, raw, report, is_oldest_style=is_oldest_style)
    check_parts(parts, report)
    check_groups(parts, groups, queries, report)
    state_dir, parts = _state(parts, environ, state_dir, report)
    warn_of_no_effect(raw, report)
    n_shards = shards(environ, report)
    if report.problems:
        raise ConfigError(report.problems)
    parts = _attached(parts, groups)
    used_queries = {alias for group in groups for alias in group.query_aliases}
    return Config(
        schedulers=parts.schedulers,
        models=parts.models,
        queries={alias: query for alias, query in queries.items() if alias in used_queries},
        groups=groups,
        reader=parts.reader or NoopReaderSettings(),
        writer=parts.writer or NoopWriterSettings(),
        settings=parts.settings,
        server=parts.server,
        monitoring=parts.monitoring,
        preset=preset,
        is_oldest_style=is_oldest_style,
        state_dir=state_dir,
        warnings=report.warnings,
        unavailable=missing_parts(parts, preset, n_shards),
        tls_files=tls_files(parts),
        tls_digest=digest(tls_files(parts)),
        source=raw,
    )


def _state(
    parts: Parts, environ: Mapping[str, str], state_dir: Path | None, report: Report
) -> tuple[Path | None, Parts]:
    """Where state is kept, and the sections with what the command line says of it."""
    variable = environ.get(_STATE_VARIABLE)
    if state_dir is not None:
        return state_dir.absolute(), replace(
            parts, settings=msgspec.structs.replace(parts.settings, restore_state=True)
        )
    if variable:
        return Path(variable).absolute(), parts
    if parts.settings.restore_state:
        report.bad("settings.restore_state", True, f"expected {_STATE_VARIABLE} or --state-dir to say where")
    return None, parts


def _attached(parts: Parts, groups: tuple[Group, ...]) -> Parts:
    """Only the schedulers and models that a group uses."""
    schedulers, models = {g.scheduler_alias for g in groups}, {g.model_alias for g in groups}
    return replace(
        parts,
        schedulers={alias: s for alias, s in parts.schedulers.items() if alias in schedulers},
        models={alias: m for alias, m in parts.models.items() if alias in models},
    )


def _check_placeholders(raw: Any, path: str, report: Report) -> None:
    """Placeholders that are still there name variables that are not set."""
    if isinstance(raw, dict):
        for key, value in raw.items():
            for name in unset_variables(key):
                report.unset(f"{path}.{key}" if path else key, name)
            _check_placeholders(value, f"{path}.{key}" if path else key, report)
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            _check_placeholders(value, f"{path}[{index}]", report)
    elif isinstance(raw, str):
        for name in unset_variables(raw):
            report.unset(path, name)


def _preset(raw: Raw, report: Report) -> str:
    """The preset's name, as the `preset` label writes it."""
    value = raw.get("preset")
    if value is None or value == "":
        return "default"
    if not isinstance(value, str):
        report.bad("preset", value, "expected the name of a preset")
        return "default"
    name = value.partition(":")[0]
    if name not in ("default", "ui", "node-exporter"):
        report.bad("preset", value, "expected one of default, ui, node-exporter")
        return "default"
    return name


def _convert(raw: Raw, report: Report) -> Parts:
    for key in raw:
        if key not in _SECTIONS:
            report.unknown(key, _SECTIONS)
    models = _components(raw, "models", MODELS, report)
    custom = _section(CustomFile, raw, "custom", report)
    return Parts(
        schedulers=_components(raw, "schedulers", SCHEDULERS, report),
        models={alias: settled(model, custom) for alias, model in models.items()},
        reader=component(raw.get("reader"), "reader", READERS, report),
        writer=component(raw.get("writer"), "writer", WRITERS, report),
        settings=_section(ServiceSettings, raw, "settings", report),
        server=_section(ServerSettings, raw, "server", report),
        monitoring=_section(MonitoringSettings, _with_present_pull(raw), "monitoring", report),
    )


def _with_present_pull(raw: Raw) -> Raw:
    """`pull:` with nothing under it asks for the listener, an empty `push` for nothing."""
    monitoring = raw.get("monitoring")
    if not isinstance(monitoring, dict):
        return raw
    result = {key: value for key, value in monitoring.items() if key != "push" or value}
    if "pull" in result:
        result["pull"] = result["pull"] or {}
    return {**raw, "monitoring": result}


def _section(kind: type[Any], raw: Raw, name: str, report: Report) -> Any:
    """An optional section; its defaults where it is absent or bad."""
    found = to_settings(kind, raw[name], name, report) if raw.get(name) is not None else None
    return kind() if found is None else found


def _components(raw: Raw, name: str, table: ClassTable, report: Report) -> dict[str, Any]:
    section = raw.get(name)
    if section is None or section == {}:
        report.missing(name, "expected a map of aliases, each with its settings")
        return {}
    if not isinstance(section, dict):
        report.bad(name, section, "expected a map of aliases, each with its settings")
        return {}
    found = {a: component(spec, f"{name}.{a}", table, report) for a, spec in section.items()}
    return {alias: settings for alias, settings in found.items() if settings is not None}


def component(spec: Any, path: str, table: ClassTable, report: Report) -> Any:
    """The settings of one component; None when they are missing or bad."""
    if spec is None:
        report.missing(path, "expected a map of settings")
        return None
    if not isinstance(spec, dict):
        report.bad(path, spec, "expected a map of settings")
        return None
    name = spec.get("class") or table.default
    if name is None:
        report.problem(f"{path}.class", f"missing, expected one of {', '.join(table.entries)}")
        return None
    entry = table.find(name)
    if entry is None:
        report.bad(f"{path}.class", name, table.expected(name))
        return None
    kind = table.settings_type(entry.alias)
    if entry.alias == "custom":
        known = {field.encode_name for field in msgspec.structs.fields(kind)} | {"class"}
        own = {key: value for key, value in spec.items() if key not in known}
        args = spec.get("args") or {}
        if isinstance(args, dict):
            spec = {k: v for k, v in spec.items() if k in known} | {"args": {**args, **own}}
    return to_settings(kind, spec, path, report, hint=_ARGS_HINT if table is MODELS else "")


def settled(model: Model, custom: CustomFile) -> Model:
    """A model as what it is by its operator's file, if it has one; that is run here."""
    if tag(model) != "custom":
        return model
    from engine.models.custom_kinds import settle

    return settle(model, custom)


def _connect(
    parts: Parts, raw: Raw, report: Report, *, is_oldest_style: bool
) -> tuple[tuple[Group, ...], dict[str, Query]]:
    """Groups and queries of the sections that are good."""
    raw_reader: Raw = raw["reader"] if isinstance(raw.get("reader"), dict) else {}
    raw_queries = raw_reader.get("queries") or {}
    aliases = list(raw_queries) if isinstance(raw_queries, dict) else []
    schedulers = {a: s for a, s in parts.schedulers.items() if not isinstance(s, NoopSchedulerSettings)}
    models = {a: m for a, m in parts.models.items() if m.__struct_config__.tag != "noop"}
    queries: dict[str, Query] = {}
    if parts.reader is not None:
        every = [s.infer_every for s in schedulers.values() if isinstance(s, PeriodicSettings)]
        queries = resolve_queries(parts.reader, raw_reader, every, report)
    if report.is_partial or isinstance(parts.reader, NoopReaderSettings):
        return (), {}
    raw_models = {a: raw["models"][a] for a in models}
    known_schedulers = raw["schedulers"] if isinstance(raw.get("schedulers"), dict) else {}
    runnable = [a for a in known_schedulers if a in schedulers or a not in parts.schedulers]
    groups = attach(models, raw_models, runnable, aliases, report, warns_of_all=not is_oldest_style)
    kinds: dict[str, tuple[set[str], Any]] = {
        "schedulers": ({g.scheduler_alias for g in groups}, schedulers),
        "reader.queries": ({q for g in groups for q in g.query_aliases}, aliases),
    }
    if not report.problems:
        warn_of_orphans(groups, kinds, report)
    return groups, queries
