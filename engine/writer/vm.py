"""Writer `vm`: import lines to VictoriaMetrics, in order, again and again while the database is away."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from engine.errors import WriteError
from engine.frame import Batch
from engine.metrics import Metrics
from engine.spool.refused import Refused
from engine.spool.spool import GivenUp, Spool
from engine.writer.encode import Body, Encoder, load_kernels
from engine.writer.post import ImportEndpoint, RestartWatch, TemporaryWriteError
from engine.writer.queue import Delivery, DeliveryQueue
from engine.writer.settings import SpoolSettings, VmWriterSettings

log = logging.getLogger("writer.vm")

QUEUE_BYTES = 256 << 20
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
# VictoriaMetrics keeps up to ten seconds of acknowledged samples in memory: a killed one has lost them.
_UNSAFE_S = 15.0
# Nothing is delivered while the start time is looked at.
_LOOK_TIMEOUT_S = 1.0
# The same trouble is not logged again sooner than this.
_REPEAT_S = 600.0


class VmWriter:
    """Delivers batches on a thread of its own, at least once.

    What cannot be delivered waits in the spool until the database takes it or the spool's bounds give up the oldest.
    A body that the database will never take is set aside alone. After a connection was lost, or the database was
    started anew, the batches of the last seconds before are sent again; it keeps one of equal samples.

    Parameters
    ----------
    settings : of the section `writer`.
    folder : for the spool; None keeps it in memory.
    spool : to go on with; else one is made.
    queue_bytes : bound of a spool in memory.

    Raises
    ------
    StartError : the folder, or a TLS file, cannot be used.
    """

    def __init__(
        self,
        settings: VmWriterSettings,
        metrics: Metrics,
        folder: Path | None = None,
        *,
        queue_bytes: int = QUEUE_BYTES,
        spool: Spool | None = None,
    ) -> None:
        self._timeout_s = settings.timeout.seconds
        self._n_retries = settings.connection_retry_attempts
        self._metrics = metrics
        self._endpoint = ImportEndpoint(settings)
        self._watch = RestartWatch(self._endpoint, min(self._timeout_s, _LOOK_TIMEOUT_S))
        self._url = self._endpoint.shown_url
        self._encoder = Encoder(
            settings.metric_format,
            settings.tenant_id or "",
            settings.batch_max_bytes,
            settings.batch_max_series,
            settings.metric_prefix_cache_max_entries,
        )
        bounds = settings.spool or SpoolSettings()
        if folder is None:
            self._spool = spool or Spool(None, queue_bytes)
        else:
            self._spool = spool or Spool(folder, bounds.max_bytes)
            self._spool.set_bounds(bounds.max_bytes, bounds.max_age.seconds)
        self._folder = folder
        self._refused = Refused(folder)
        self._queue = DeliveryQueue(self._spool)
        metrics.write_queue.labels(self._url).set_function(self._spool.waiting_bytes)
        metrics.spool_bytes.labels(self._url).set_function(lambda: self._spool.size_bytes(on_disk=True))
        metrics.spool_age.labels(self._url).set_function(self._spool.waiting_s)
        self._logged: dict[tuple[str, str], float] = {}
        self._failing_since: float | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._has_looked = False
        self._looked_s = self._taken_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name="writer-vm", daemon=True)
        self._thread.start()

    def probe(self) -> None:
        """Log whether the database takes writes, by an import of nothing."""
        try:
            self._endpoint.post(b"", self._timeout_s)
        except WriteError as err:
            log.warning("Writing is not possible yet: %s; results wait and will be delivered in order", err)
        else:
            log.info("Writing to %s", self._url)

    def submit(self, batch: Batch) -> None:
        """Put a batch in the spool; never waits for the network. What is given up for it is counted and logged."""
        # Shares of good answers are alerted on: the good ones must exist before the first bad one.
        self._metrics.writes.labels(**self._names(batch), code="200")
        if self._queue.seconds_left() <= 0:
            self._give_up([GivenUp(batch, "shutdown")])
        else:
            self._give_up(self._queue.put(batch))

    def position(self) -> int:
        """How many batches were ever submitted."""
        return self._spool.n_added

    def is_safe(self) -> bool:
        """Whether what was submitted is delivered or would outlive the process."""
        return self._spool.is_durable()

    def has_lost(self, start: int, end: int) -> bool:
        """Whether batches between two positions were damaged on disk before they were delivered for sure."""
        return self._spool.has_lost(start, end)

    def drain(self, timeout_s: float) -> bool:
        """Wait until the queue is empty; false when the time was over first."""
        return self._queue.wait_empty(timeout_s)

    def hand_over(self, timeout_s: float) -> Spool:
        """Stop delivering; the spool is for another writer to go on with."""
        self._end(0, timeout_s)
        self._give_up(self._spool.set_back())
        return self._spool

    def close(self, timeout_s: float) -> None:
        """Deliver what can be delivered in the time given, then stop; what is then lost is counted and logged."""
        self._end(timeout_s, timeout_s)
        n_waiting = self._spool.n_waiting()
        self._give_up(self._spool.close())
        if n_waiting and self._folder is not None:
            log.info("%d results wait in %s for the next start", n_waiting, self._folder)

    def _end(self, delivering_s: float, timeout_s: float) -> None:
        """Stop delivering after a while; what waits is no longer this writer's to show."""
        self._queue.close(delivering_s)
        self._thread.join(timeout_s)
        for gauge in (self._metrics.write_queue, self._metrics.spool_bytes, self._metrics.spool_age):
            with contextlib.suppress(KeyError):  # older clients raise it at a second time
                gauge.remove(self._url)

    def _run(self) -> None:
        try:
            load_kernels()
            while not self._queue.is_over():
                self._settle()
                delivery = self._queue.take(1.0)
                if delivery is not None:
                    self._try(delivery)
        finally:
            self._endpoint.close()

    def _try(self, delivery: Delivery) -> None:
        try:
            self._deliver(delivery)
        except TemporaryWriteError as err:
            if self._queue.seconds_left() <= 0:
                return  # what is left is counted by `close`
            pause_s = max(self._pause_s, err.after_s)
            self._report_failure(delivery.batch, err, pause_s)
            self._give_up(self._spool.set_back())
            self._queue.pause(pause_s)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        except Exception:  # whatever one batch holds, the next ones are delivered
            log.exception("Cannot write a batch of query %r", delivery.batch.query_key)
            self._drop(delivery.batch, "failed", delivery.n_left())
            self._queue.done()
        else:
            self._queue.done()

    def _look_first(self) -> None:
        """Before the first delivery: whoever takes it must be known."""
        if self._has_looked:
            return
        try:
            self._watch.is_restarted()
        except TemporaryWriteError as err:
            self._has_looked = err.code != "connection_error"  # else it is away, and will not take a body either
        else:
            self._has_looked = True

    def _settle(self) -> None:
        """Ask whether the database still is the one that took the last batches, once they are safe with that."""
        delivered_s, now = self._spool.first_delivered_s(), time.monotonic()
        if now - max(delivered_s, self._looked_s) < _UNSAFE_S or self._failing_since is not None:
            return
        self._looked_s = now
        try:
            if self._watch.is_restarted():
                log.info("%s was started anew: what it took last is sent again", self._url)
                self._spool.repeat()
            else:
                self._spool.settle(now - _UNSAFE_S)
        except TemporaryWriteError as err:
            log.debug("Cannot see whether the database was started anew: %s", err)
            if err.code == "connection_error":
                self._endpoint.reconnect()
                self._spool.repeat()
            elif err.code == "timeout":
                # It may hang: all that is known is that it was alive when it took the last body.
                self._spool.settle(self._taken_s - _UNSAFE_S)

    def _deliver(self, delivery: Delivery) -> None:
        """Send what is left of a batch.

        Raises
        ------
        TemporaryWriteError : the database is away; the delivery knows where to go on.
        """
        batch = delivery.batch
        self._look_first()
        delivery.bodies = delivery.bodies or self._encoder.encode(batch)
        while body := delivery.pending or self._next_body(delivery):
            delivery.pending = body
            if body.data:
                self._send(batch, body)
            if body.n_refused:
                self._drop(batch, "collision", body.n_refused)
            delivery.n_settled += body.n_points + body.n_refused
            delivery.pending = None
        if delivery.n_settled == 0:
            log.warning(
                "No valid datapoints to save for metric %s of query %r", list(batch.output.columns), batch.query_key
            )

    def _next_body(self, delivery: Delivery) -> Body | None:
        assert delivery.bodies is not None
        started = time.perf_counter()
        body = next(delivery.bodies, None)
        if body is not None:
            names = self._names(delivery.batch)
            self._metrics.serialize_seconds.labels(**names).observe(time.perf_counter() - started)
        return body

    def _send(self, batch: Batch, body: Body) -> None:
        """Deliver a body, or drop one that the database will never take; tries at once again on a new connection."""
        for retry in range(self._n_retries + 1):
            try:
                self._attempt(batch, body)
            except TemporaryWriteError as err:
                if err.code != "connection_error" or self._queue.seconds_left() <= 0:
                    raise
                self._endpoint.reconnect()
                self._spool.repeat()
                if retry == self._n_retries:
                    raise
                log.debug("Connection error while writing, trying again at once: %s", err)
            except WriteError as err:
                kept = "are set aside" if self._refused.keep(body.data) else "are dropped"
                text = f"Cannot write {body.n_points} points for query {batch.query_key!r}: {err}; they {kept}"
                self._log_once(logging.ERROR, batch.query_key, err.code, text)
                self._drop(batch, "refused", body.n_points)
                return
            else:
                return

    def _attempt(self, batch: Batch, body: Body) -> None:
        names = self._names(batch)
        log.debug("POST %s with %d datapoints, %d bytes of payload", self._url, body.n_points, len(body.data))
        started = time.perf_counter()
        code = "io_error"
        try:
            code = str(self._endpoint.post(body.data, min(self._timeout_s, max(0.05, self._queue.seconds_left()))))
        except WriteError as err:
            code = err.code
            raise
        finally:
            self._metrics.write_seconds.labels(**names).observe(time.perf_counter() - started)
            self._metrics.writes.labels(**names, code=code).inc()
        self._metrics.sent_bytes.labels(**names).inc(len(body.data))
        self._metrics.sent_points.labels(**names).inc(body.n_points)
        self._metrics.sent_series.labels(**names).inc(body.n_series)
        self._report_success()

    def _report_failure(self, batch: Batch, err: TemporaryWriteError, pause_s: float) -> None:
        start = "Connection error while writing" if err.code == "connection_error" else "Cannot write now"
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        text = f"{start}: {err}; query {batch.query_key!r} and later results wait, next try in {pause_s:g} s"
        self._log_once(logging.WARNING, "", err.code, text)

    def _report_success(self) -> None:
        self._taken_s = time.monotonic()
        self._pause_s = _FIRST_PAUSE_S
        if self._failing_since is not None:
            log.info("Writing to %s works again after %.1f s", self._url, time.monotonic() - self._failing_since)
            self._failing_since = None
            self._logged.clear()

    def _log_once(self, level: int, place: str, cause: str, text: str) -> None:
        """Log trouble the first time and then every ten minutes while it lasts."""
        now = time.monotonic()
        if now - self._logged.get((place, cause), -_REPEAT_S) >= _REPEAT_S:
            self._logged[place, cause] = now
            log.log(level, "%s", text)

    def _give_up(self, given_up: Iterable[GivenUp]) -> None:
        for each in given_up:
            self._drop(each.batch, each.reason, each.n_points)
            text = f"Cannot write {each.n_points} points for query {each.batch.query_key!r}: given up ({each.reason})"
            self._log_once(logging.ERROR, each.batch.query_key, each.reason, text)

    def _drop(self, batch: Batch, reason: str, n_points: int) -> None:
        self._metrics.dropped_points.labels(**self._names(batch), reason=reason).inc(n_points)

    def _names(self, batch: Batch) -> dict[str, str]:
        return {"url": self._url, **batch.metric_labels}
