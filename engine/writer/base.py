"""What the pipeline asks of a writer."""

from __future__ import annotations

from typing import Protocol

from engine.frame import Batch


class Writer(Protocol):
    """Delivers batches in order, on a thread of its own."""

    def submit(self, batch: Batch) -> None:
        """Queue a batch; never waits for the network. A full queue gives up its oldest batch, counted and logged."""

    def drain(self, timeout_s: float) -> bool:
        """Wait until the queue is empty; false when the time was over first."""

    def close(self, timeout_s: float) -> None:
        """Deliver what can be delivered in the time given, then stop."""
