"""Numbers and import lines against Python's own repr, float and json."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.json_out import FRAME_BYTES, NUMBER_BYTES, STAMP_BYTES, import_lines, stamp_texts
from tests.naive_import import import_lines as naive_lines

HARD = [
    0.0,
    -0.0,
    5e-324,
    2.2250738585072009e-308,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    1e-7,
    1e-5,
    1e-4,
    0.001,
    0.1,
    0.3,
    9007199254740991.0,
    9007199254740992.0,
    9007199254740994.0,
    999999999999999.9,
    9999999999999998.0,
    1e15,
    1e16,
    1.5e22,
    1e23,
    4.35,
    2.0**-44,
    123456789.125,
]


def repr_text(value: float) -> str:
    """Python's shortest text without `.0`, `+` and zeros that lead the exponent."""
    mantissa, _, exponent = repr(value).partition("e")
    mantissa = mantissa.removesuffix(".0")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def blob(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(t) for t in texts], out=offsets[1:])
    return np.frombuffer(bytearray(b"".join(texts)), np.uint8), offsets


def write(
    values: np.ndarray, stamps_ms: list[int], tails: list[bytes], *, max_lines: int = 1 << 40, size: int | None = None
) -> tuple[bytes, tuple[int, int, int, int, int]]:
    n_rows, n_steps = values.shape
    stamps, offsets = np.empty(STAMP_BYTES * n_steps, np.uint8), np.empty(n_steps + 1, np.int64)
    stamp_texts(np.array(stamps_ms, dtype=np.int64), stamps, offsets)
    head = np.frombuffer(b'{"metric":{"__name__":"y"', np.uint8)
    if size is None:
        longest = max(map(len, tails), default=0)
        size = n_rows * (head.size + longest + n_steps * NUMBER_BYTES + int(offsets[-1]) + FRAME_BYTES)
    out = np.empty(size, np.uint8)
    done = import_lines(values, np.arange(n_rows), stamps, offsets, head, *blob(tails), max_lines, out, 0)
    return out[: done[1]].tobytes(), done


def texts_of(values: list[float]) -> list[str]:
    column = np.array(values, dtype=np.float64).reshape(-1, 1)
    body, _ = write(column, [0], [b'},"values":['] * len(values))
    return [line.split('"values":[')[1].split("]")[0] for line in body.decode().splitlines()]


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_text_is_the_shortest_that_reads_back(values: list[float]) -> None:
    texts = texts_of(values)
    assert texts == [repr_text(v) for v in values]
    assert [struct.pack("d", float(t)) for t in texts] == [struct.pack("d", v) for v in values]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_text_of_any_bit_pattern(bits: list[int]) -> None:
    values = [v for v in np.array(bits, np.uint64).view(np.float64).tolist() if math.isfinite(v)]
    assert texts_of(values) == [repr_text(v) for v in values]


def test_text_of_hard_numbers_and_their_neighbours() -> None:
    powers = [2.0**e for e in range(-1074, 1024, 7)] + [10.0**e for e in range(-323, 309)]
    near = [math.nextafter(v, to) for v in HARD + powers for to in (-math.inf, math.inf)]
    values = [v for v in HARD + powers + near if math.isfinite(v)]
    values += [-v for v in values]
    assert texts_of(values) == [repr_text(v) for v in values]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 12)), min_size=1, max_size=20))
def test_text_of_short_decimals(parts: list[tuple[int, int]]) -> None:
    values = [n / 10**d for n, d in parts]
    assert texts_of(values) == [repr_text(v) for v in values]


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_stamps_are_plain_integers(stamps_ms: list[int]) -> None:
    body, _ = write(np.zeros((1, len(stamps_ms))), stamps_ms, [b'},"values":['])
    assert json.loads(body)["timestamps"] == stamps_ms


ROWS = st.integers(1, 4).flatmap(
    lambda n_steps: st.lists(st.lists(st.floats(), min_size=n_steps, max_size=n_steps), min_size=1, max_size=6)
)


@settings(deadline=None)
@given(ROWS, st.data())
def test_lines_equal_the_naive_twin(rows: list[list[float]], data: st.DataObject) -> None:
    values = np.array(rows, dtype=np.float64)
    stamps_ms = [1_700_000_000_000 + 60_000 * t for t in range(values.shape[1])]
    tails = [data.draw(st.sampled_from([b"", b',"a":"1"},"values":[', b'},"values":['])) for _ in rows]
    body, (done, used, lines, points, refused) = write(values, stamps_ms, tails)
    expected, n_refused = naive_lines(values.tolist(), stamps_ms, b'{"metric":{"__name__":"y"', tails)
    parsed = [json.loads(line) for line in body.splitlines()]
    assert parsed == expected
    assert (done, used, lines) == (len(rows), len(body), len(expected))
    assert (points, refused) == (sum(len(e["values"]) for e in expected), n_refused)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 9))
def test_rows_split_anywhere_give_the_same_bytes(n_rows: int, max_lines: int) -> None:
    values = np.arange(n_rows * 3, dtype=np.float64).reshape(n_rows, 3) / 7
    values[::2, 1] = np.nan
    tails = [b',"i":"%d"},"values":[' % i for i in range(n_rows)]
    whole, _ = write(values, [1, 2, 3], tails)
    parts, row = b"", 0
    while row < n_rows:
        part, (done, _, lines, _, _) = write(values[row:], [1, 2, 3], tails[row:], max_lines=max_lines)
        assert lines <= max_lines
        parts += part
        row += done
    assert parts == whole


@settings(deadline=None)
@given(st.integers(0, 2000))
def test_writing_never_passes_the_end_of_the_buffer(size: int) -> None:
    values = np.full((5, 4), -1.2345678901234567e-308)
    tails = [b',"i":"%d"},"values":[' % i for i in range(5)]
    body, (done, used, lines, points, _) = write(values, [-(2**63)] * 4, tails, size=size)
    assert used == len(body) <= size
    assert lines == done == body.count(b"\n")
    assert points == 4 * lines


def test_bounds_are_reached() -> None:
    values = np.full((1, 4), -1.2345678901234567e-308)
    body, _ = write(values, [-(2**63)] * 4, [b'},"values":['])
    head = len(b'{"metric":{"__name__":"y"},"values":[')
    assert len(body) == head + 4 * NUMBER_BYTES + 4 * STAMP_BYTES + FRAME_BYTES - 2  # the two last commas


def test_one_compiled_version() -> None:
    write(np.zeros((1, 1)), [0], [b'},"values":['])
    for function in (import_lines, stamp_texts):
        assert len(getattr(function, "signatures", [()])) == 1
