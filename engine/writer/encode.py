"""Batches to bounded import bodies: kept label prefixes and one kernel call per column and body."""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import orjson

from engine.frame import F64, I64, Batch, Output
from engine.series import SeriesTable
from engine.writer.labels import LabelWarnings, generated_labels, received_labels
from engine.writer.settings import METRIC_FORMAT
from kernels._jit import U8
from kernels.json_out import FRAME_BYTES, NUMBER_BYTES, STAMP_BYTES, import_lines, stamp_texts

_HEAD_START = b'{"metric":{'
_TAIL_END = b'},"values":['


@dataclass(frozen=True, slots=True)
class Body:
    """Import lines to send in one request. Empty data with refused points has nothing to send.

    `n_refused` counts points of series whose labels collide with another series'; they are in no body.
    """

    data: bytes
    n_series: int
    n_points: int
    n_refused: int


class _Tails:
    """The part of a line that is a series' own, for all series of a table: bytes in one array, appended to.

    A series that equals an earlier one after the generated labels have won has an empty tail: it is not written.
    """

    def __init__(self, query_key: str, generated: frozenset[str], warnings: LabelWarnings) -> None:
        self.data: U8 = np.empty(0, dtype=np.uint8)
        self.offsets: I64 = np.zeros(1, dtype=np.int64)
        self.longest = 0
        self._query_key = query_key
        self._generated = generated
        self._warnings = warnings
        self._taken: set[bytes] = set()

    def __len__(self) -> int:
        return self.offsets.size - 1

    def grow(self, table: SeriesTable, n_series: int) -> None:
        """Know the series below `n_series` of the table; Python work for new ones only."""
        new = [self._tail(table.labels(k)) for k in range(len(self), n_series)]
        if not new:
            return
        ends = self.offsets[-1] + np.cumsum([len(tail) for tail in new])
        self.data = np.concatenate([self.data, np.frombuffer(b"".join(new), dtype=np.uint8)])
        self.offsets = np.concatenate([self.offsets, ends])
        self.longest = max(self.longest, *map(len, new))

    def _tail(self, labels: dict[str, str]) -> bytes:
        received = received_labels(labels, self._generated)
        text = orjson.dumps(received)
        digest = hashlib.blake2b(text, digest_size=16).digest()
        if digest in self._taken:
            self._warnings.collision(self._query_key, labels, self._generated)
            return b""
        self._taken.add(digest)
        self._warnings.check(self._query_key, self._generated, received)
        return (b"," + text[1:-1] if received else b"") + _TAIL_END


