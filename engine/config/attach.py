"""Which model runs on which query in which scheduler; what is attached to nothing is left out, with a warning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.config.report import Report
from engine.config.sections import Group
from engine.models.base import Model


def attach(
    models: Mapping[str, Model],
    raw_models: Mapping[str, Any],
    schedulers: Iterable[str],
    queries: Iterable[str],
    report: Report,
    *,
    warns_of_all: bool,
) -> tuple[Group, ...]:
    """All groups, by scheduler, model, query in the order written.

    Parameters
    ----------
    raw_models : the models' maps, which tell an absent key from a null.
    warns_of_all : whether a model that names no queries or schedulers is worth a warning.
    """
    scheduler_aliases, query_aliases = list(schedulers), list(queries)
    attached = {
        alias: (
            _named(raw_models[alias], f"models.{alias}.schedulers", scheduler_aliases, report, warns_of_all),
            _named(raw_models[alias], f"models.{alias}.queries", query_aliases, report, warns_of_all),
        )
        for alias in models
    }
    groups = []
    for scheduler in scheduler_aliases:
        for alias, (its_schedulers, its_queries) in attached.items():
            if scheduler not in its_schedulers or not its_queries:
                continue
            if models[alias].is_multivariate:
                channels = tuple(sorted(its_queries))
                groups.append(Group(scheduler, alias, ",".join(channels), channels))
            else:
                groups += [Group(scheduler, alias, query, (query,)) for query in its_queries]
    return tuple(groups)


def _named(spec: Any, path: str, aliases: list[str], report: Report, warns_of_all: bool) -> list[str]:
    """The aliases that an attachment means."""
    key = path.rpartition(".")[2]
    if key not in spec:
        if warns_of_all:
            report.warn(path, f"not given: the model is attached to all {key}; write `all` to say so")
        return aliases
    value = spec[key]
    if value == "all" or value == ["all"]:
        return aliases
    if value is None or value == []:
        # Before 1.29.4 of the original this meant all.
        report.warn(path, f"EMPTY, so the model is attached to no {key} and DOES NOT RUN; write `all` for all of them")
        return []
    if not isinstance(value, list):
        report.bad(path, value, f"expected all or a list of {key}")
        return []
    for name in value:
        if str(name) not in aliases:
            report.bad(path, name, f"expected some of the {key} {', '.join(aliases) or '(there are none)'}")
    wanted = {str(name) for name in value}
    return [alias for alias in aliases if alias in wanted]


def warn_of_orphans(
    groups: tuple[Group, ...], kinds: Mapping[str, tuple[set[str], Iterable[str]]], report: Report
) -> None:
    """Name what no group uses.

    Parameters
    ----------
    kinds : by config path, the aliases that groups use and all aliases.
    """
    for path, (used, aliases) in kinds.items():
        for alias in aliases:
            if alias not in used:
                report.warn(f"{path}.{alias}", "attached to nothing: left out")
    if not groups:
        report.warn("models", "no model is attached to a query and a scheduler: NOTHING RUNS")
