"""Windows, series numbers, frames and states against plain Python."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from engine.frame import Frame, Prediction, Samples, State, Window, align_down, find, pack
from engine.series import SeriesTable
from tests.strategies import STEP_MS, frame_of

WINDOWS = st.builds(
    lambda start, n_steps, step: Window(start * step, (start + n_steps - 1) * step, step),
    st.integers(-5, 10**6),
    st.integers(0, 60),
    st.sampled_from([1, 1000, 60_000]),
)


@settings(deadline=None)
@given(WINDOWS)
def test_a_window_has_both_its_ends(window: Window) -> None:
    times = list(range(window.start_ms, window.end_ms + 1, window.step_ms))
    assert window.timestamps_ms().tolist() == times
    assert window.n_steps == len(times)


@settings(deadline=None)
@given(WINDOWS, st.integers(-1, 70))
def test_a_split_window_loses_and_repeats_nothing(window: Window, max_steps: int) -> None:
    pieces = window.split(max_steps)
    assert [t for p in pieces for t in p.timestamps_ms().tolist()] == window.timestamps_ms().tolist()
    assert all(1 <= p.n_steps <= max(1, max_steps) for p in pieces)


@given(st.integers(-(10**13), 10**13), st.integers(1, 10**8))
def test_aligned_times_are_multiples_not_after_the_time(time_ms: int, step_ms: int) -> None:
    aligned = align_down(time_ms, step_ms)
    assert aligned % step_ms == 0
    assert 0 <= time_ms - aligned < step_ms


LABELS = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4)


@given(st.lists(LABELS, max_size=12))
def test_a_label_set_has_one_number_whatever_its_order(sets: list[dict[str, str]]) -> None:
    table = SeriesTable()
    numbers = [table.intern(labels) for labels in sets]
    again = [table.intern(dict(reversed(labels.items()))) for labels in sets]
    distinct = list({json.dumps(labels, sort_keys=True): labels for labels in sets}.values())
    assert numbers == again == [distinct.index(labels) for labels in sets]
    assert len(table) == len(distinct)
    assert [table.labels(n) for n in range(len(table))] == distinct
    assert all(json.loads(table.text(n)) == labels for n, labels in enumerate(distinct))


def test_threads_agree_on_the_numbers() -> None:
    table, together = SeriesTable(), threading.Barrier(4)

    def intern_all(_: int) -> list[int]:
        together.wait(10)
        return [table.intern({"series": str(k)}) for k in range(500)]

    with ThreadPoolExecutor(4) as threads:
        numbers = list(threads.map(intern_all, range(4)))
    assert numbers == [numbers[0]] * 4
    assert sorted(numbers[0]) == list(range(500))


def test_a_frame_refuses_shapes_and_layouts_that_kernels_trust() -> None:
    series, times, values = np.arange(2), np.arange(3) * STEP_MS, np.zeros((2, 3))
    Frame(series, times, values, STEP_MS)
    for bad in (np.zeros((3, 2)), np.zeros((2, 3), dtype=np.float32), np.asfortranarray(values), values[:, ::2]):
        with pytest.raises(ValueError, match="values"):
            Frame(series, times, bad, STEP_MS)


NUMBERS = st.lists(st.integers(0, 30), unique=True, max_size=12)


@settings(deadline=None)
@given(NUMBERS, NUMBERS)
def test_find_is_the_position_or_minus_one(haystack: list[int], needles: list[int]) -> None:
    found = find(np.array(haystack, dtype=np.int64), np.array(needles, dtype=np.int64))
    assert found.tolist() == [haystack.index(n) if n in haystack else -1 for n in needles]


@settings(deadline=None)
@given(NUMBERS, NUMBERS)
def test_selected_rows_are_theirs_or_missing(series: list[int], wanted: list[int]) -> None:
    values = np.array([[s, s + 0.5] for s in series], dtype=np.float64).reshape(len(series), 2)
    frame = Frame(np.array(series, dtype=np.int64), np.array([0, STEP_MS]), values, STEP_MS, "Europe/Berlin")
    got = frame.select(np.array(wanted, dtype=np.int64))
    expected = [[s, s + 0.5] if s in series else [math.nan, math.nan] for s in wanted]
    assert_array_equal(got.values, np.array(expected).reshape(len(wanted), 2))
    assert got.series.tolist() == wanted
    assert (got.tz, got.step_ms) == ("Europe/Berlin", STEP_MS)


POINTS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(-3, 12),
        st.sampled_from([0, 0, 0, 1, 30_000]),
        st.one_of(st.floats(-10, 10), st.sampled_from([math.nan, math.inf])),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(POINTS, st.integers(0, 10))
def test_packed_points_stand_at_their_times(points: list[tuple[int, int, int, float]], n_steps: int) -> None:
    window = Window(600_000, 600_000 + (n_steps - 1) * STEP_MS, STEP_MS)
    # Runs of one series, as answers are: a series may come again later.
    runs: list[tuple[int, list[tuple[int, float]]]] = []
    for series, step, off_grid, value in points:
        if not runs or runs[-1][0] != series:
            runs.append((series, []))
        runs[-1][1].append((600_000 + step * STEP_MS + off_grid, value))
    flat = [point for _, run in runs for point in run]
    samples = Samples(
        np.array([s for s, _ in runs], dtype=np.int64),
        np.cumsum([0, *(len(run) for _, run in runs)], dtype=np.int64),
        np.array([t for t, _ in flat], dtype=np.int64),
        np.array([v for _, v in flat], dtype=np.float64),
    )
    frame = pack(samples, window, "Asia/Tokyo")
    rows: dict[int, list[float]] = {s: [math.nan] * n_steps for s in sorted({s for s, _ in runs})}
    for series, run in runs:
        for time_ms, value in run:
            step, off_grid = divmod(time_ms - window.start_ms, STEP_MS)
            if off_grid == 0 and 0 <= step < n_steps and math.isfinite(value):
                rows[series][step] = value
    assert frame.series.tolist() == list(rows)
    assert_array_equal(frame.values, np.array(list(rows.values())).reshape(len(rows), n_steps))
    assert (frame.tz, samples.n_points) == ("Asia/Tokyo", len(points))


def state(first: int, n_rows: int) -> State:
    series = np.arange(first, first + n_rows)
    return State(series, {"mean": series * 1.0, "pair": np.ones((n_rows, 2))}, {"grid": np.arange(3)})


def test_a_state_cut_and_joined_is_the_same() -> None:
    whole = state(0, 7)
    joined = State.concat([whole.rows(0, 3), whole.rows(3, 3), whole.rows(3, 7)])
    assert_array_equal(joined.series, whole.series)
    for name, column in whole.columns.items():
        assert_array_equal(joined.columns[name], column)
    assert joined.shared is whole.shared
    assert whole.size_bytes == sum(a.nbytes for a in (whole.columns["mean"], whole.columns["pair"])) + 24


def test_an_updated_state_leaves_the_old_one_as_it_was() -> None:
    old = state(0, 2)
    new = old.updated(mean=np.array([8.0, 9.0]), more=np.zeros(2))
    assert old.columns["mean"].tolist() == [0, 1]
    assert new.columns["mean"].tolist() == [8, 9]
    assert set(new.columns) == {"mean", "pair", "more"}
    taken = old.take(np.array([1, 0]))
    taken.columns["mean"][:] = -1
    assert taken.series.tolist() == [1, 0]
    assert old.columns["mean"].tolist() == [0, 1]


def test_predictions_are_joined_row_below_row() -> None:
    def part(value: float) -> Prediction:
        block: Any = np.full((2, 3), value)
        return Prediction(block, block - 1, block + 1, extra={"trend": block}, seen=np.array([1, 2]))

    joined = Prediction.concat([part(1.0), part(5.0)])
    assert joined.yhat is not None
    assert joined.seen is not None
    assert joined.yhat[:, 0].tolist() == [1, 1, 5, 5]
    assert joined.extra["trend"][:, 0].tolist() == [1, 1, 5, 5]
    assert joined.seen.tolist() == [1, 2, 1, 2]
    assert joined.score is None


def test_rows_of_a_frame_share_its_memory() -> None:
    frame = frame_of([[1.0], [2.0], [3.0]])
    part = frame.rows(1, 3)
    assert part.series.tolist() == [1, 2]
    assert np.shares_memory(part.values, frame.values)


def test_states_of_different_widths_below_each_other() -> None:
    def part(series: int, width: int) -> State:
        columns = {"level": np.ones(1), "season": np.full((1, width), 2.0)}
        return State(np.array([series]), columns)

    joined = State.concat([part(0, 3), part(1, 1)])
    assert_array_equal(joined.columns["season"], [[2, 2, 2], [2, 0, 0]])
    assert_array_equal(joined.columns["level"], [1, 1])


def test_states_of_different_columns_below_each_other() -> None:
    parts = [State(np.array([0]), {"a": np.ones((1, 2))}, {"x": np.zeros(1)}), State(np.array([1]), {"b": np.ones(1)})]
    joined = State.concat(parts)
    assert_array_equal(joined.columns["a"], [[1, 1], [0, 0]])
    assert_array_equal(joined.columns["b"], [0, 1])
    assert set(joined.shared) == {"x"}
