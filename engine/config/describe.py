"""A configuration in words: the effective settings as YAML without credentials, and what will run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from engine.config.available import tag
from engine.config.legacy import DEFAULT_MODEL, DEFAULT_SCHEDULER
from engine.config.secrets import Masker
from engine.config.sections import Config, Group
from engine.frame import Query
from engine.scheduler.settings import PeriodicSettings
from engine.settings import UNBOUNDED, Duration, Settings


class _Dumper(yaml.SafeDumper):
    """No anchors: each value is written where it counts."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def describe(config: Config) -> str:
    """The dry run's text: valid YAML of the effective settings, then comments that say what will run."""
    lines = [f"# {line}" if line else "#" for line in _plan(config)]
    return f"# Effective settings; credentials are masked\n{effective_yaml(config)}\n" + "\n".join(lines) + "\n"


def effective_yaml(config: Config) -> str:
    """Every setting with its default filled in, as a configuration that loads again; credentials are masked."""
    schedulers: dict[str, Any] = {alias: _with_class(s) for alias, s in config.schedulers.items()}
    models: dict[str, Any] = {alias: _model(alias, config) for alias in config.models}
    oldest = {"scheduler": schedulers.get(DEFAULT_SCHEDULER), "model": models.get(DEFAULT_MODEL)}
    # The style of a configuration says which labels are written.
    is_flat = config.is_oldest_style and all(oldest.values())
    tree = {
        **(oldest if is_flat else {"schedulers": schedulers, "models": models}),
        "reader": {**_with_class(config.reader), "queries": {a: _query(q) for a, q in config.queries.items()}},
        "writer": _with_class(config.writer),
        "settings": _plain(config.settings),
        "server": _plain(config.server),
        "monitoring": _plain(config.monitoring),
        "preset": config.preset,
    }
    masked = Masker(config.source).value("", tree)
    return yaml.dump(masked, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _model(alias: str, config: Config) -> dict[str, Any]:
    its = [group for group in config.groups if group.model_alias == alias]
    attached = {
        "queries": list(dict.fromkeys(q for group in its for q in group.query_aliases)),
        "schedulers": list(dict.fromkeys(group.scheduler_alias for group in its)),
    }
    own = _with_class(config.models[alias]).items()
    return {key: value for key, value in own if key not in attached} | attached


def _query(query: Query) -> dict[str, Any]:
    """A query by its configuration's keys, fallbacks filled in."""
    values = {
        "expr": query.expr,
        "step": str(Duration(query.step_ms)),
        "tz": query.tz,
        "offset": str(Duration(query.offset_ms)),
        "tenant_id": query.tenant_id or None,
        "max_points_per_query": query.max_points_per_query,
        "data_range": query.data_range,
        "detection_direction": query.detection_direction,
        "min_dev_from_expected": query.min_dev_from_expected,
        "min_rel_dev_from_expected": query.min_rel_dev_from_expected,
    }
    return {key: _plain(value) for key, value in values.items() if value is not None}


def _with_class(settings: Settings) -> dict[str, Any]:
    return {"class": tag(settings), **_plain(settings)}


def _plain(value: Any) -> Any:
    """Settings as maps, lists and scalars; what is unset is left out."""
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        # A range without bounds is the default, and written out it would override the models'.
        kept = {n: v for n in names if (v := getattr(value, n)) is not None and v != UNBOUNDED}
        return {name: _plain(v) for name, v in kept.items()}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Duration):
        return value.as_configured  # names of forecast series are made of it
    # Our value types are numbers and texts with a spelling of their own.
    is_own = isinstance(value, int | float | str) and type(value) not in (int, float, str, bool)
    return str(value) if is_own else value


def _plan(config: Config) -> Iterator[str]:
    """What will run, what cannot, and what is doubtful."""
    masker = Masker(config.source)
    yield "What will run"
    for alias, scheduler in config.schedulers.items():
        yield f"  scheduler {alias}: {tag(scheduler)}{_pace(scheduler)}"
        for group in (g for g in config.groups if g.scheduler_alias == alias):
            yield from _group(group, config, masker)
    if not config.groups:
        yield "  no scheduler"
    for verb, part in (("reads", config.reader), ("writes", config.writer)):
        where = getattr(part, "datasource_url", None) or getattr(part, "path", "nothing")
        yield f"  {verb}: {tag(part)}, {masker.text(str(where))}"
    server, pull, push = config.server, config.monitoring.pull, config.monitoring.push
    yield f"  serves: {server.addr}:{server.port}"
    if pull is not None and pull.port != server.port:
        yield f"  serves /metrics: {pull.addr}:{pull.port}"
    if push is not None:
        yield f"  pushes: {masker.text(push.url)}"
    for title, lines in (("Not available yet", config.unavailable), ("Warnings", config.warnings)):
        if lines:
            yield ""
            yield title
            yield from (f"  {line}" for line in lines)


def _pace(scheduler: Settings) -> str:
    if not isinstance(scheduler, PeriodicSettings):
        return ""
    fit_every = scheduler.fit_every or scheduler.infer_every
    return f", fits {scheduler.fit_window} every {fit_every}, infers every {scheduler.infer_every}"


def _group(group: Group, config: Config, masker: Masker) -> Iterator[str]:
    """One line for a model on a query; one for a model of several queries, and one for each of these."""
    model, queries = config.models[group.model_alias], [config.queries[alias] for alias in group.query_aliases]
    exprs = [" ".join(masker.text(query.expr).split()) for query in queries]
    names, step = " and ".join(group.query_aliases), Duration(queries[0].step_ms)
    head = f"    model {group.model_alias} ({tag(model)}) on {names}, step {step}"
    if len(queries) == 1:
        yield f"{head}: {exprs[0]}"
        return
    yield f"{head}, as one:"
    yield from (f"      {query.alias}: {expr}" for query, expr in zip(queries, exprs, strict=True))
