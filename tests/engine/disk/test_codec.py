from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine.disk.codec import Record, decode, encode
from engine.errors import StateError

DTYPES = ["f8", "f4", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1", "U7"]
arrays = st.sampled_from(DTYPES).flatmap(
    lambda kind: hnp.arrays(np.dtype(kind), hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5))
)


def packed(record: Record) -> bytes:
    return b"".join(encode(record))


@given(st.dictionaries(st.text(max_size=5), arrays, max_size=5), st.dictionaries(st.text(), st.integers(-9, 9)))
@settings(deadline=None)
def test_a_record_reads_back_as_it_was(named: dict[str, np.ndarray], facts: dict[str, int]) -> None:
    found = decode(memoryview(packed(Record(facts, named))))
    assert found.facts == facts
    assert list(found.arrays) == list(named)
    for name, array in named.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        assert found.arrays[name].tobytes() == array.tobytes()


def test_arrays_of_the_result_may_be_written_to_and_strided_ones_are_read_whole() -> None:
    found = decode(memoryview(packed(Record({}, {"a": np.arange(10.0)[::2], "b": np.asfortranarray(np.eye(3))}))))
    found.arrays["a"][0] = 5
    assert found.arrays["a"].tolist() == [5, 2, 4, 6, 8]
    assert found.arrays["b"].tolist() == np.eye(3).tolist()


def test_objects_are_refused() -> None:
    with pytest.raises(StateError, match="a holds object"):
        packed(Record({}, {"a": np.array([{}], dtype=object)}))


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_other_bytes_are_an_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(StateError):
        decode(memoryview(data))


@given(st.data())
@settings(deadline=None)
def test_a_changed_record_is_read_or_an_error_never_a_crash(data: st.DataObject) -> None:
    whole = bytearray(packed(Record({"n": 1}, {"a": np.arange(6), "b": np.array(["x", "yz"])})))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(StateError):
        decode(memoryview(whole))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b'{"facts":{},"arrays":[["a","|O",[1]]]}', "no array of numbers"),
        (b'{"facts":{},"arrays":[["a","<f8",[-1]]]}', "no array of numbers"),
        (b'{"facts":{},"arrays":[["a","<f8",[1000000000000,1000000000000]]]}', "longer than the file"),
        (b'{"facts":[],"arrays":[]}', "not a record"),
    ],
)
def test_a_lying_header_is_refused(header: bytes, message: str) -> None:
    data = len(header).to_bytes(4, "little") + header
    with pytest.raises(StateError, match=message):
        decode(memoryview(data))
