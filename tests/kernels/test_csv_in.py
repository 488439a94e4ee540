"""Cells, numbers, times and texts of CSV against Python's own readers."""

from __future__ import annotations

import csv
import io
import math
import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.csv_in import find_cells, number_cells, text_cells, time_cells
from kernels.number_in import EXACT_TENS
from kernels.powers import FIVE_HIGH, FIVE_LOW

texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), max_size=12)


def cells(data: bytes, n_columns: int, delimiter: str = ",") -> tuple[int, int, int, Any, Any]:
    array = np.frombuffer(data, dtype=np.uint8)
    starts, stops = (np.empty(data.count(b"\n") * n_columns, dtype=np.int64) for _ in range(2))
    n_rows, end, n_cells = find_cells(array, ord(delimiter), n_columns, starts, stops)
    shape = n_rows, n_columns
    return n_rows, end, n_cells, starts[: math.prod(shape)].reshape(shape), stops[: math.prod(shape)].reshape(shape)


def column(values: list[str]) -> tuple[Any, Any, Any]:
    """The bytes of a column, and the bounds of its cells."""
    data = "".join(f"{value}\n" for value in values).encode()
    lengths = np.array([len(value.encode()) for value in values], dtype=np.int64)
    starts = np.cumsum(lengths + 1) - lengths - 1
    return np.frombuffer(data, dtype=np.uint8), starts, starts + lengths


def numbers(values: list[str]) -> tuple[list[float], set[int]]:
    data, starts, stops = column(values)
    out, slow = np.empty(len(values)), np.empty(len(values), dtype=np.int64)
    with np.errstate(over="ignore"):  # interpreted, wrapping words would warn
        n_slow = number_cells(data, starts, stops, EXACT_TENS, FIVE_HIGH, FIVE_LOW, out, slow)
    return out.tolist(), set(slow[:n_slow].tolist())


def times(values: list[str]) -> list[int | None]:
    data, starts, stops = column(values)
    out, good = np.empty(len(values), dtype=np.int64), np.empty(len(values), dtype=np.bool_)
    with np.errstate(over="ignore"):
        time_cells(data, starts, stops, out, good)
    return [time if ok else None for time, ok in zip(out.tolist(), good.tolist(), strict=True)]


@given(st.lists(st.lists(texts, min_size=2, max_size=2), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_cells_are_those_of_pythons_reader(rows, line_end):
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=line_end).writerows(rows)
    data = text.getvalue().encode()
    n_rows, end, _, starts, stops = cells(data, 2)
    got = [
        [data[a:b].decode().replace('""', '"') for a, b in zip(*pair, strict=True)]
        for pair in zip(starts, stops, strict=True)
    ]
    assert (n_rows, end) == (len(rows), len(data))
    assert got == rows


def test_blanks_around_cells_and_blank_lines_are_left_out():
    data = b"\n a , b \r\n\r\n,\n"
    n_rows, end, _, starts, stops = cells(data, 2)
    assert [data[a:b] for a, b in zip(starts.ravel(), stops.ravel(), strict=True)] == [b"a", b"b", b"", b""]
    assert (n_rows, end) == (2, len(data))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"1,2\n3\n4,5\n", (1, 4, 1)),
        (b"1,2\n3,4,5\n", (1, 4, 3)),
        (b'1,2\n3,"4\n5,6\n', (1, 4, -1)),
        (b'"a""b",2\n', (1, 9, 0)),
        (b'"a\nb",2\n', (1, 8, 0)),
        (b"", (0, 0, 0)),
    ],
)
def test_rows_end_where_one_is_none(data, expected):
    assert cells(data, 2)[:3] == expected


@given(st.lists(st.floats() | st.integers(-(10**20), 10**20), max_size=20))
def test_numbers_are_those_of_float(values):
    written = [repr(value) for value in values]
    got, slow = numbers(written)
    for k, text in enumerate(written):
        if k not in slow:
            assert struct.pack("<d", got[k]) == struct.pack("<d", float(text))


def test_what_is_no_number_is_reported_and_empty_is_missing():
    got, slow = numbers(["1.5", "", "x", "1x", "1.5 2", "nan", "-3e2"])
    assert slow == {2, 3, 4, 5}
    assert [got[0], got[6]] == [1.5, -300.0]
    assert math.isnan(got[1])


def test_common_numbers_need_no_slow_reading():
    assert numbers(["35.03", "0.1", "-12", "1e-7", "123456789.123456789"])[1] == set()


aware = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001 - the zone is drawn beside it
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(aware, st.sampled_from([UTC, None]) | zones, st.sampled_from("T "), st.sampled_from(["milliseconds", "auto"]))
def test_times_are_those_of_pythons_reader(moment, zone, between, spec):
    text = moment.replace(tzinfo=zone).isoformat(between, timespec=spec)
    expected = datetime.fromisoformat(text).replace(tzinfo=zone or UTC)
    since = expected - datetime(1970, 1, 1, tzinfo=UTC)
    assert times([text]) == [since // timedelta(milliseconds=1)]


def test_times_in_other_spellings():
    day = 1_769_817_600_000
    spellings = ["2026-01-31", "2026-01-31T00:00", "2026-01-31T00:00:00Z", "2026-01-31 01:00:00+0100"]
    assert times([*spellings, "2026-01-30T19:00:00-05", "2026-01-31 00:00:00.000 Z"]) == [day] * 6


@pytest.mark.parametrize(
    "text",
    ["", "2026", "2026-13-01", "2026-02-29", "2026-01-31T", "2026-01-31T25:00", "2026-01-31T00:60", "31-01-2026",
     "2026-01-31T00:00:00.", "2026-01-31T00:00:00+1", "2026-01-31x00:00", "2026-01-31T00:00:00Zx"],
)  # fmt: skip
def test_what_is_no_time_is_told(text):
    assert times([text]) == [None]


@given(st.lists(texts.filter(lambda t: "," not in t), max_size=30))
def test_texts_are_numbered_as_they_appear(values):
    data, starts, stops = column(values)
    slots = np.full(1 << (2 * len(values)).bit_length(), -1, dtype=np.int64)
    codes, firsts = (np.empty(len(values), dtype=np.int64) for _ in range(2))
    n_texts = text_cells(data, starts, stops, slots, codes, firsts)
    distinct = list(dict.fromkeys(values))
    assert n_texts == len(distinct)
    assert [distinct[code] for code in codes] == values
    assert [values[first] for first in firsts[:n_texts]] == distinct
