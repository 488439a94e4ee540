"""The running service: how its parts start, change to another configuration, and stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

from engine import __version__
from engine.admission import Room
from engine.build import make_data_folder, make_reader, make_schedule, make_tasks, make_writer, spool_folder
from engine.config.schema import Config
from engine.disk.codec import Record
from engine.errors import StartError
from engine.memory import cpu_capacity, memory_capacity
from engine.metrics import Metrics
from engine.pool import Pool
from engine.reload import Reload
from engine.scheduler.periodic import PeriodicScheduler, now_ms
from engine.scheduler.settings import PeriodicSettings
from engine.server.app import Server, create_app
from engine.server.push import Pusher
from engine.spool.spool import Spool
from engine.state.store import StateStore, clear
from engine.writer.base import Writer
from engine.writer.settings import VmWriterSettings
from engine.writer.vm import VmWriter

log = logging.getLogger("service")

# A stop is over within eight seconds, also where all parts hang: each part's time, and that of all together.
_JOBS_S, _WRITES_S, _SERVER_S, _STOP_S = 3.0, 2.5, 1.0, 7.0
_LOOK_S = 0.25
_ATTEMPTS, _ATTEMPT_S = 4, 1.0


class Service:
    """Everything that one process runs, from start to stop; pool and metrics are the same for all configurations."""

    def __init__(self, config: Config, stop: threading.Event) -> None:
        self._config = config
        # Set when all is to stop: changes that are under way are given up.
        self._stop = stop
        self.metrics = Metrics(memory_bytes=memory_capacity())
        self.pool = Pool(config.settings.n_workers)
        self.metrics.threads.set(self.pool.n_workers)
        self._servers = self._make_servers(config)
        self._served_by: object = (config.server, config.monitoring.pull, config.tls_digest)
        self._written_by: tuple[object, Path | None, bytes] = (None, None, b"")
        self._spool: Spool | None = None
        # Neither a new configuration nor the one before could be run.
        self.is_broken = False
        self._expires_at = 0.0
        self._pusher: Pusher | None = None
        self._writer: Writer | None = None
        self._store: StateStore | None = None
        self._schedulers: list[PeriodicScheduler] = []
        # Of configurations before: what had not ended in time.
        self._leaving: list[PeriodicScheduler] = []
        # Where schedulers with `start_from` began: they wait for it once, whatever else of the configuration changes.
        self._begun: dict[tuple[str, PeriodicSettings], int] = {}
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start all parts; /health answers before the first query is sent.

        Raises
        ------
        StartError : a port is taken, or a part cannot be made.
        """
        log.info("Version: %s; %d threads for kernels, %.1f CPUs, %d MiB of memory",
                 __version__, self.pool.n_workers, cpu_capacity(), memory_capacity() >> 20)  # fmt: skip
        make_data_folder()
        for server in self._servers:
            server.start()
        self._begin(self._config, {})

    def apply(self, config: Config) -> None:
        """Run another configuration from now on. What it has in common with the one before goes on from its state.

        Raises
        ------
        StartError : it cannot be run; the one before goes on, unless all is to stop.
        """
        if config.unavailable:
            raise StartError("\n".join(config.unavailable))
        if config.settings.n_workers != self._config.settings.n_workers:
            log.warning("settings.n_workers takes effect at the next start")
        carried = self._halt()
        if self._stop.is_set():
            raise StartError("the service stops")
        try:
            self._change_servers(config)
            self._begin(config, carried)
        except Exception as err:
            self._halt()
            self._go_on(carried)
            raise err if isinstance(err, StartError) else StartError(f"{type(err).__name__}: {err}") from err
        self._config = config
        self.metrics.forget_all_but(_names(config))

    def expire(self) -> None:
        """Drop series that had no point for `settings.retention.ttl`, once it is time to look and there are some.

        Tables of labels only grow: what is kept is carried over to new ones.
        """
        retention = self._config.settings.retention
        if retention is None or retention.ttl is None or time.monotonic() < self._expires_at:
            return
        if any(scheduler.is_fitting() for scheduler in self._schedulers):
            return  # it would have to begin anew
        every = retention.check_interval or max(retention.ttl // 4, 60_000)
        self._expires_at = time.monotonic() + every / 1000
        ttl_ms = int(retention.ttl)
        n_stale = sum(scheduler.n_stale(ttl_ms) for scheduler in self._schedulers)
        if n_stale:
            log.info("Retention: %d series without a point for %s are dropped", n_stale, retention.ttl)
            self.metrics.expired.inc(n_stale)
            self._go_on(self._halt(ttl_ms))

    def watch(self) -> None:
        """Tell of what is stuck, and where."""
        for scheduler in self._schedulers:
            for text in scheduler.stuck():
                log.error("Stuck: %s", text)

    def stop(self, asked_s: float) -> bool:
        """Stop within eight seconds of when it was asked for; true when nothing was cut short."""
        self._stopping.set()

        def left(part_s: float, until_s: float = _STOP_S) -> float:
            return max(0.0, min(part_s, asked_s + until_s - time.monotonic()))

        for scheduler in self._schedulers:
            scheduler.stop()
        clean = all([s.join(left(_JOBS_S, _JOBS_S)) for s in (*self._schedulers, *self._leaving)])
        self._reader.close()
        if self._writer is not None:
            clean &= self._writer.drain(left(_WRITES_S))
            self._writer.close(0.1)
        if self._pusher is not None:
            self._pusher.stop(left(_SERVER_S))
        for server in self._servers:
            server.stop(left(_SERVER_S))
        self.pool.close()
        if self._store is not None and clean:
            self._store.close()
        return clean

    def _begin(self, config: Config, carried: Mapping[str, Record]) -> None:
        """Start reading, scoring and writing."""
        self._stopping = threading.Event()
        self._schedulers = []
        for scope in ("total", "shard"):
            self.metrics.entities.labels(config.preset, scope).set(len(config.groups))
        if config.monitoring.push is not None:
            self._pusher = Pusher(config.monitoring.push, self.metrics, port=config.server.port)
            self._pusher.start()
        self._reader = make_reader(config, self.metrics)
        self._writer = self._next_writer(config)
        self._store = self._next_store(config)
        n_queries = len({group.query_alias for group in config.groups})
        workers = config.reader.workers or max(1, min(n_queries, 2 * int(cpu_capacity())))
        bounds = config.settings.max_series
        room = Room(bounds.total if bounds else None)
        parts = (self._reader, self._writer, self.pool, self.metrics, self._stopping.is_set, self._store, carried, room)
        for alias, settings in config.schedulers.items():
            if not isinstance(settings, PeriodicSettings):
                continue
            tasks = make_tasks(config, alias, *parts)
            schedule = make_schedule(settings, tasks, now_ms(), self._begun.get((alias, settings)))
            if settings.start_from:
                self._begun[alias, settings] = schedule.start_ms
            after_job = self._pusher.notify if self._pusher else lambda: None
            made = PeriodicScheduler(alias, config.preset, schedule, tasks, workers, self.metrics, after_job=after_job)
            self._schedulers.append(made)
        if self._store is not None and (n_removed := self._store.remove_unused()):
            log.info("State of %d groups that are configured no more was removed", n_removed)
        for scheduler in self._schedulers:
            scheduler.start()
        log.info("Active schedulers: %s", ", ".join(s.alias for s in self._schedulers) or "none")

    def _go_on(self, carried: Mapping[str, Record]) -> None:
        """Run the configuration that ran before; what is in the way of it may pass."""
        for attempt in range(_ATTEMPTS):
            if self._stop.is_set():
                return
            try:
                self._change_servers(self._config)
                self._begin(self._config, carried)
                return
            except Exception:
                last = attempt == _ATTEMPTS - 1
                log.critical("Rollback failed%s", "" if last else ", trying again", exc_info=True)
                self._halt()
                self.is_broken = last
                self._stop.wait(0 if last else _ATTEMPT_S)

    def _halt(self, ttl_ms: int | None = None) -> dict[str, Record]:
        """Stop reading and scoring; the state of all groups. What hangs comes to an end by itself, without effect."""
        self._stopping.set()
        for scheduler in self._schedulers:
            scheduler.stop()
        self._reader.close()  # whoever waits for the database fails at once
        ends_at = time.monotonic() + _JOBS_S
        known = (*self._leaving, *self._schedulers)
        self._leaving = [s for s in known if not s.join(max(0.0, ends_at - time.monotonic()))]
        carried = {k: record for scheduler in self._schedulers for k, record in scheduler.carry(ttl_ms).items()}
        self._schedulers = []
        if self._pusher is not None:
            self._pusher.stop(_SERVER_S)
            self._pusher = None
        return carried

    def _next_writer(self, config: Config) -> Writer:
        """The writer that runs, where its settings are the same; else a new one, which goes on with its spool."""
        old, folder = self._writer, spool_folder(config)
        wanted = config.writer, folder, config.tls_digest
        if old is not None and wanted == self._written_by:
            return old
        self._writer = None
        if isinstance(old, VmWriter) and isinstance(config.writer, VmWriterSettings) and folder == self._written_by[1]:
            self._spool = old.hand_over(_WRITES_S)
        elif old is not None:
            old.drain(_WRITES_S)
            old.close(0.1)
        made = make_writer(config, self.metrics, self._spool)
        self._written_by, self._spool = wanted, None
        return made

    def _next_store(self, config: Config) -> StateStore | None:
        """The state folder; where state is not to be kept there is none left of it."""
        folder = config.state_dir
        if self._store is not None and config.settings.restore_state:
            self._store.begin()
            return self._store
        if self._store is not None:
            self._store.close()
        if folder is None or not config.settings.restore_state:
            if folder is not None and clear(folder):
                log.info("settings.restore_state is off: state in %s was removed", folder)
            return None
        return StateStore(folder)

    def _make_servers(self, config: Config) -> list[Server]:
        server, pull = config.server, config.monitoring.pull
        app = create_app(self.metrics, server.path_prefix or "", server.auth)
        servers = [Server(app, server.addr, server.port, server.tls, server.uvicorn_config)]
        if pull is not None and pull.port != server.port:
            servers.append(Server(create_app(self.metrics, auth=server.auth), pull.addr, pull.port, server.tls))
        return servers

    def _change_servers(self, config: Config) -> None:
        """Listen as a configuration says; not at all changed where that is the same."""
        wanted = config.server, config.monitoring.pull, config.tls_digest
        if wanted == self._served_by:
            return
        made = self._make_servers(config)
        for server in self._servers:
            server.stop(_SERVER_S)
        self._servers, self._served_by = [], None
        for server in made:
            server.start()
            self._servers.append(server)
        self._served_by = wanted


def _names(config: Config) -> Iterator[dict[str, str]]:
    """What the labels of metrics may say: each group's, and those of its queries alone."""
    for group in config.groups:
        names = {"scheduler_alias": group.scheduler_alias, "model_alias": group.model_alias, "preset": config.preset}
        for query in (group.query_alias, *group.query_aliases):
            yield {**names, "query_key": query}


def run(config: Config, reload: Reload | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit code.

    Parameters
    ----------
    reload : gives further configurations to run.

    Raises
    ------
    StartError : the configuration asks for a part that is not available, or the start failed.
    """
    if config.unavailable:
        raise StartError("\n".join(config.unavailable))
    stop = threading.Event()
    received: list[tuple[int, float]] = []

    def on_stop(number: int, _frame: FrameType | None) -> None:
        # Nothing else here: a log line could meet the one that it interrupted.
        received.append((number, time.monotonic()))
        stop.set()

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {signal.SIGTERM: on_stop, signal.SIGINT: on_stop}
    if reload is not None:
        handlers[signal.SIGHUP] = lambda *_: reload.ask()
    previous: Mapping[int, object] = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    service = Service(config, stop)
    service.start()
    if reload is not None:
        reload.start(config, service.metrics)
    while not stop.wait(_LOOK_S) and not service.is_broken:
        if reload is not None:
            reload.serve(service.apply)
        service.expire()
        service.watch()
    number, asked_s = received[0] if received else (0, time.monotonic())
    log.info("%s: stopping", signal.Signals(number).name if received else "broken")
    clean = service.stop(asked_s)
    for number, handler in previous.items():
        signal.signal(number, handler)  # type: ignore[arg-type]  # it is what `signal` gave
    log.info("stopped%s", "" if clean else "; work that was under way has been cut short")
    if not clean:
        # Threads that hang in the network or compute must not hold the exit; all that counts has been flushed.
        logging.shutdown()
        os._exit(int(service.is_broken))
    return int(service.is_broken)
