"""A request under way on a worker thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future

from engine.errors import ReadError
from engine.frame import Window
from engine.reader.query_range import CLOSED


class Job:
    """A piece and its answer to come.

    Parameters
    ----------
    fetch : begins it; told what to call with how many bytes of the answer have come.
    ahead : bytes from which on the next piece may be asked for.
    """

    def __init__(
        self, piece: Window, fetch: Callable[[Callable[[int], None]], Future[bytearray]], ahead: float
    ) -> None:
        self.piece = piece
        self._ahead = ahead
        self._is_coming = is_coming = threading.Event()
        self._future = fetch(self._arrived)
        # Not through self: in a circle the answer would stay until garbage is collected.
        self._future.add_done_callback(lambda _: is_coming.set())

    def _arrived(self, n_bytes: int) -> None:
        if n_bytes >= self._ahead:
            self._is_coming.set()

    def is_coming(self) -> bool:
        """Wait until a part of the answer has come; false where none will."""
        self._is_coming.wait()
        return not self._future.done() or (not self._future.cancelled() and self._future.exception() is None)

    def result(self) -> bytearray:
        """The answer, once it is there: the endpoint bounds the wait."""
        try:
            return self._future.result()
        except CancelledError as err:
            raise ReadError(CLOSED, "io_error") from err

    def abandon(self, dropped: Callable[[], None]) -> None:
        """Nobody will take the result; `dropped` is called if there is one."""

        def count(future: Future[bytearray]) -> None:
            if not future.cancelled() and future.exception() is None:
                dropped()

        self._future.cancel()
        self._future.add_done_callback(count)
