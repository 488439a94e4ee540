"""What the pipeline asks of a writer."""

from __future__ import annotations

from typing import Protocol

from engine.frame import Batch


class Writer(Protocol):
    """Delivers batches in order, on a thread of its own."""

    def submit(self, batch: Batch) -> None:
        """Queue a batch; never waits for the network. What a bound gives up is counted and logged."""

    def position(self) -> int:
        """How many batches were ever submitted, in the life of a spool on disk."""

    def is_safe(self) -> bool:
        """Whether what was submitted is delivered or would outlive the process."""

    def has_lost(self, start: int, end: int) -> bool:
        """Whether batches between two positions were damaged on disk before they were delivered for sure."""

    def drain(self, timeout_s: float) -> bool:
        """Wait until the queue is empty; false when the time was over first."""

    def close(self, timeout_s: float) -> None:
        """Deliver what can be delivered in the time given, then stop."""
