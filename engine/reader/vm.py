"""Reader `vm`: query_range of VictoriaMetrics or anything compatible, in pieces, to samples."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import httpx

from engine.errors import ReadError
from engine.frame import Query, Samples, Window, align_down
from engine.memory import cpu_capacity
from engine.metrics import Metrics
from engine.reader.decode import DecodeError, Decoder
from engine.reader.job import Job
from engine.reader.pieces import Pieces
from engine.reader.query_range import CLOSED, RangeEndpoint, seconds_text
from engine.reader.refusals import TooMuchError, points_limit
from engine.reader.settings import VmReaderSettings, full_tenant
from engine.series import SeriesTable

log = logging.getLogger("reader.vm")

# VictoriaMetrics' default of -search.maxPointsPerTimeseries.
BUILT_IN_MAX_POINTS = 30_000
# Servers count the steps of a range in slightly different ways.
_SAFETY_POINTS = 10
_PROBE_S = 5.0
_PROBE_STEP_MS = 60_000
_PROBE = "_vmanomaly_healthcheck"
# The same trouble of a query is not logged again sooner than this.
_REPEAT_S = 600.0
# Once so much of an answer has come the next one is asked for: what servers send they send on one core.
_SHARE_AHEAD = 0.25


class _Source:
    """What is known of one query: its series, its decoder, how many series and bytes a step answered last."""

    def __init__(self, extra_labels: Mapping[str, str]) -> None:
        self.table = SeriesTable()
        self.decoder = Decoder(self.table, extra_labels)
        self.n_series: int | None = None
        self.step_bytes = 0.0
        self.has_warned_of_tenant = False
        self.warned_of_part_s = float("-inf")


class _Meters:
    """The reader's metrics of one (query, scheduler)."""

    def __init__(self, metrics: Metrics, labels: Mapping[str, str]) -> None:
        self._reads, self._labels = metrics.reads, labels
        self._seconds = metrics.read_seconds.labels(**labels)
        self.n_bytes = metrics.read_bytes.labels(**labels)
        self.parse_seconds = metrics.parse_seconds.labels(**labels, step="json")
        self.place_seconds = metrics.parse_seconds.labels(**labels, step="df")
        self.n_series = metrics.read_series.labels(**labels)
        self.n_points = metrics.read_points.labels(**labels)
        self.n_duplicates = metrics.read_duplicates.labels(**labels)
        self.n_waiting = metrics.read_queue.labels(**labels)
        metrics.reads.labels(**labels, code="200")

    def observe(self, code: str, seconds: float) -> None:
        """Count one answer, or a failure to get one."""
        self._reads.labels(**self._labels, code=code).inc()
        self._seconds.observe(seconds)


