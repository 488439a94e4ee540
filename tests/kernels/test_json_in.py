"""The compact-form reader against `json.loads` and `float`, on good, odd and hostile bytes."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.json_in import count_brackets, decode_matrix, index_texts
from kernels.number_in import EXACT_TENS
from kernels.powers import FIVE_HIGH, FIVE_LOW, POWER_MAX, POWER_MIN

HEAD = b'{"status":"success","data":{"resultType":"matrix","result":['


def read(body: bytes, known: tuple[Any, ...] | None = None) -> dict[str, Any] | None:
    """What the kernel makes of a body; None where it says that it is another form."""
    data = np.frombuffer(bytearray(body), dtype=np.uint8)
    n_square, n_curly = (int(n) for n in count_brackets(data))
    slots, hashes, offsets, texts = known or (
        np.full(2, -1, np.int64), np.empty(0, np.uint64), np.zeros(1, np.int64), np.empty(0, np.uint8))  # fmt: skip
    spans, found, which = np.empty((n_curly, 2), np.int64), np.empty(n_curly, np.uint64), np.empty(n_curly, np.int64)
    indptr, times, values = np.empty(n_curly + 1, np.int64), np.empty(n_square, np.int64), np.empty(n_square)
    slow = np.empty((n_square, 3), np.int64)
    with np.errstate(over="ignore"):  # interpreted, wrapping words would warn
        end, n_series, n_points, n_slow = decode_matrix(
            data, len(HEAD), EXACT_TENS, FIVE_HIGH, FIVE_LOW, slots, hashes, offsets, texts,
            spans, found, which, indptr, times, values, slow,
        )  # fmt: skip
    if end < 0:
        return None
    for point, start, stop in slow[:n_slow].tolist():
        try:
            values[point] = float(body[start:stop])
        except ValueError:
            return None
    return {
        "texts": [body[a:b] for a, b in spans[:n_series].tolist()],
        "hashes": found[:n_series],
        "which": which[:n_series].tolist(),
        "indptr": indptr[: n_series + 1].tolist(),
        "times": times[:n_points].tolist(),
        "values": values[:n_points],
        "rest": body[end:],
        "n_slow": n_slow,
    }


def body_of(series: list[tuple[dict[str, str], list[tuple[str, str]]]], rest: str = "]}}") -> bytes:
    parts = []
    for labels, points in series:
        text = ",".join(f'[{t},"{v}"]' for t, v in points)
        parts.append(f'{{"metric":{json.dumps(labels, separators=(",", ":"))},"values":[{text}]}}')
    return HEAD + (",".join(parts) + rest).encode()


def bits(numbers: Any) -> list[int]:
    return [struct.unpack("<Q", struct.pack("<d", n))[0] for n in numbers]


HARD = [
    "0",
    "-0",
    "0.0",
    "-0.0",
    "1",
    "-1",
    "1e5",
    "-12.5e-3",
    "0.1",
    "123456789012345678",
    "9007199254740993",
    "9007199254740992.5",
    "9007199254740995",
    "1.7976931348623157e308",
    "1.7976931348623159e308",
    "2e308",
    "1e400",
    "-1e400",
    "1e-400",
    "5e-324",
    "2.4703282292062327e-324",
    "2.5e-324",
    "2.2250738585072011e-308",
    "2.2250738585072014e-308",
    "4.9406564584124654e-324",
    "0.30000000000000004",
    "00012.5",
    "1.",
    "1.e2",
    "1E3",
    "1e+3",
    "+Inf",
    "-Inf",
    "NaN",
    "18446744073709551615",
    "18446744073709551616",
    "9999999999999999999",
    "99999999999999999999",
    "1e22",
    "1e23",
    "8e22",
    "0.000000000000000000000000000000000000369",
    "0.1234567890123456789012345678901234567890",
    "6.02214076e23",
    "1.0e-22",
    "1e-23",
    "3.518437208883201171875e13",
    "30078505129381147446200",
    "1777820000000000000001",
    "7.038531e-26",
    "1.1754943508222875e-38",
    "45035996.273704985",
    "3.2378839133029012895883524125015321748630094e-7",
    "0.500000000000000166533453693773481063544750213623046875",
]


def test_hard_numbers_are_read_as_float_reads_them() -> None:
    got = read(body_of([({}, [("1", text) for text in HARD])]))
    assert got is not None
    want = np.array([float(text) for text in HARD])
    assert bits(got["values"][~np.isnan(want)]) == bits(want[~np.isnan(want)])
    assert np.array_equal(np.isnan(got["values"]), np.isnan(want))


def test_numbers_halfway_between_doubles_round_to_even() -> None:
    texts = []
    for exponent in (-1000, -60, -22, -3, 0, 1, 10, 60, 900):
        for mantissa in (1 << 52, (1 << 52) + 1, (1 << 53) - 1, (1 << 53) - 2):
            low = math.ldexp(mantissa, exponent - 52)
            numerator, denominator = low.as_integer_ratio()
            step_numerator, step_denominator = math.ulp(low).as_integer_ratio()
            top = 2 * numerator * step_denominator + step_numerator * denominator
            bottom = 2 * denominator * step_denominator
            if bottom == 1 or top % bottom == 0:
                texts += [str(top // bottom), f"{top // bottom}e0"]
    assert texts
    got = read(body_of([({}, [("1", text) for text in texts])]))
    assert got is not None
    assert bits(got["values"]) == bits(map(float, texts))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False) | st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=1, max_size=40))
def test_every_double_survives_its_text(numbers: list[float]) -> None:
    texts = [repr(x).replace("inf", "Inf") if x < math.inf else "+Inf" for x in numbers]
    got = read(body_of([({}, [("1", text) for text in texts])]))
    assert got is not None
    assert bits(got["values"]) == bits(numbers)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**25), st.integers(-400, 400), st.integers(-3, 30)), min_size=1, max_size=40)
)
def test_every_decimal_is_the_nearest_double(parts: list[tuple[int, int, int]]) -> None:
    texts = []
    for digits, exponent, point in parts:
        text = str(digits)
        if 0 < point < len(text):
            text = text[:point] + "." + text[point:]
        texts.append(f"{text}e{exponent}" if exponent % 3 else text)
    got = read(body_of([({}, [("1", text) for text in texts])]))
    assert got is not None
    assert bits(got["values"]) == bits(map(float, texts))


def test_common_numbers_need_no_slow_reading() -> None:
    rng = np.random.default_rng(1)
    scale = 10.0 ** rng.integers(-12, 12, 2000)
    texts = [np.format_float_positional(x, trim="-") for x in (rng.random(2000) * scale).tolist()]
    got = read(body_of([({}, [("1", text) for text in texts])]))
    assert got is not None
    assert got["n_slow"] <= 2
    assert bits(got["values"]) == bits(map(float, texts))


def test_times_are_exact_milliseconds() -> None:
    texts = ["1700000000", "1700000000.1", "1700000000.12", "1700000000.123", "0", "-1.5", "253402300799.999", "0.001"]
    got = read(body_of([({"a": "b"}, [(text, "1") for text in texts])]))
    assert got is not None
    assert got["times"] == [1700000000000, 1700000000100, 1700000000120, 1700000000123, 0, -1500, 253402300799999, 1]


@pytest.mark.parametrize("time", ["1.", "01", ".5", "1e3", "1.2345", "1234567890123", '"1"', "", "-", "1 ", "null"])
def test_other_times_are_left_to_the_general_parser(time: str) -> None:
    assert read(body_of([({}, [(time, "1")])])) is None


def test_series_keep_their_texts_points_and_rest() -> None:
    series = [
        ({"a": 'quote " brace } bracket ],"values":[['}, [("1", "2")]),
        ({}, []),
        ({"ключ": "é\\ \n"}, [("1", "3"), ("2", "4")]),
    ]
    got = read(body_of(series, ']},"stats":{"x":"1"}}'))
    assert got is not None
    assert [json.loads(text) for text in got["texts"]] == [labels for labels, _ in series]
    assert got["indptr"] == [0, 1, 1, 3]
    assert got["values"].tolist() == [2, 3, 4]
    assert got["rest"] == b'},"stats":{"x":"1"}}'


def known_of(texts: list[bytes]) -> tuple[Any, ...]:
    """The texts as seen before, in that order."""
    first = read(body_of([(json.loads(t), []) for t in texts]))
    assert first is not None
    assert first["texts"] == texts
    assert first["which"] == [-1] * len(texts)
    slots = np.full(1024, -1, np.int64)
    index_texts(first["hashes"], 0, slots)
    return slots, first["hashes"], np.cumsum([0, *map(len, texts)]), np.frombuffer(bytearray(b"".join(texts)), np.uint8)


ORDERS = {
    "shuffled": np.random.default_rng(2).permutation(300).tolist(),
    "as before": list(range(300)),
    "backwards": list(range(300))[::-1],
    "with others left out": list(range(0, 300, 7)),
    "with others between": [k for pair in zip(range(300), range(1000, 1300), strict=True) for k in pair],
    "each twice": [k for k in range(300) for _ in range(2)],
    "from the last to the first": [299, 0, 1],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_known_texts_are_found_in_any_order(order: list[int]) -> None:
    texts = [json.dumps({"n": str(k), "pad": "x" * (k % 19)}, separators=(",", ":")).encode() for k in range(1300)]
    known = known_of(texts[:300])
    again = read(body_of([(json.loads(texts[k]), [("1", "1")]) for k in order] + [({"n": "new"}, [])]), known)
    assert again is not None
    assert again["which"] == [*(k if k < 300 else -1 for k in order), -1]
    assert again["texts"] == [*(texts[k] for k in order), b'{"n":"new"}']
    expected = dict(zip(texts[:300], known[1].tolist(), strict=True))
    found = zip(again["texts"], again["hashes"].tolist(), strict=True)
    assert all(expected.get(text, hashed) == hashed for text, hashed in found)


def test_equal_hashes_of_different_texts_are_told_apart() -> None:
    first = read(body_of([({"a": "1"}, [])]))
    assert first is not None
    slots = np.full(4, -1, np.int64)
    index_texts(first["hashes"], 0, slots)
    other = np.frombuffer(bytearray(b'{"a":"2"}'), np.uint8)
    again = read(body_of([({"a": "1"}, [])]), (slots, first["hashes"], np.array([0, 9]), other))
    assert again is not None
    assert again["which"] == [-1]


GOOD = body_of([({"a": "1"}, [("1700000000", "12345678901234567890"), ("1700000060", "+Inf")]), ({}, [("1", "1.5")])])


def test_every_cut_of_an_answer_is_another_form() -> None:
    assert read(GOOD) is not None
    for size in range(len(HEAD), len(GOOD) - 2):
        assert read(GOOD[:size] + b"}") is None, GOOD[:size]
        assert read(GOOD[:size] + b"}", known_of([b'{"a":"1"}', b"{}"])) is None, GOOD[:size]


DAMAGE = st.tuples(st.integers(len(HEAD), len(GOOD) - 1), st.sampled_from(list(b'}{][",:0e.-+9\\ nI\xff\x00')))


@settings(max_examples=300, deadline=None)
@given(st.lists(DAMAGE, max_size=4), st.integers(0, 40))
def test_damaged_answers_never_read_past_the_end(changes: list[tuple[int, int]], cut: int) -> None:
    body = bytearray(GOOD)
    for at, byte in changes:
        body[at] = byte
    for known in (None, known_of([b'{"a":"1"}', b"{}"])):
        got = read(
            bytes(body[: len(body) - cut]), known
        )  # with NUMBA_BOUNDSCHECK=1 or interpreted, a step outside raises
        if got is not None:
            assert got["indptr"][-1] == len(got["times"])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_are_survived(tail: bytes) -> None:
    for known in (None, known_of([b'{"a":"1"}', b"{}"])):
        read(HEAD + tail + b"}", known)
        read(HEAD + b'{"metric":{' + tail + b'},"values":[[1,"' + tail + b"}", known)


def test_brackets_are_counted_at_every_length() -> None:
    text = b"[{x]}[[{" * 700
    for size in (*range(40), 2039, 2040, 2041, 4090, len(text)):
        got = count_brackets(np.frombuffer(bytearray(text[:size]), np.uint8))
        assert got == (text[:size].count(b"["), text[:size].count(b"{"))


def test_powers_of_five_have_the_top_bits() -> None:
    for q in range(POWER_MIN, POWER_MAX + 1):
        have = (int(FIVE_HIGH[q - POWER_MIN]) << 64) | int(FIVE_LOW[q - POWER_MIN])
        assert have.bit_length() == 128
        # within one unit of the last bit: cut, or raised where a reciprocal is exact enough
        if q >= 0:
            e = (5**q).bit_length() - 128
            assert have == (5**q >> e if e >= 0 else 5**q << -e)
        else:
            e = 127 + (5**-q - 1).bit_length()
            assert abs(have * 5**-q - 2**e) <= 5**-q