class Encoder:
    """Turns batches into bodies; for one thread.

    Parameters
    ----------
    metric_format : templates of the generated labels; has `__name__`.
    tenant_id : of the writer, empty where it has none.
    max_bytes, max_series : bounds of a body; one series at one time may be longer than `max_bytes`.
    max_cached : how many series' labels are kept between batches; None keeps all, 0 none.
    """

    def __init__(
        self,
        metric_format: Mapping[str, str],
        tenant_id: str,
        max_bytes: int,
        max_series: int,
        max_cached: int | None = None,
    ) -> None:
        self._format = metric_format
        self._warnings = LabelWarnings(tenant_id)
        self._max_bytes = max_bytes
        self._max_series = max_series
        self._max_cached = max_cached
        # Tables of what was read back from disk come and go.
        self._cache: OrderedDict[tuple[weakref.ref[SeriesTable], str, frozenset[str]], _Tails] = OrderedDict()
        self._buffer: U8 = np.empty(0, dtype=np.uint8)

    def encode(self, batch: Batch) -> Iterator[Body]:
        """Bodies that hold all finite cells of all columns; the same batch gives the same bodies."""
        output = batch.output
        if output.series.size == 0 or output.timestamps_ms.size == 0:
            return
        heads = {name: self._head(batch, name) for name in output.columns}
        tails = self._tails(batch)
        longest = max(map(len, heads.values()), default=0) + tails.longest + FRAME_BYTES
        step_bytes = NUMBER_BYTES + STAMP_BYTES
        n_steps = max(1, (self._max_bytes - longest) // step_bytes)
        size = max(self._max_bytes, longest + step_bytes)
        filler = _Filler(tails, self._room(size), self._max_series)
        for first in range(0, output.timestamps_ms.size, n_steps):
            stamps = _Stamps.of(output.timestamps_ms[first : first + n_steps])
            for name, column in output.columns.items():
                values = _plain(column[:, first : first + n_steps])
                yield from filler.fill(values, output.series, stamps, heads[name])
        if filler.used or filler.refused:
            yield filler.take()

    def _head(self, batch: Batch, column: str) -> U8:
        labels = orjson.dumps(generated_labels(self._format, batch, column))
        return np.frombuffer(_HEAD_START + labels[1:-1], dtype=np.uint8)

    def _tails(self, batch: Batch) -> _Tails:
        generated = frozenset(generated_labels(self._format, batch, "y"))
        key = weakref.ref(batch.table), batch.query_key, generated
        if key not in self._cache:
            for dead in [known for known in self._cache if known[0]() is None]:
                del self._cache[dead]
            self._cache[key] = _Tails(batch.query_key, generated, self._warnings)
        tails = self._cache[key]
        self._cache.move_to_end(key)
        tails.grow(batch.table, int(batch.output.series.max()) + 1)
        if self._max_cached is not None:
            while self._cache and sum(map(len, self._cache.values())) > self._max_cached:
                self._cache.popitem(last=False)
        return tails

    def _room(self, size: int) -> U8:
        if self._buffer.size < size:
            self._buffer = np.empty(size, dtype=np.uint8)
        return self._buffer[:size]


@dataclass(frozen=True, slots=True)
class _Stamps:
    """The texts of some timestamps."""

    texts: U8
    offsets: I64

    @classmethod
    def of(cls, timestamps_ms: I64) -> _Stamps:
        texts = np.empty(STAMP_BYTES * timestamps_ms.size, dtype=np.uint8)
        offsets = np.empty(timestamps_ms.size + 1, dtype=np.int64)
        stamp_texts(np.require(timestamps_ms, np.int64, ["C", "W"]), texts, offsets)
        return cls(texts, offsets)


def _plain(column: F64) -> F64:
    """The cells as the kernel was compiled for them: contiguous and writable."""
    return np.require(column, np.float64, ["C", "W"])


class _Filler:
    """A body in the making: rows go in until it is full."""

    def __init__(self, tails: _Tails, room: U8, max_series: int) -> None:
        self._tails = tails
        self._room = room
        self._max_series = max_series
        self._n_series = self._n_points = 0
        self.used = self.refused = 0

    def fill(self, values: F64, series: I64, stamps: _Stamps, head: U8) -> Iterator[Body]:
        """Add all rows of one column; yields each body that became full."""
        row = 0
        series = np.require(series, np.int64, ["C", "W"])
        while row < series.size:
            done, self.used, lines, points, refused = import_lines(
                values[row:],
                series[row:],
                stamps.texts,
                stamps.offsets,
                head,
                self._tails.data,
                self._tails.offsets,
                self._max_series - self._n_series,
                self._room,
                self.used,
            )
            row += done
            self._n_series += lines
            self._n_points += points
            self.refused += refused
            if row < series.size:
                yield self.take()

    def take(self) -> Body:
        """The body as it is; a new one begins."""
        body = Body(self._room[: self.used].tobytes(), self._n_series, self._n_points, self.refused)
        self._n_series = self._n_points = self.used = self.refused = 0
        return body


def load_kernels() -> None:
    """Encode a made-up batch, so that the first real one does not wait for kernels to be compiled or loaded."""
    table = SeriesTable()
    series = np.array([table.intern({"a": "b"})], dtype=np.int64)
    output = Output(series, np.zeros(1, dtype=np.int64), {"y": np.zeros((1, 1))})
    list(Encoder(METRIC_FORMAT, "", 1 << 16, 1).encode(Batch(output, table, "", "", "", "")))
