"""What a configuration is made into: reader, writer, the units of each scheduler with their groups, their schedule."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from engine import __version__
from engine.admission import Admission, Room
from engine.channels.group import ChannelGroup
from engine.channels.reader import ChannelReader
from engine.channels.table import ChannelTable
from engine.config.schema import Config
from engine.disk.codec import Record
from engine.errors import StartError
from engine.frame import Query, align_down
from engine.group import Group
from engine.memory import memory_capacity
from engine.metrics import Metrics
from engine.pipeline import Limits, Unit
from engine.pool import Pool
from engine.reader.base import Reader
from engine.reader.settings import LocalReaderSettings, ReaderSettings, VmReaderSettings
from engine.reader.shared import SharedReads
from engine.saving import Saver
from engine.scheduler.periodic import Task, go_on
from engine.scheduler.plan import Pace, Schedule
from engine.scheduler.settings import PeriodicSettings
from engine.scheduler.start import at_once_ms, start_from_ms
from engine.score import resolve
from engine.spool.spool import Spool
from engine.state.store import StateStore, fingerprint
from engine.writer.base import Writer
from engine.writer.labels import MULTITENANT, filled
from engine.writer.settings import LocalWriterSettings, VmWriterSettings

_DATA_VARIABLE = "VMANOMALY_DATA_DUMPS_DIR"

# What the oldest configurations write, as their guide says; newer ones write each model's own set.
_OLDEST_SERIES = ("anomaly_score", "y", "yhat", "yhat_lower", "yhat_upper")

# Which queries and schedulers a model is attached to is no part of what it is.
_ATTACHED = ("queries", "schedulers")


def settle_ms(reader: ReaderSettings, query: Query) -> int:
    """How long a point must have been past before it is read.

    Older VictoriaMetrics make up the last 30 s for steps below one minute; longer steps wait for the samples that
    are still on their way. A local file has neither.
    """
    if reader.settle is not None:
        return reader.settle
    if isinstance(reader, LocalReaderSettings):
        return 0
    return 30_000 if query.step_ms < 60_000 else 5_000


@contextmanager
def _named(section: str) -> Iterator[None]:
    try:
        yield
    except StartError as err:
        raise StartError(f"{section}: {err}") from err


@_named("reader")
def make_reader(config: Config, metrics: Metrics) -> Reader:
    """The configured reader."""
    settings = config.reader
    if isinstance(settings, VmReaderSettings):
        from engine.reader.vm import VmReader

        reader = VmReader(settings, metrics, config.preset, is_routed=_routes(config))
        _in_background(reader.probe)
        return reader
    if isinstance(settings, LocalReaderSettings):
        from engine.reader.local import LocalReader

        return LocalReader(settings, metrics, config.preset)
    from engine.reader.noop import NoopReader

    return NoopReader()


def _routes(config: Config) -> bool:
    """Whether the writer sends each series to the tenant that its labels say."""
    return isinstance(config.writer, VmWriterSettings) and config.writer.tenant_id == MULTITENANT


@_named("writer")
def make_writer(config: Config, metrics: Metrics, spool: Spool | None = None) -> Writer:
    """The configured writer.

    Parameters
    ----------
    spool : of an earlier writer, to go on with.
    """
    settings = config.writer
    if isinstance(settings, VmWriterSettings):
        from engine.writer.vm import VmWriter

        writer = VmWriter(settings, metrics, spool_folder(config), spool=spool)
        _in_background(writer.probe)
        return writer
    if isinstance(settings, LocalWriterSettings):
        from engine.writer.local import LocalWriter

        return LocalWriter(settings, metrics)
    from engine.writer.noop import NoopWriter

    return NoopWriter()


def spool_folder(config: Config) -> Path | None:
    """Where results wait on disk: as configured, or beside the state."""
    settings = config.writer
    if not isinstance(settings, VmWriterSettings):
        return None
    if settings.spool is not None and settings.spool.dir is not None:
        return Path(settings.spool.dir).absolute()
    return None if config.state_dir is None else config.state_dir / "spool"


def data_folder() -> str | None:
    """Where fit windows above the memory budget go; None is the system's folder."""
    return os.environ.get(_DATA_VARIABLE) or None


