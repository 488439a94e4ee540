"""One batch after the other from the spool to whoever delivers them, until the queue is closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from engine.frame import Batch
from engine.spool.spool import Entry, GivenUp, Spool
from engine.writer.encode import Body


@dataclass(slots=True, eq=False)
class Delivery:
    """A batch and how far it has got: `bodies` not yet made, `pending` made and not yet delivered.

    `n_settled` counts the points that were sent, refused or dropped.
    """

    entry: Entry
    bodies: Iterator[Body] | None = None
    pending: Body | None = None
    n_settled: int = 0

    @property
    def batch(self) -> Batch:
        return self.entry.batch

    def n_left(self) -> int:
        """Points that nothing has happened to yet."""
        return self.batch.output.n_points - self.n_settled


class DeliveryQueue:
    """The spool's batches, one of them under way; safe for threads."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._under_way: Delivery | None = None
        self._changed = threading.Condition()
        self._ends_at: float | None = None

    def put(self, batch: Batch) -> list[GivenUp]:
        """Add a batch; what was given up for it."""
        given_up = self._spool.add(batch)
        with self._changed:
            self._changed.notify_all()
        return given_up

    def take(self, timeout_s: float) -> Delivery | None:
        """The delivery under way, or the next one; None where there was none in time or the queue is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_work() or self._ends_at is not None, timeout_s)
            if self.is_over():
                return None
            if self._under_way is None and (entry := self._spool.next()) is not None:
                self._under_way = Delivery(entry)
            return self._under_way

    def done(self) -> None:
        """The delivery under way has ended."""
        with self._changed:
            if self._under_way is not None:
                self._spool.done(self._under_way.entry)
                self._under_way = None
            self._changed.notify_all()

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
            return self._changed.wait_for(lambda: not self._is_work(), timeout_s)

    def close(self, timeout_s: float) -> None:
        """Deliveries may go on for the time given; then the queue is over."""
        with self._changed:
            self._ends_at = time.monotonic() + timeout_s
            self._changed.notify_all()

    def seconds_left(self) -> float:
        """Until a closing queue ends; infinite for an open one."""
        return float("inf") if self._ends_at is None else self._ends_at - time.monotonic()

    def is_over(self) -> bool:
        """Whether it was closed, and its time is over or nothing waits."""
        return self._ends_at is not None and (self.seconds_left() <= 0 or not self._is_work())

    def _is_work(self) -> bool:
        return self._under_way is not None or self._spool.n_waiting() > 0
