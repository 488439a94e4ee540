"""Answers decoded against `json.loads`: the compact form, any other legal form, and what is no matrix at all."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.frame import Window, pack
from engine.reader.decode import Answer, DecodeError, Decoder
from engine.series import SeriesTable


def naive(body: bytes) -> list[tuple[dict[str, str], list[int], list[float]]]:
    """Labels, times in ms and values of each series, by the book."""
    result = json.loads(body)["data"]["result"]
    return [
        (
            dict(sorted(s["metric"].items())),
            [round(float(t) * 1000) for t, _ in s["values"]],
            [float(v) for _, v in s["values"]],
        )
        for s in result
    ]


def listed(answer: Answer, table: SeriesTable) -> list[tuple[dict[str, str], list[int], list[float]]]:
    samples = answer.samples
    return [
        (table.labels(series), samples.timestamps_ms[a:b].tolist(), samples.values[a:b].tolist())
        for series, a, b in zip(
            samples.series.tolist(), samples.indptr[:-1].tolist(), samples.indptr[1:].tolist(), strict=True
        )
    ]


def same(left: Any, right: Any) -> bool:
    """Equal, NaN equal to NaN and 0 unlike -0."""
    return repr(left) == repr(right)


def wrapped(result: list[Any], **more: Any) -> dict[str, Any]:
    return {"status": "success", **more, "data": {"resultType": "matrix", "result": result}}


LABELS = st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=4)
TIMES = st.integers(0, 2_000_000_000) | st.integers(0, 2_000_000_000_000).map(lambda ms: ms / 1000)
VALUES = (
    st.floats().map(lambda x: {math.inf: "+Inf", -math.inf: "-Inf"}.get(x, "NaN" if x != x else repr(x)))
    | st.integers(-(10**22), 10**22).map(str)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(10**6), 10**6)
)
SERIES = st.lists(
    st.fixed_dictionaries({"metric": LABELS, "values": st.lists(st.tuples(TIMES, VALUES), max_size=5)}), max_size=4
)


@settings(max_examples=200, deadline=None)
@given(SERIES, st.booleans(), st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_any_legal_form_is_decoded_as_json_loads_does(
    result: list[Any], is_compact: bool, is_ascii: bool, has_extras: bool, random: Any
) -> None:
    document = wrapped(result)
    if has_extras:
        document |= {"trace": {"result": []}, "stats": {"seriesFetched": "2"}, "isPartial": False}
        document["data"]["more"] = [{"metric": {}}]
    if not is_compact:
        items = list(document.items())
        random.shuffle(items)
        document = dict(items)
        document["data"] = dict(reversed(document["data"].items()))
    separators = (",", ":") if is_compact else (" ,\n", " : ")
    body = json.dumps(document, separators=separators, ensure_ascii=is_ascii).encode()
    table = SeriesTable()
    decoder = Decoder(table)
    for _ in range(2):  # the second time all texts are known
        assert same(listed(decoder.decode(body), table), naive(body))


def test_a_known_series_keeps_its_number_and_new_ones_follow() -> None:
    table = SeriesTable()
    decoder = Decoder(table)
    one, two = {"b": "1", "a": "x"}, {"a": "y"}
    compact = json.dumps(wrapped([{"metric": one, "values": [[1, "1"]]}]), separators=(",", ":")).encode()
    assert decoder.decode(compact).samples.series.tolist() == [0]
    both = wrapped([{"metric": two, "values": [[1, "2"]]}, {"metric": {"a": "x", "b": "1"}, "values": [[1, "3"]]}])
    for separators in ((",", ":"), (", ", ": ")):
        assert decoder.decode(json.dumps(both, separators=separators).encode()).samples.series.tolist() == [1, 0]
    assert len(table) == 2


def test_an_answer_of_longest_numbers_is_decoded_as_json_loads_does() -> None:
    digits = "".join(str(d) for d in np.random.default_rng(3).integers(0, 10, 60))
    values = [[60 * k, f"0.{digits[k % 20 :]}{k}"] for k in range(5_000)]
    body = json.dumps(wrapped([{"metric": {"a": "b"}, "values": values}]), separators=(",", ":")).encode()
    table = SeriesTable()
    assert same(listed(Decoder(table).decode(body), table), naive(body))


def test_extra_labels_replace_received_ones() -> None:
    table = SeriesTable()
    body = json.dumps(wrapped([{"metric": {"a": "1", "vm_account_id": "9"}, "values": [[1, "1"]]}])).encode()
    Decoder(table, {"vm_account_id": "3", "vm_project_id": "4"}).decode(body)
    assert table.labels(0) == {"a": "1", "vm_account_id": "3", "vm_project_id": "4"}


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_series_that_comes_twice_is_merged_and_counted(separators: tuple[str, str]) -> None:
    labels = {"a": "1"}
    result = [{"metric": labels, "values": [[60, "1"], [120, "2"]]}, {"metric": labels, "values": [[120, "5"]]}]
    answer = Decoder(SeriesTable()).decode(json.dumps(wrapped(result), separators=separators).encode())
    assert answer.n_duplicates == 1
    frame = pack(answer.samples, Window(60_000, 180_000, 60_000))
    assert np.array_equal(frame.values, [[1, 5, np.nan]], equal_nan=True)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("at_end", [False, True])
def test_a_partial_answer_is_told(separators: tuple[str, str], at_end: bool) -> None:
    document = wrapped([], isPartial=True)
    if at_end:
        document["isPartial"] = document.pop("isPartial")
    answer = Decoder(SeriesTable()).decode(json.dumps(document, separators=separators).encode())
    assert answer.is_partial
    assert not Decoder(SeriesTable()).decode(json.dumps(wrapped([], isPartial=False)).encode()).is_partial


def test_a_repeated_key_counts_as_the_last_one_says() -> None:
    body = (
        b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"]]}],"result":[]}}'
    )
    assert Decoder(SeriesTable()).decode(body).samples.n_points == 0
    body = b'{"status":"success","data":{"resultType":"matrix","result":[]},"status":"error","error":"late"}'
    with pytest.raises(DecodeError, match="late"):
        Decoder(SeriesTable()).decode(body)


def test_white_space_behind_the_answer_is_no_matter() -> None:
    body = json.dumps(wrapped([{"metric": {"a": "1"}, "values": [[1, "1"]]}]), separators=(",", ":")).encode()
    assert Decoder(SeriesTable()).decode(body + b"\n \r\n").samples.n_points == 1


WHOLE = json.dumps(wrapped([{"metric": {"a": "1"}, "values": [[1, "1"], [2, "+Inf"]]}]), separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not an answer of query_range"),
        (b"<html><body>Sign in</body></html>", "begins with '<html>"),
        (b'{"status":"error","errorType":"422","error":"unknown func \\"rat\\""}', 'unknown func "rat"'),
        (b'{"status":"error"}', "without a text"),
        (b'{"status":"success","data":{"resultType":"vector","result":[]}}', 'is "vector", expected "matrix"'),
        (b'{"status":"success"}', "the result is"),
        (b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":1},"values":[]}]}}', "str"),
        (b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"x"]]}]}}', "'x'"),
        (b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,null]]}]}}', "null"),
        (b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"\xff":""},"values":[]}]}}', "utf-8"),
        (b"[]", "not an answer"),
        (b"\xff\xfe", "not an answer"),
        *((WHOLE[:size], "not an answer") for size in range(1, len(WHOLE), 3)),
        (WHOLE + b"x", "not an answer"),
    ],
)  # fmt: skip
def test_what_is_no_matrix_is_told(body: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        Decoder(SeriesTable()).decode(body)


def test_an_object_inside_labels_is_no_series() -> None:
    body = (
        b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":{"b":"}"},"values":[[1,"1"]]}]}}'
    )
    with pytest.raises(DecodeError):
        Decoder(SeriesTable()).decode(body)


def test_threads_that_meet_new_series_agree_on_their_numbers() -> None:
    from concurrent.futures import ThreadPoolExecutor

    table = SeriesTable()
    decoder = Decoder(table)
    bodies = [
        json.dumps(
            wrapped([{"metric": {"n": str(k)}, "values": [[1, str(k)]]} for k in range(first, first + 50)]),
            separators=(",", ":"),
        ).encode()
        for first in (0, 20, 40, 60)
    ] * 5
    with ThreadPoolExecutor(4) as executor:
        answers = list(executor.map(decoder.decode, bodies))
    assert len(table) == 110
    for answer in answers:
        names = [table.labels(s)["n"] for s in answer.samples.series.tolist()]
        assert [float(n) for n in names] == answer.samples.values.tolist()
