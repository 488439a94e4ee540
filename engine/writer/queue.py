"""Batches that wait to be written: in order, bounded by bytes, safe for threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.frame import Batch
from engine.writer.encode import Body


@dataclass(slots=True, eq=False)
class Delivery:
    """A batch and how far it has got: `bodies` not yet made, `pending` made and not yet delivered.

    `n_settled` counts the points that were sent, refused or dropped; `is_repeat` says that all were sent once before.
    """

    batch: Batch
    is_repeat: bool = False
    bodies: Iterator[Body] | None = None
    pending: Body | None = None
    n_settled: int = 0

    @property
    def size_bytes(self) -> int:
        return self.batch.output.size_bytes

    def n_left(self) -> int:
        """Points that nothing has happened to yet."""
        return sum(int(np.isfinite(c).sum()) for c in self.batch.output.columns.values()) - self.n_settled


class DeliveryQueue:
    """Deliveries in the order they came, one of them under way.

    Parameters
    ----------
    max_bytes : of the outputs that wait; more than that gives up the oldest that is not under way.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[Delivery] = deque()
        self._under_way: Delivery | None = None
        self._size_bytes = 0
        self._changed = threading.Condition()
        self._ends_at: float | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the outputs that wait or are under way."""
        return self._size_bytes

    def put(self, batch: Batch) -> list[Delivery]:
        """Add a batch at the end; returns what was given up for it."""
        with self._changed:
            self._waiting.append(Delivery(batch))
            self._size_bytes += batch.output.size_bytes
            self._changed.notify_all()
            return self._trim()

    def repeat(self, batches: Sequence[Batch]) -> list[Delivery]:
        """Add batches that were sent once before, ahead of all that wait; returns what was given up for them."""
        with self._changed:
            self._waiting.extendleft(Delivery(batch, is_repeat=True) for batch in reversed(batches))
            self._size_bytes += sum(batch.output.size_bytes for batch in batches)
            return self._trim()

    def take(self) -> Delivery | None:
        """Wait for the oldest delivery, which is then under way; None when the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ends_at is not None)
            if not self._waiting or self.seconds_left() <= 0:
                return None
            self._under_way = self._waiting.popleft()
            return self._under_way

    def done(self) -> None:
        """The delivery under way is settled."""
        with self._changed:
            if self._under_way is not None:
                self._size_bytes -= self._under_way.size_bytes
                self._under_way = None
            self._changed.notify_all()

    def put_back(self) -> list[Delivery]:
        """The delivery under way waits again, as the oldest; returns what was given up."""
        with self._changed:
            if self._under_way is not None:
                self._waiting.appendleft(self._under_way)
                self._under_way = None
            return self._trim()

    def pause(self, seconds: float) -> None:
        """Wait before the next try; a closing queue waits no longer than it has left."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._ends_at is not None, seconds):
                return
        # Closing: short tries until the end.
        time.sleep(max(0.0, min(seconds, 0.2, self.seconds_left())))

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until nothing waits or is under way; false when the time was over first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._all(), timeout_s)

    def close(self, timeout_s: float) -> None:
        """Deliveries may go on for the time given; then `take` gives none."""
        with self._changed:
            self._ends_at = time.monotonic() + timeout_s
            self._changed.notify_all()

    def seconds_left(self) -> float:
        """Until a closing queue ends; infinite for an open one."""
        return float("inf") if self._ends_at is None else self._ends_at - time.monotonic()

    def drop_all(self) -> list[Delivery]:
        """Everything that waits or is under way, no longer in the queue."""
        with self._changed:
            left = self._all()
            self._waiting.clear()
            self._under_way = None
            self._size_bytes = 0
            self._changed.notify_all()
            return left

    def _all(self) -> list[Delivery]:
        return [*([self._under_way] if self._under_way else []), *self._waiting]

    def _trim(self) -> list[Delivery]:
        # The newest always stays: a batch above the bound is tried on its own.
        given_up = []
        while len(self._waiting) > 1 and self._size_bytes > self._max_bytes:
            given_up.append(self._waiting.popleft())
            self._size_bytes -= given_up[-1].size_bytes
        return given_up


class RecentBatches:
    """The batches delivered last, in a bounded stretch of time and of memory.

    Parameters
    ----------
    seconds, max_bytes : older ones than this before the newest, and the oldest beyond the bytes, are forgotten.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._batches: deque[tuple[float, Batch]] = deque()
        self._size_bytes = 0

    def add(self, batch: Batch, at_s: float) -> None:
        """Remember a batch that was delivered at a monotonic time."""
        self._batches.append((at_s, batch))
        self._size_bytes += batch.output.size_bytes
        while self._batches and (self._batches[0][0] < at_s - self._seconds or self._size_bytes > self._max_bytes):
            self._size_bytes -= self._batches.popleft()[1].output.size_bytes

    def take(self) -> list[Batch]:
        """All of them, the oldest first; none is left."""
        batches = [batch for _, batch in self._batches]
        self._batches.clear()
        self._size_bytes = 0
        return batches