def make_data_folder() -> None:
    """Make that folder if it is not there.

    Raises
    ------
    StartError : nothing can be put there.
    """
    if (folder := data_folder()) is None:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise StartError(f"{_DATA_VARIABLE}: {folder}: {err.strerror}, expected a folder") from err
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StartError(f"{_DATA_VARIABLE}: {folder}: expected a folder that this user may write to")


def _in_background(probe: Callable[[], None]) -> None:
    """Run a probe beside the start: a database that hangs must not hold up /health, the first fit or a stop."""
    threading.Thread(target=probe, name="probe", daemon=True).start()


def make_tasks(
    config: Config,
    alias: str,
    reader: Reader,
    writer: Writer,
    pool: Pool,
    metrics: Metrics,
    is_stopping: Callable[[], bool] = lambda: False,
    store: StateStore | None = None,
    carried: Mapping[str, Record] | None = None,
    room: Room | None = None,
) -> list[Task]:
    """The units of one scheduler: one for each query, or set of queries of a multivariate model, that it needs.

    Parameters
    ----------
    store : state on disk.
    carried : state from the same process, by identity.
    room : for series of all schedulers; None has no end.
    """
    settings = config.schedulers[alias]
    assert isinstance(settings, PeriodicSettings)
    feeds: dict[tuple[bool, tuple[str, ...]], _Feed] = {}
    shared = SharedReads(reader)
    for group in (g for g in config.groups if g.scheduler_alias == alias):
        is_multivariate = config.models[group.model_alias].is_multivariate
        key = is_multivariate, group.query_aliases
        if key not in feeds:
            queries = [config.queries[name] for name in group.query_aliases]
            feeds[key] = _feed(queries, shared.user(queries), is_multivariate)
        feeds[key].groups.append(_make_group(config, alias, group.model_alias, feeds[key], pool, metrics))
    fit_every_ms = settings.fit_every or settings.infer_every
    limits = Limits(
        fit_window_ms=settings.fit_window,
        infer_every_ms=settings.infer_every,
        max_lookback_ms=config.reader.query_last_seen_max_lookback or fit_every_ms,
        catches_up=config.reader.query_from_last_seen_timestamp is not False,
        waits_for_late=config.reader.query_from_last_seen_timestamp is True,
        # Each scheduler has one fit at a time.
        memory_budget_bytes=config.settings.memory_budget.bytes_of(memory_capacity()) // len(config.schedulers),
        data_folder=data_folder(),
    )
    tasks = []
    for index, feed in enumerate(feeds.values()):
        query = feed.query
        savers = {g: _make_saver(config, g, feed, store, writer, metrics) for g in feed.groups}
        admission = _admission(config, feed, room or Room(None))
        unit = Unit(
            *(alias, query, feed.groups, limits, feed.reader, writer, pool, metrics, is_stopping),
            savers=savers,
            admission=admission,
        )
        delay_ms = settings.infer_every * index // len(feeds) if settings.scatter_infer_jobs else 0
        task = Task(unit, Pace(query.step_ms, settle_ms(config.reader, query), query.offset_ms, delay_ms))
        task.progress.fit_at_ms = unit.restore(carried or {})
        task.progress.lost_fit_at_ms = unit.lost_at_ms()
        go_on(task)
        task.progress.is_fitted = any(group.state is not None for group in feed.groups)
        tasks.append(task)
    return tasks


@dataclass(frozen=True, slots=True)
class _Feed:
    """One query, or several as the channels of multivariate models, with what reads it and the groups it feeds."""

    query: Query
    queries: tuple[Query, ...]
    reader: Reader
    channels: ChannelTable | None
    groups: list[Group] = field(default_factory=list)


def _feed(queries: list[Query], reader: Reader, is_multivariate: bool) -> _Feed:
    if not is_multivariate:
        return _Feed(queries[0], tuple(queries), reader, None)
    joint = ChannelReader(reader, queries)
    return _Feed(joint.query, joint.channels.queries, joint, joint.channels)


