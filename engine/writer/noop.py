"""Writer `noop`: outputs go nowhere."""

from __future__ import annotations

from engine.frame import Batch


class NoopWriter:
    """Takes every batch and writes none."""

    def submit(self, batch: Batch) -> None:
        """Forget the batch."""

    def position(self) -> int:
        """Nothing is ever kept."""
        return 0

    def is_safe(self) -> bool:
        """There is nothing to lose."""
        return True

    def has_lost(self, start: int, end: int) -> bool:
        """Nothing is ever lost."""
        return False

    def drain(self, timeout_s: float) -> bool:
        """Nothing ever waits."""
        return True

    def close(self, timeout_s: float) -> None:
        """Nothing is open."""
