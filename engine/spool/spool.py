"""The queue between scoring and writing: what waits, what the database may still lose, and what is given up."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.disk.files import lock
from engine.errors import StartError, StateError
from engine.frame import Batch
from engine.spool.segment import FileSegment, MemorySegment, Segment

log = logging.getLogger("writer.spool")

_FILE = re.compile(r"(\d{16})\.spool")
# Batches that are on disk stay in memory, too, up to here: they need not be read back when all is well.
_FRESH_BYTES = 64 << 20
_MEMORY_BYTES = 256 << 20
# Another process may be on its way out.
_WAIT_S = 10.0
_REPEAT_LOG_S = 600.0


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A batch to be delivered and its place; `is_repeat` says that all of it was delivered once before."""

    batch: Batch
    number: int
    segment: Segment
    index: int
    is_repeat: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class GivenUp:
    """A batch that will not be delivered, and why: queue_full, too_old or shutdown."""

    batch: Batch
    reason: str

    @property
    def n_points(self) -> int:
        return self.batch.output.n_points


class Spool:
    """Batches in the order they were added; safe for threads, one of which delivers.

    While all goes well they are taken in that order. What could not be delivered is the *backlog*; once the database is
    back its oldest batch and the oldest that came since are taken in turns, so that neither waits for the other.
    Delivered batches are kept until they are settled, to be delivered again if the database has lost them.

    Parameters
    ----------
    folder : to keep them in; None keeps them in memory.
    max_bytes, max_age_s : the oldest are given up beyond.

    Raises
    ------
    StartError : the folder cannot be used.
    """

    def __init__(self, folder: Path | None, max_bytes: int, max_age_s: float = float("inf")) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._mutex = threading.RLock()
        # First number and segment, in order; a number is a batch's place in the folder's whole life.
        self._segments: deque[tuple[int, Segment]] = deque()
        self._fresh: deque[Entry] = deque()
        self._fresh_bytes = 0
        self._under_way: Entry | None = None
        self._reading: tuple[int, Segment, Iterator[tuple[int, Batch]]] | None = None
        self._is_backlog_next = True
        self._logged_at = -_REPEAT_LOG_S
        self.n_added = 0
        self._gaps: list[tuple[int, int]] = []
        self._had_files = False
        if folder is not None:
            self._open(folder)

    def set_bounds(self, max_bytes: int, max_age_s: float) -> None:
        """Other bounds, from the next batch on."""
        with self._mutex:
            self._max_bytes, self._max_age_s = max_bytes, max_age_s

    def size_bytes(self, *, on_disk: bool = False) -> int:
        """Bytes of all that is kept, or of what is on disk."""
        with self._mutex:
            return sum(s.size_bytes for _, s in self._segments if s.is_durable or not on_disk)

    def waiting_bytes(self) -> float:
        """Bytes of what waits or is under way; a share of each segment."""
        with self._mutex:
            parts = [(s.size_bytes, s.fates) for _, s in self._segments if s.fates.n_waiting]
        return sum(size * fates.n_waiting / len(fates) for size, fates in parts)

    def waiting_s(self) -> float:
        """For how long the oldest batch that waits has waited; 0 for none."""
        with self._mutex:
            fates = next((segment.fates for _, segment in self._segments if segment.fates.n_waiting), None)
            return 0.0 if fates is None else max(0.0, time.monotonic() - fates.added_s(fates.first_waiting()))

    def n_waiting(self) -> int:
        """Batches that wait or are under way."""
        with self._mutex:
            return sum(segment.fates.n_waiting for _, segment in self._segments)

    def is_durable(self) -> bool:
        """Whether all that waits would outlive the process."""
        with self._mutex:
            waiting = [segment for _, segment in self._segments if segment.fates.n_waiting]
            return self._folder is not None and all(segment.is_durable for segment in waiting)

    def has_lost(self, start: int, end: int) -> bool:
        """Whether batches of these numbers were in the folder and were damaged before they were settled."""
        is_beyond_the_end = self._had_files and end > self.n_added
        return is_beyond_the_end or any(first < end and start < last for first, last in self._gaps)

    def add(self, batch: Batch) -> list[GivenUp]:
        """Add a batch; what was given up for it."""
        with self._mutex:
            segment = self._store(batch)
            self._fresh.append(Entry(batch, self.n_added, segment, len(segment.fates) - 1))
            self.n_added += 1
            self._fresh_bytes += batch.output.size_bytes
            if self._fresh_bytes > _FRESH_BYTES:
                self._set_back()
            return list(self._trim())

    def next(self) -> Entry | None:
        """The batch to deliver now, which is then under way; None where none waits."""
        with self._mutex:
            entry = self._next_of_backlog() if self._is_backlog_next or not self._fresh else None
            self._is_backlog_next = entry is None
            if entry is None and self._fresh:
                entry = self._fresh.popleft()
                self._fresh_bytes -= entry.batch.output.size_bytes
            self._under_way = entry
            return entry

    def done(self, entry: Entry) -> None:
        """The batch under way was delivered, or never will be."""
        with self._mutex:
            entry.segment.fates.delivered(entry.index, time.monotonic())
            self._under_way = None

    def set_back(self) -> list[GivenUp]:
        """The database is away: all that waits is backlog; what was given up."""
        with self._mutex:
            self._set_back()
            return list(self._trim())

    def repeat(self) -> None:
        """The database may have lost what is not settled: it waits again."""
        with self._mutex:
            for _, segment in self._segments:
                segment.fates.repeat()
            self._reading = None
            self._set_back()

    def settle(self, before_s: float) -> None:
        """The database has on disk what was delivered by this time of the monotonic clock."""
        with self._mutex:
            for _, segment in self._segments:
                segment.fates.settle(segment.fates.n_delivered_by(before_s))
            # The last file stays, for its numbers.
            while len(self._segments) > 1 and len(self._segments[0][1].fates) == self._segments[0][1].fates.n_settled:
                self._segments.popleft()[1].remove()

    def first_delivered_s(self) -> float:
        """When the first of those batches was delivered that are not settled; infinite where there is none."""
        with self._mutex:
            return min((segment.fates.first_delivered_s() for _, segment in self._segments), default=float("inf"))

    def close(self) -> list[GivenUp]:
        """Leave the folder to another process; what waited and is not in it."""
        with self._mutex:
            self._under_way = None
            lost = [g for _, s in self._segments if not s.is_durable for g in self._given_up(s, "shutdown")]
            self._segments.clear()
            self._fresh.clear()
            if self._folder is not None:
                os.close(self._lock)
                self._folder = None
            return lost

    def _store(self, batch: Batch) -> Segment:
        now = time.monotonic()
        if self._folder is not None:
            if not self._segments or self._segments[-1][1].is_full or not self._segments[-1][1].is_durable:
                self._begin(FileSegment(self._folder / f"{self.n_added:016d}.spool"))
            last = self._segments[-1][1]
            try:
                last.append(batch, now)
            except OSError as err:
                if now - self._logged_at >= _REPEAT_LOG_S:
                    self._logged_at = now
                    log.error("Results cannot be put on disk, they wait in memory: %s", err.strerror or err)
            else:
                self._logged_at = -_REPEAT_LOG_S
                return last
        is_room = self._folder is None and self._segments and not self._segments[-1][1].is_full
        last = self._segments[-1][1] if is_room else self._begin(MemorySegment(self._max_bytes // 64))
        last.append(batch, now)
        return last

    def _begin(self, segment: Segment) -> Segment:
        if self._segments and not len(self._segments[-1][1].fates):
            self._segments.pop()[1].remove()
        self._segments.append((self.n_added, segment))
        return segment

    def _set_back(self) -> None:
        self._fresh.clear()
        self._fresh_bytes = 0

    def _next_of_backlog(self) -> Entry | None:
        """The oldest batch that waits and is not fresh."""
        end = self._fresh[0].number if self._fresh else self.n_added
        while (found := self._reading or self._first_waiting(end)) is not None:
            first, segment, batches = self._reading = found
            for index, batch in batches:
                if first + index >= end:
                    break
                if segment.fates.waits(index):
                    return Entry(batch, first + index, segment, index, segment.fates.is_repeat(index))
            self._reading = None
        return None

    def _first_waiting(self, end: int) -> tuple[int, Segment, Iterator[tuple[int, Batch]]] | None:
        for first, segment in self._segments:
            if first >= end:
                return None
            if segment.fates.n_waiting and segment.fates.first_waiting() < end - first:
                return first, segment, self._read(segment)
        return None

    def _read(self, segment: Segment) -> Iterator[tuple[int, Batch]]:
        """The batches of a segment with their places; what cannot be read any more is given up."""
        n, n_read = len(segment.fates), 0
        try:
            for n_read, batch in enumerate(segment.batches(), 1):
                yield n_read - 1, batch
        except (OSError, StateError, LookupError, TypeError, ValueError) as err:
            log.error("Results on disk cannot be read: %s", err)
        lost = [k for k in range(n_read, n) if segment.fates.waits(k)]
        for k in lost:
            segment.fates.delivered(k, time.monotonic())
        if lost:
            log.error("%d results on disk are damaged and will not be written", len(lost))

    def _trim(self) -> Iterator[GivenUp]:
        """Give up the oldest beyond the bounds; the newest always stays and is tried on its own."""
        if self._folder is not None:
            in_memory = [s for s in self._segments if not s[1].is_durable]
            size = sum(segment.size_bytes for _, segment in in_memory)
            for found in in_memory[:-1]:
                if size <= _MEMORY_BYTES:
                    break
                size -= found[1].size_bytes
                self._segments.remove(found)
                yield from self._given_up(found[1], "queue_full")
        excess = self.size_bytes() - self._max_bytes
        oldest_s = time.monotonic() - self._max_age_s
        while len(self._segments) > 1:
            segment = self._segments[0][1]
            is_old = segment.fates.newest_s() < oldest_s
            if excess <= 0 and not is_old:
                return
            excess -= segment.size_bytes
            self._segments.popleft()
            yield from self._given_up(segment, "too_old" if is_old else "queue_full")

    def _given_up(self, segment: Segment, reason: str) -> Iterator[GivenUp]:
        """What waits in a segment that is no longer part of the spool."""
        if self._reading is not None and self._reading[1] is segment:
            self._reading = None
        while self._fresh and self._fresh[0].segment is segment:
            self._fresh_bytes -= self._fresh.popleft().batch.output.size_bytes
        fates = segment.fates
        taken = (self._under_way.segment, self._under_way.index) if self._under_way else None
        if fates.n_waiting:
            for index, batch in self._read(segment):
                if fates.waits(index) and not fates.is_repeat(index) and (segment, index) != taken:
                    yield GivenUp(batch, reason)
        segment.remove()

    def _open(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = lock(folder, _WAIT_S)
            found = sorted((int(m[1]), path) for path in folder.iterdir() if (m := _FILE.fullmatch(path.name)))
        except OSError as err:
            raise StartError(f"results cannot be kept in {folder}: {err.strerror or err}") from err
        now = time.monotonic()
        for first, path in found:
            if self._segments or self.n_added:
                self._gaps += [(self.n_added, first)] if first > self.n_added else []
            else:
                self.n_added = first
            segment = FileSegment(path)
            try:
                segment.restore(now)
            except (OSError, StateError, LookupError, TypeError, ValueError) as err:
                log.error("Results in %s are set aside: %s", path, err)
                os.replace(path, path.with_suffix(".damaged"))
                continue
            self._segments.append((first, segment))
            self.n_added = first + len(segment.fates)
        self._had_files = bool(found)
        n_waiting = self.n_waiting()
        if n_waiting:
            log.info("%d results of before, %.1f MiB, are delivered first", n_waiting, self.size_bytes() / (1 << 20))
