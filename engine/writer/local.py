"""Writer `local`: rows of a DuckDB table, one for each series and timestamp."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from engine.duck import DuckFile, StoreError, identifier, timestamp_sql
from engine.frame import Batch
from engine.metrics import Metrics
from engine.series import SeriesTable
from engine.writer.labels import filled
from engine.writer.settings import LocalWriterSettings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Connection

log = logging.getLogger("writer.local")

QUEUE_BYTES = 256 << 20
# Batches that come within this time are written while the file is open once: a replay of the past is faster than
# files open.
_GATHER_S = 0.2
AT_ONCE = 32
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_KEY = ("for", "model_alias", "scheduler_alias", "preset")


class LocalWriter:
    """Writes batches into a table; a repeated (timestamp, aliases, labels) replaces the row that was there.

    Batches wait in memory while another process has the file, the oldest of more than 256 MiB is given up.
    """

    def __init__(self, settings: LocalWriterSettings, metrics: Metrics) -> None:
        self._file = DuckFile(settings.path)
        self._url = settings.path
        self._table = identifier(settings.table)
        self._format = dict(settings.metric_format)
        self._metrics = metrics
        self._label_texts: weakref.WeakKeyDictionary[SeriesTable, list[str]] = weakref.WeakKeyDictionary()
        self._changed = threading.Condition()
        self._queue: deque[Batch] = deque()
        self._under_way: deque[Batch] = deque()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="writer-local", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        """Queue a batch; never waits for the file."""
        with self._changed:
            if self._is_closing:
                self._give_up(batch, "shutdown", "the service stops")
                return
            self._queue.append(batch)
            while len(self._queue) > 1 and sum(b.output.size_bytes for b in self._queue) > QUEUE_BYTES:
                self._give_up(self._queue.popleft(), "queue_full", "the queue is full")
            self._changed.notify_all()

    def position(self) -> int:
        """Nothing is kept but in memory."""
        return 0

    def is_safe(self) -> bool:
        """Batches wait for a moment in memory only: a kill just then loses them."""
        return True

    def has_lost(self, start: int, end: int) -> bool:
        """There is no spool."""
        return False

    def drain(self, timeout_s: float) -> bool:
        """Wait until all batches are written; false when the time was over first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._under_way, timeout_s)

    def close(self, timeout_s: float) -> None:
        """Write what can be written in the time given, then stop; what is then lost is counted and logged."""
        self.drain(timeout_s)
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._file.interrupt()
        self._thread.join(timeout_s)
        with self._changed:
            for batch in (*self._under_way, *self._queue):
                self._give_up(batch, "shutdown", "the service stops")
            self._queue.clear()

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._under_way or self._is_closing)
                self._changed.wait_for(lambda: len(self._queue) >= AT_ONCE or self._is_closing, _GATHER_S)
                if self._is_closing:
                    return
                while self._queue and len(self._under_way) < AT_ONCE:
                    self._under_way.append(self._queue.popleft())
            try:
                self._write_all()
                pause_s = _FIRST_PAUSE_S
            except StoreError as err:
                if self._under_way:
                    self._count(self._under_way[0], err.code)
                if self._under_way and not err.retryable:
                    self._give_up(self._under_way.popleft(), "refused", str(err))
                    continue
                log.warning("%s; %d batches wait", err, len(self._under_way) + len(self._queue))
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closing, pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            except Exception:  # whatever one batch holds, the next ones are written
                log.exception("%s: a batch cannot be written", self._url)
                if self._under_way:
                    self._give_up(self._under_way.popleft(), "failed", "it cannot be written")
            finally:
                with self._changed:
                    waiting = sum(b.output.size_bytes for b in (*self._under_way, *self._queue))
                    self._metrics.write_queue.labels(self._url).set(waiting)
                    self._changed.notify_all()

    def _write_all(self) -> None:
        """Write the batches under way with the file open once; each is a transaction."""
        with self._file.open(read_only=False) as connection:
            while self._under_way:
                self._write(connection, self._under_way[0])
                self._under_way.popleft()

    def _write(self, connection: Connection, batch: Batch) -> None:
        start = time.perf_counter()
        names = [filled(self._format["__name__"], batch.query_key, name) for name in batch.output.columns]
        points, texts = _points(batch, names), self._texts(batch)
        encoded = time.perf_counter()
        connection.register("points", points)
        connection.register("series", {"series": batch.output.series, "labels": np.array(texts, dtype=object)})
        connection.begin()
        self._extend(connection, names)
        self._replace(connection, batch, names)
        connection.commit()
        labels = self._count(batch, "200")
        self._metrics.serialize_seconds.labels(*labels).observe(encoded - start)
        self._metrics.write_seconds.labels(*labels).observe(time.perf_counter() - encoded)
        self._metrics.sent_bytes.labels(*labels).inc(sum(column.nbytes for column in points.values()))
        self._metrics.sent_series.labels(*labels).inc(len(np.unique(points["series"])) * len(names))
        self._metrics.sent_points.labels(*labels).inc(batch.output.n_points)

    def _extend(self, connection: Connection, names: list[str]) -> None:
        """Make the table, and columns for outputs that it does not have yet."""
        keys = ", ".join(f"{identifier(key)} VARCHAR" for key in _KEY)
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} "
            f"(timestamp TIMESTAMP NOT NULL, {keys}, labels MAP(VARCHAR, VARCHAR) NOT NULL)"
        )
        for name in names:
            connection.execute(f"ALTER TABLE {self._table} ADD COLUMN IF NOT EXISTS {identifier(name)} DOUBLE")

    def _replace(self, connection: Connection, batch: Batch, names: list[str]) -> None:
        """Delete rows with the batch's keys, insert its rows."""
        given = {"for": "", **{name: getattr(batch, name) for name in _KEY[1:]}} | self._format
        key = [filled(given[name], batch.query_key, "") or None for name in _KEY]
        columns = ", ".join(identifier(name) for name in names)
        finite = ", ".join(f"CASE WHEN isfinite(c{k}) THEN c{k} END AS {identifier(n)}" for k, n in enumerate(names))
        connection.execute(f"""
            CREATE OR REPLACE TEMP TABLE incoming AS
            SELECT make_timestamp_ms(t) AS timestamp, CAST(CAST(labels AS JSON) AS MAP(VARCHAR, VARCHAR)) AS labels,
                   {finite}
            FROM points JOIN series USING (series) ORDER BY t, series
        """)
        times = batch.output.timestamps_ms
        if times.size:
            same = " AND ".join(f"old.{identifier(name)} IS NOT DISTINCT FROM ?" for name in _KEY)
            connection.execute(
                f"""DELETE FROM {self._table} AS old USING incoming
                WHERE old.timestamp BETWEEN {timestamp_sql(times[0])} AND {timestamp_sql(times[-1])}
                AND {same} AND old.timestamp = incoming.timestamp AND old.labels = incoming.labels""",
                key,
            )
        connection.execute(
            f"""INSERT INTO {self._table} (timestamp, {", ".join(map(identifier, _KEY))}, labels, {columns})
            SELECT timestamp, ?, ?, ?, ?, labels, {columns} FROM incoming""",
            key,
        )

    def _texts(self, batch: Batch) -> list[str]:
        """Labels of the batch's series as JSON; made once for each series."""
        known = self._label_texts.setdefault(batch.table, [])
        constant = {
            name: filled(text, batch.query_key, "")
            for name, text in self._format.items()
            if name not in ("__name__", *_KEY)
        }
        for number in range(len(known), len(batch.table)):
            labels = batch.table.labels(number) | constant
            known.append(msgspec.json.encode(labels, order="sorted").decode())
        return [known[number] for number in batch.output.series.tolist()]

    def _labels(self, batch: Batch) -> tuple[str, ...]:
        names = ("query_key", "scheduler_alias", "preset")
        return (self._url, *(batch.metric_labels.get(name, "") for name in names))

    def _count(self, batch: Batch, code: str) -> tuple[str, ...]:
        labels = self._labels(batch)
        self._metrics.writes.labels(*labels, code).inc()
        return labels

    def _give_up(self, batch: Batch, reason: str, text: str) -> None:
        n_points = batch.output.n_points
        self._metrics.dropped_points.labels(*self._labels(batch), reason).inc(n_points)
        log.error("%s: %d points of query %r are lost: %s", self._url, n_points, batch.query_key, text)


def _points(batch: Batch, names: list[str]) -> dict[str, Any]:
    """Arrays of equal length: series number, time and columns c0, c1 … of the rows with any finite value."""
    output = batch.output
    n_steps = output.timestamps_ms.size
    columns = [column.reshape(-1) for column in output.columns.values()]
    keep = np.zeros(output.series.size * n_steps, dtype=bool)
    for column in columns:
        keep |= np.isfinite(column)
    return {
        "series": np.repeat(output.series, n_steps)[keep],
        "t": np.tile(output.timestamps_ms, output.series.size)[keep],
        **{f"c{k}": columns[k][keep] for k in range(len(names))},
    }
