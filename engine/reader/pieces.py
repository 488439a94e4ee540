"""How a long window is cut: consecutive pieces in time order, sized by what the server and we can take."""

from __future__ import annotations

from engine.frame import Window

# About 50 MB of answer and 32 MB of arrays; a larger piece saves no time that could be measured.
POINTS_PER_PIECE = 2_000_000
# The first piece of a query whose number of series is not known yet.
FIRST_STEPS = 16


class Pieces:
    """Cuts a window as it is read: neighbours share no grid time and leave none out.

    Parameters
    ----------
    max_steps : the most points of one series that one answer may have.
    n_series : how many series the query had last time; None where it was never read.

    Attributes
    ----------
    has_shrunk : whether any piece was too large.
    """

    def __init__(self, window: Window, max_steps: int, n_series: int | None) -> None:
        self._window = window
        self._start_ms = window.start_ms
        self._max_steps = max(1, max_steps)
        self._by_points = FIRST_STEPS
        self.has_shrunk = False
        if n_series is not None:
            self.learn(n_series)

    def next(self) -> Window | None:
        """The next piece; None when the window is covered."""
        window, step_ms = self._window, self._window.step_ms
        if self._start_ms > window.end_ms:
            return None
        n_steps = min(self._max_steps, self._by_points)
        end_ms = min(self._start_ms + (n_steps - 1) * step_ms, window.end_ms)
        piece = Window(self._start_ms, end_ms, step_ms)
        self._start_ms = end_ms + step_ms
        return piece

    def learn(self, n_series: int) -> None:
        """Size further pieces for this many series."""
        self._by_points = max(1, POINTS_PER_PIECE // max(1, n_series))

    def shrink(self, piece: Window, divisor: int, max_steps: int | None = None) -> bool:
        """Go back to the start of a piece that was too large, and cut smaller from there on.

        Parameters
        ----------
        divisor : how much smaller.
        max_steps : what the server said it takes; it overrules the divisor.

        Returns
        -------
        False for a piece of one step, which cannot be smaller.
        """
        if piece.n_steps <= 1:
            return False
        smaller = piece.n_steps // divisor if max_steps is None else min(max_steps, piece.n_steps - 1)
        self.has_shrunk = True
        self._start_ms = piece.start_ms
        self._max_steps = max(1, min(self._max_steps, smaller))
        return True
