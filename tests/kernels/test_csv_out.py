"""Lines of CSV against Python's own writers."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernels.csv_out import (
    ISO,
    MICROSECONDS,
    MILLISECONDS,
    NANOSECONDS,
    NUMBER_BYTES,
    SECONDS,
    TIME_BYTES,
    csv_lines,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001 - made UTC here
    lambda moment: (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
)


def lines(
    times: list[int], clock: int, series: list[int], labels: list[bytes], columns: list[list[float]]
) -> list[str]:
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in labels])]).astype(np.int64)
    text = np.frombuffer(b"".join(labels) + b" ", dtype=np.uint8)
    values = np.array(columns, dtype=float).reshape(len(columns), len(times))
    row_bytes = TIME_BYTES + max(map(len, labels)) + NUMBER_BYTES * len(columns)
    out = np.empty(row_bytes * len(times), dtype=np.uint8)
    used = csv_lines(np.array(times, dtype=np.int64), clock, np.array(series), text, offsets, values, out)
    return out[:used].tobytes().decode().splitlines()


@given(moments)
def test_iso_times_are_those_of_pythons_writer(time_ms):
    moment = EPOCH + timedelta(milliseconds=time_ms)
    expected = moment.isoformat(timespec="milliseconds" if time_ms % 1000 else "seconds").replace("+00:00", "Z")
    assert lines([time_ms], ISO, [0], [b""], []) == [expected]


@given(st.integers(-(10**12), 10**12))
def test_unix_times_keep_their_unit(time_ms):
    assert lines([time_ms], MILLISECONDS, [0], [b""], []) == [str(time_ms)]
    assert lines([time_ms], MICROSECONDS, [0], [b""], []) == [str(time_ms * 1000)]
    assert lines([time_ms], NANOSECONDS, [0], [b""], []) == [str(time_ms * 1_000_000)]
    (seconds,) = lines([time_ms], SECONDS, [0], [b""], [])
    assert round(float(seconds) * 1000) == time_ms
    assert ("." in seconds) == (time_ms % 1000 != 0)


@given(st.lists(st.tuples(st.floats(), st.floats()), min_size=1, max_size=10))
def test_numbers_read_back_and_others_are_empty(pairs):
    got = lines([0] * len(pairs), SECONDS, [0] * len(pairs), [b""], [[a for a, _ in pairs], [b for _, b in pairs]])
    for line, pair in zip(got, pairs, strict=True):
        time, *cells = line.split(",")
        assert time == "0"
        assert [float(c) if c else None for c in cells] == [v if math.isfinite(v) else None for v in pair]


def test_each_row_has_the_labels_of_its_series():
    got = lines([0, 1000, 2000], SECONDS, [1, 0, 1], [b",a", b',"b,c"'], [[1.0, 2.5, math.nan]])
    assert got == ['0,"b,c",1', "1,a,2.5", '2,"b,c",']
