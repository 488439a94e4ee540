"""A run of batches in the order they came, in memory or in a file, and what has become of each."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from engine.disk.codec import Record
from engine.disk.journal import Journal
from engine.disk.names import ReadNumbers, WrittenNames
from engine.frame import Batch, Output
from engine.series import SeriesTable

_FULL_BYTES, _FULL_BATCHES = 16 << 20, 64
_TEXTS = ("query_key", "model_alias", "scheduler_alias", "preset")


class Fates:
    """What has become of the batches of a segment, by their place in it.

    A batch waits, was delivered at a time, or is settled: delivered so long ago that the database has it on disk.
    """

    def __init__(self) -> None:
        self.n_settled = 0
        self.n_waiting = 0
        self._added_at_s = array("d")
        self._delivered_at_s = array("d")
        self._is_repeat = bytearray()

    def __len__(self) -> int:
        return len(self._is_repeat)

    def add(self, at_s: float) -> None:
        """One more batch waits, since a time of the monotonic clock."""
        self._added_at_s.append(at_s)
        self._delivered_at_s.append(0.0)
        self._is_repeat.append(0)
        self.n_waiting += 1

    def waits(self, index: int) -> bool:
        """Whether it is still to be delivered."""
        return index >= self.n_settled and not self._delivered_at_s[index]

    def is_repeat(self, index: int) -> bool:
        """Whether it was delivered once before."""
        return bool(self._is_repeat[index])

    def delivered(self, index: int, at_s: float) -> None:
        """It was delivered, or never will be."""
        self.n_waiting -= self.waits(index)
        self._delivered_at_s[index] = at_s
        self._is_repeat[index] = 1

    def repeat(self) -> None:
        """Whatever is not settled waits again."""
        for k in range(self.n_settled, len(self)):
            self._delivered_at_s[k] = 0.0
        self.n_waiting = len(self) - self.n_settled

    def settle(self, n: int) -> None:
        """The first `n` are settled."""
        self.n_waiting -= sum(self.waits(k) for k in range(self.n_settled, n))
        self.n_settled = max(self.n_settled, n)

    def n_delivered_by(self, time_s: float) -> int:
        """How many from the start on were delivered by this time."""
        n = self.n_settled
        while n < len(self) and 0 < self._delivered_at_s[n] <= time_s:
            n += 1
        return n

    def first_delivered_s(self) -> float:
        """When the first of those was delivered that are not settled; infinite where there is none."""
        return min((at_s for at_s in self._delivered_at_s[self.n_settled :] if at_s), default=float("inf"))

    def newest_s(self) -> float:
        """When the last batch was added."""
        return self._added_at_s[-1] if len(self) else float("inf")

    def first_waiting(self) -> int:
        """Place of the oldest batch that waits."""
        return next((k for k in range(self.n_settled, len(self)) if self.waits(k)), len(self))

    def added_s(self, index: int) -> float:
        """When it was added."""
        return self._added_at_s[index]


class Segment(Protocol):
    """What a spool asks of its parts."""

    fates: Fates

    @property
    def size_bytes(self) -> int: ...

    @property
    def is_full(self) -> bool: ...

    @property
    def is_durable(self) -> bool: ...

    def append(self, batch: Batch, at_s: float) -> None:
        """Add a batch; where it is durable it is on disk on return, or OSError is raised."""

    def batches(self) -> Iterator[Batch]:
        """All of them, in order."""

    def remove(self) -> None:
        """Nothing of it is needed any more."""


class MemorySegment:
    """Some batches in memory.

    Parameters
    ----------
    full_bytes : it takes no more from there on, nor more than some dozens.
    """

    is_durable = False

    def __init__(self, full_bytes: int) -> None:
        self.fates = Fates()
        self.size_bytes = 0
        self._full_bytes = min(full_bytes, 1 << 20)
        self._batches: list[Batch] = []

    @property
    def is_full(self) -> bool:
        return self.size_bytes >= self._full_bytes or len(self._batches) >= _FULL_BATCHES

    def append(self, batch: Batch, at_s: float) -> None:
        self._batches.append(batch)
        self.size_bytes += batch.output.size_bytes
        self.fates.add(at_s)

    def batches(self) -> Iterator[Batch]:
        return iter(self._batches)

    def remove(self) -> None:
        self._batches = []


class FileSegment:
    """Batches in a journal.

    The file says itself what its numbers of series stand for, and with each batch how many are settled.
    """

    is_durable = True

    def __init__(self, path: Path) -> None:
        self.fates = Fates()
        self._journal = Journal(path)
        # Of this process's batches: numbers in the file are theirs. Read ones have tables of their own.
        self._tables: dict[SeriesTable, WrittenNames] = {}
        self._is_read = False

    @property
    def size_bytes(self) -> int:
        return self._journal.size_bytes

    @property
    def is_full(self) -> bool:
        return self._is_read or self._journal.is_broken or self._journal.size_bytes >= _FULL_BYTES

    def append(self, batch: Batch, at_s: float) -> None:
        names = self._tables.setdefault(batch.table, WrittenNames(batch.table))
        number = list(self._tables).index(batch.table)
        facts = {name: getattr(batch, name) for name in _TEXTS} | {"table": number, "wall_s": time.time()}
        facts |= {"metric_labels": dict(batch.metric_labels), "n_settled": self.fates.n_settled}
        output = batch.output
        arrays = {"series": output.series, "times": output.timestamps_ms, **names.new(np.unique(output.series))}
        arrays |= {f"columns.{name}": column for name, column in output.columns.items()}
        self._journal.append(Record(facts, arrays))
        self.fates.add(at_s)

    def batches(self) -> Iterator[Batch]:
        own = list(self._tables)
        read: dict[int, tuple[SeriesTable, ReadNumbers]] = {}
        for record in self._journal.look():
            number = record.facts["table"]
            if not self._is_read:
                yield _batch(record, own[number], record.arrays["series"])
                continue
            if number not in read:
                table = SeriesTable()
                read[number] = table, ReadNumbers(table)
            table, numbers = read[number]
            numbers.learn(record)
            yield _batch(record, table, numbers.here(record.arrays["series"]))

    def restore(self, now_s: float) -> None:
        """Take up the file of another process; a torn end is cut off.

        Raises
        ------
        OSError, LookupError, TypeError, ValueError : it cannot be read, or holds something else.
        """
        self._is_read = True
        wall_s = time.time()
        for record in self._journal.read():
            self.fates.add(now_s - max(0.0, wall_s - float(record.facts["wall_s"])))
            self.fates.settle(min(int(record.facts["n_settled"]), len(self.fates)))

    def remove(self) -> None:
        self._journal.path.unlink(missing_ok=True)


def _batch(record: Record, table: SeriesTable, series: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Batch:
    """The batch that a record was made of, with its series' numbers in `table`."""
    prefix = "columns."
    columns = {n.removeprefix(prefix): a for n, a in record.arrays.items() if n.startswith(prefix)}
    labels: Mapping[str, str] = record.facts["metric_labels"]
    output = Output(series, record.arrays["times"], columns)
    return Batch(output, table, metric_labels=labels, **{name: record.facts[name] for name in _TEXTS})
