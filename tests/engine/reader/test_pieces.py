"""However a window is cut, its pieces cover each grid time once, in order, within the bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.frame import Window
from engine.reader.pieces import FIRST_STEPS, POINTS_PER_PIECE, Pieces

WINDOWS = st.builds(
    lambda first, n, step: Window(first * step, (first + n - 1) * step, step),
    st.integers(-50, 10**6),
    st.integers(0, 400),
    st.sampled_from([500, 1000, 60_000, 300_000]),
)


def grid(windows: list[Window]) -> list[int]:
    return [t for w in windows for t in w.timestamps_ms().tolist()]


@given(WINDOWS, st.integers(1, 100), st.none() | st.integers(0, 10**7), st.data())
def test_pieces_cover_each_grid_time_once(
    window: Window, limit: int, n_series: int | None, data: st.DataObject
) -> None:
    pieces = Pieces(window, limit, n_series)
    good: list[Window] = []
    while (piece := pieces.next()) is not None:
        assert 1 <= piece.n_steps <= limit
        if data.draw(st.booleans()) and pieces.shrink(piece, data.draw(st.sampled_from([2, 4]))):
            continue
        good.append(piece)
        pieces.learn(data.draw(st.integers(0, 300_000)))
    assert grid(good) == window.timestamps_ms().tolist()


def test_pieces_are_sized_by_the_points_they_will_bring() -> None:
    window = Window(0, 20_159 * 60_000, 60_000)
    pieces = Pieces(window, 30_000, None)
    first = pieces.next()
    assert first is not None
    assert first.n_steps == FIRST_STEPS
    pieces.learn(20_000)
    second = pieces.next()
    assert second is not None
    assert second.n_steps * 20_000 <= POINTS_PER_PIECE
    pieces.learn(10)
    third = pieces.next()
    assert third is not None
    assert third.end_ms == window.end_ms
    assert pieces.next() is None


def test_a_piece_too_large_is_cut_down_to_one_step_and_no_further() -> None:
    pieces = Pieces(Window(0, 15_000, 1000), 100, 1)
    sizes = []
    piece = pieces.next()
    while piece is not None and pieces.shrink(piece, 2):
        sizes.append(piece.n_steps)
        assert piece.start_ms == 0
        piece = pieces.next()
    assert sizes == [16, 8, 4, 2]
    assert piece is not None
    assert piece.n_steps == 1


def test_the_servers_own_limit_overrules_halving() -> None:
    pieces = Pieces(Window(0, 99_000, 1000), 100, 1)
    piece = pieces.next()
    assert piece is not None
    assert pieces.shrink(piece, 2, 90)
    assert [p.n_steps for p in iter(pieces.next, None)] == [90, 10]