class VmReader:
    """Reads queries over windows by query_range; reproduces vmanomaly's VmReader.

    Differences: redirects are never followed; certificates are verified unless `verify_tls` is false; a window is
    also cut by the points that its answer would have; answers are decoded without an object per point.

    The windows that `read` is given are in the data's own time: `offset` moves what the scheduler asks for, and
    timestamps stay as the server sent them.

    Parameters
    ----------
    transport : in place of the network, for tests.
    is_routed : the writer sends each series to the tenant that its labels say, also where there is only one.
    """

    def __init__(
        self,
        settings: VmReaderSettings,
        metrics: Metrics,
        preset: str,
        transport: httpx.BaseTransport | None = None,
        *,
        is_routed: bool = False,
    ) -> None:
        n_workers = settings.workers or min(max(2, len(settings.queries)), 2 * max(1, int(cpu_capacity())))
        self._settings = settings
        self._metrics = metrics
        self._preset = preset
        self._is_routed = is_routed
        self._endpoint = RangeEndpoint(settings, n_workers, transport)
        self._executor = ThreadPoolExecutor(n_workers, thread_name_prefix="fetch")
        self._max_points = BUILT_IN_MAX_POINTS
        # As a refusal said; a configured limit above it would cost one each time.
        self._refused_above: int | None = None
        self._sources: dict[str, _Source] = {}
        self._meters: dict[tuple[str, str], _Meters] = {}
        self._lock = threading.Lock()

    def table(self, query: Query) -> SeriesTable:
        return self._source(query).table

    def read(self, query: Query, window: Window, scheduler_alias: str) -> Iterator[tuple[Window, Samples]]:
        source, meters = self._source(query), self._meters_of(query, scheduler_alias)
        pieces = Pieces(window, self._limit(query, window), source.n_series)
        jobs = deque(self._start(query, pieces, source, meters))
        try:
            while jobs:
                # Where its size is known the next piece is fetched while this one arrives, is decoded and used.
                is_sized = source.n_series is not None
                if is_sized and jobs[0].is_coming():
                    jobs.extend(self._start(query, pieces, source, meters))
                try:
                    body = jobs[0].result()
                except TooMuchError as err:
                    piece = jobs.popleft().piece
                    self._abandon(jobs, meters)
                    self._shrink(pieces, piece, err)
                    jobs.extend(self._start(query, pieces, source, meters))
                    continue
                meters.n_waiting.dec()
                piece = jobs.popleft().piece
                samples = self._decode(query, piece, body, source, meters)
                source.n_series, source.step_bytes = samples.series.size, len(body) / piece.n_steps
                del body
                pieces.learn(samples.series.size)
                if not is_sized:
                    jobs.extend(self._start(query, pieces, source, meters))
                yield piece, samples
                del samples  # the next ones need its room
        finally:
            self._abandon(jobs, meters)

    def probe(self) -> None:
        """Ask one harmless query per tenant, and the server's limits; what goes wrong is logged and nothing more."""
        now_ms = align_down(int(time.time() * 1000), _PROBE_STEP_MS)
        own = self._settings.tenant_id
        tenants = {own if q.tenant_id is None else q.tenant_id for q in self._settings.queries.values()}
        for tenant in sorted({tenant or "" for tenant in tenants}):
            query = Query(_PROBE, _PROBE, _PROBE_STEP_MS, tenant_id=tenant)
            try:
                self._endpoint.get(query, Window(now_ms, now_ms, _PROBE_STEP_MS), _not_counted, _PROBE_S)
            except ReadError as err:
                log.warning("datasource %s does not answer queries: %s", self._endpoint.url(tenant), err)
                return
        limit = points_limit(self._endpoint.fetch_flags().replace('"', ""))
        if limit is None:
            log.debug("Could not get constraints: %d points per timeseries are assumed", self._max_points)
            return
        self._max_points = limit
        log.debug("Max points per timeseries set as %d", limit)

    def placed(self, query: Query, scheduler_alias: str, seconds: float) -> None:
        self._meters_of(query, scheduler_alias).place_seconds.observe(seconds)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._endpoint.close()

    def _start(self, query: Query, pieces: Pieces, source: _Source, meters: _Meters) -> list[Job]:
        """The fetch of the next piece, begun on a worker thread; none when the window is covered."""
        piece = pieces.next()
        if piece is None:
            return []

        def fetch(arrived: Callable[[int], None]) -> Future[bytearray]:
            return self._executor.submit(self._fetch, query, piece, meters, arrived)

        try:
            return [Job(piece, fetch, _SHARE_AHEAD * source.step_bytes * piece.n_steps)]
        except RuntimeError as err:
            raise ReadError(CLOSED, "io_error") from err

    def _abandon(self, jobs: deque[Job], meters: _Meters) -> None:
        while jobs:
            jobs.popleft().abandon(meters.n_waiting.dec)

    def _fetch(self, query: Query, piece: Window, meters: _Meters, arrived: Callable[[int], None]) -> bytearray:
        with self._placed_error(query, piece):
            body = self._endpoint.get(query, piece, meters.observe, arrived=arrived)
        meters.n_bytes.inc(len(body))
        meters.n_waiting.inc()
        return body

    @contextlib.contextmanager
    def _placed_error(self, query: Query, piece: Window) -> Iterator[None]:
        """Errors say which query they are of, where and when."""
        try:
            yield
        except ReadError as err:
            where = self._endpoint.url(query.tenant_id)
            span = f"start={seconds_text(piece.start_ms)}, end={seconds_text(piece.end_ms)}"
            step = f"step={seconds_text(piece.step_ms)}"
            err.args = (f"Error querying {where} for {query.alias!r} with {span}, {step}: {err}",)
            raise

    def _decode(self, query: Query, piece: Window, body: bytearray, source: _Source, meters: _Meters) -> Samples:
        n_known = len(source.table)
        started = time.monotonic()
        with self._placed_error(query, piece):
            try:
                answer = source.decoder.decode(body)
            except DecodeError as err:
                raise ReadError(f"status 200: {self._endpoint.shown(str(err))}", "200") from err
        meters.parse_seconds.observe(time.monotonic() - started)
        meters.n_series.inc(answer.samples.series.size)
        meters.n_points.inc(answer.samples.n_points)
        meters.n_duplicates.inc(answer.n_duplicates)
        if answer.is_partial and time.monotonic() - source.warned_of_part_s >= _REPEAT_S:
            source.warned_of_part_s = time.monotonic()
            log.warning("query %r: the answer is partial, a part of the cluster's storage is away", query.alias)
        if query.tenant_id == "multitenant" and not source.has_warned_of_tenant:
            new = range(n_known, len(source.table))
            if any("vm_account_id" not in source.table.labels(k) for k in new):
                source.has_warned_of_tenant = True
                log.warning(
                    "The label vm_account_id was not found in series of query %r: aggregate by (vm_account_id, "
                    "vm_project_id) too, or results are written to tenant 0:0",
                    query.alias,
                )
        return answer.samples

    def _limit(self, query: Query, window: Window) -> int:
        """The most points of one series to ask for at once."""
        server = max(1, self._max_points - _SAFETY_POINTS)
        limit = query.max_points_per_query or self._settings.max_points_per_query or server
        if self._refused_above is not None:
            limit = min(limit, max(1, self._refused_above - _SAFETY_POINTS))
        if window.n_steps > limit:
            log.warning(
                'Query "%s" from %d to %d with step %s s may exceed max datapoints per timeseries (%d): it is cut',
                *(query.alias, window.start_ms // 1000, window.end_ms // 1000, seconds_text(window.step_ms), limit),
            )
        return limit

    def _shrink(self, pieces: Pieces, piece: Window, err: TooMuchError) -> None:
        """Go on with smaller pieces, or raise the error of a piece that cannot be smaller."""
        if err.limit is not None:
            self._refused_above = err.limit
        # Our own time-out has cost its full length: fewer of these than of the server's prompt refusals.
        divisor = 4 if err.took_too_long else 2
        is_first = not pieces.has_shrunk
        if not pieces.shrink(piece, divisor, None if err.limit is None else err.limit - _SAFETY_POINTS):
            raise ReadError(str(err), err.code) from err
        if is_first:
            log.warning("%s: smaller pieces than these %d points are asked for", err, piece.n_steps)

    def _source(self, query: Query) -> _Source:
        with self._lock:
            if query.alias not in self._sources:
                self._sources[query.alias] = _Source(self._tenant_labels(query.tenant_id))
            return self._sources[query.alias]

    def _tenant_labels(self, tenant: str) -> dict[str, str]:
        """Labels that tell the writer a series' tenant, where it wants them or one reader reads several."""
        named = (self._settings.tenant_id, *(q.tenant_id for q in self._settings.queries.values()))
        is_one = len({full_tenant(name) for name in named if name}) == 1
        if not tenant or tenant == "multitenant" or (is_one and not self._is_routed):
            return {}
        account, _, project = full_tenant(tenant).partition(":")
        return {"vm_account_id": account, "vm_project_id": project}

    def _meters_of(self, query: Query, scheduler_alias: str) -> _Meters:
        with self._lock:
            key = query.alias, scheduler_alias
            if key not in self._meters:
                labels = {
                    "url": self._endpoint.url(query.tenant_id),
                    "query_key": query.alias,
                    "scheduler_alias": scheduler_alias,
                    "preset": self._preset,
                }
                self._meters[key] = _Meters(self._metrics, labels)
            return self._meters[key]


def _not_counted(code: str, seconds: float) -> None:
    """The probe belongs to no query."""