def _make_group(config: Config, alias: str, model_alias: str, feed: _Feed, pool: Pool, metrics: Metrics) -> Group:
    """A model on a feed."""
    model = config.models[model_alias]
    if config.is_oldest_style and model.provide_series is None and not model.is_multivariate:
        model = msgspec.structs.replace(model, provide_series=list(_OLDEST_SERIES))
    names = {
        "query_key": feed.query.alias,
        "model_alias": model_alias,
        "scheduler_alias": alias,
        "preset": config.preset,
    }
    outside = config.settings.anomaly_score_outside_data_range
    policies = [resolve(model, query, outside) for query in feed.queries]
    parts = (names, pool, metrics)
    writes = not config.is_oldest_style
    if feed.channels is None:
        model = model.for_query(feed.query, outside)
        return Group(model, feed.query, policies[0], *parts, writes_aliases=writes)
    if model.owns_policies:
        model = model.for_query(feed.query, outside)
    return ChannelGroup(model, feed.query, policies, feed.channels, *parts, writes_aliases=writes)


def _admission(config: Config, feed: _Feed, room: Room) -> Admission:
    """Which of a feed's series are taken: our own outputs never are."""
    table = feed.reader.table(feed.query) if feed.channels is None else feed.channels
    bounds = config.settings.max_series
    template: Mapping[str, str] = getattr(config.writer, "metric_format", {})
    keys = {group.query_alias for group in config.groups} | {q for group in config.groups for q in group.query_aliases}
    columns = {name for model in config.models.values() for name in (*model.provides, *(model.provide_series or ()))}
    own = {tuple(filled(text, key, column) for text in template.values()) for key in keys for column in columns}

    def is_own(labels: Mapping[str, str]) -> bool:
        if tuple(labels.get(name) for name in template) not in own or not template:
            return False
        return config.is_oldest_style or (
            labels.get("model_alias") in config.models
            and labels.get("scheduler_alias") in config.schedulers
            and labels.get("preset") == config.preset
        )

    return Admission(feed.query.alias, table, bounds.per_query if bounds else None, room, is_own)


def _make_saver(
    config: Config, group: Group, feed: _Feed, store: StateStore | None, writer: Writer, metrics: Metrics
) -> Saver:
    """What keeps a group's state; it is used again while nothing changes that state is made of."""
    alias = group.names["scheduler_alias"]
    model = group.model
    own = {name: getattr(model, name) for name in model.__struct_fields__ if name not in _ATTACHED}
    parts = [__version__, type(model).__name__, model.layout, own, config.schedulers[alias], feed.queries,
             getattr(config.reader, "extra_filters", None), *(["tenants"] if _routes(config) else [])]  # fmt: skip
    names = {"scheduler": alias, "model": group.names["model_alias"], "query": group.query.alias}
    table = feed.reader.table(feed.query) if feed.channels is None else feed.channels
    identity = fingerprint([names, *parts])
    keeper = None if store is None else store.keeper(names, identity)
    return Saver(group, table, identity, keeper, writer, metrics)


def make_schedule(settings: PeriodicSettings, tasks: list[Task], now: int, began_ms: int | None = None) -> Schedule:
    """The schedule of a scheduler that starts now, or goes on from fits that were restored.

    The grid of fits is that of `start_from`, else that of the oldest of those fits.

    Parameters
    ----------
    began_ms : its start before in this process, to go on from; `start_from` is waited for once.
    """
    fit_every_ms, every_ms = settings.fit_every or settings.infer_every, settings.infer_every
    fitted = [task.pace.tick_ms(at_ms, every_ms) for task in tasks for at_ms in task.unit.fits_ms()]
    if began_ms is not None:
        start_ms = began_ms
    elif settings.start_from:
        start_ms = start_from_ms(settings.start_from, settings.tz, fit_every_ms, now)
        if fitted:
            start_ms += align_down(min(*fitted, now) - start_ms, fit_every_ms)
    elif fitted:
        start_ms = align_down(min(*fitted, now), every_ms)
    else:
        start_ms = at_once_ms((task.pace for task in tasks), every_ms, now)
    return Schedule(settings.fit_window, fit_every_ms, every_ms, start_ms)
