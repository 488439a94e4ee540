"""query_range answers from bytes to `Samples`: one kernel call for what servers send, a full parser for the rest."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.frame import I64, Samples, distinct
from engine.series import SeriesTable
from kernels.json_in import count_brackets, decode_matrix, index_texts
from kernels.number_in import EXACT_TENS
from kernels.powers import FIVE_HIGH, FIVE_LOW

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

# How an answer in the compact form begins: VictoriaMetrics and Prometheus; VictoriaMetrics cluster.
_HEADS = tuple(
    b'{"status":"success",' + partial + b'"data":{"resultType":"matrix","result":['
    for partial in (b"", b'"isPartial":false,', b'"isPartial":true,')
)
_IS_PARTIAL = _HEADS[2]


class DecodeError(ValueError):
    """An answer that is no matrix; the text says what it is instead."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A decoded answer: its samples, whether the server left data out, how many series came more than once."""

    samples: Samples
    is_partial: bool
    n_duplicates: int


class _KnownTexts:
    """Label texts as they were received before, and the numbers of their series; replaced, never changed."""

    def __init__(self, texts: U8, offsets: I64, hashes: U64, numbers: I64) -> None:
        self.texts, self.offsets, self.hashes, self.numbers = texts, offsets, hashes, numbers
        self.slots = np.full(1 << max(4, (2 * hashes.size).bit_length()), -1, dtype=np.int64)
        index_texts(hashes, 0, self.slots)

    @classmethod
    def none(cls) -> _KnownTexts:
        empty = np.empty(0, np.int64)
        return cls(np.empty(0, np.uint8), np.zeros(1, np.int64), np.empty(0, np.uint64), empty)

    def with_more(self, data: U8, spans: I64, hashes: U64, numbers: I64) -> _KnownTexts:
        """These and the texts data[start:stop] of `spans` (K, 2)."""
        parts = [data[start:stop] for start, stop in spans.tolist()]
        ends = self.offsets[-1] + np.cumsum(spans[:, 1] - spans[:, 0])
        return _KnownTexts(
            np.concatenate([self.texts, *parts]),
            np.concatenate([self.offsets, ends]),
            np.concatenate([self.hashes, hashes]),
            np.concatenate([self.numbers, numbers]),
        )


class Decoder:
    """Decodes the answers to one query; safe for several threads.

    A label text that was seen before is recognised by the kernel and costs no Python; a new one is parsed once.

    Parameters
    ----------
    table : where label sets are numbered.
    extra_labels : added to every label set, in place of received labels of the same name.
    """

    def __init__(self, table: SeriesTable, extra_labels: Mapping[str, str] | None = None) -> None:
        self._table = table
        self._extra = dict(extra_labels or {})
        self._known = _KnownTexts.none()
        self._lock = threading.Lock()

    def decode(self, body: bytes | bytearray) -> Answer:
        """The samples of a matrix answer. A `bytearray` is read where it is, `bytes` are copied.

        Raises
        ------
        DecodeError : it is an error, another kind of result, or no legal JSON.
        """
        body = body if isinstance(body, bytearray) else bytearray(body)
        return self._decode_compact(body) or self._decode_any(body)

    def _decode_compact(self, body: bytearray) -> Answer | None:
        """As `decode`; None for an answer that is not in the compact form."""
        head = next((head for head in _HEADS if body.startswith(head)), None)
        if head is None:
            return None
        data = np.frombuffer(body, dtype=np.uint8)[: _stripped_size(body)]
        n_square, n_curly = count_brackets(data)
        known = self._known
        spans, hashes = np.empty((n_curly, 2), np.int64), np.empty(n_curly, np.uint64)
        which, indptr = np.empty(n_curly, np.int64), np.empty(n_curly + 1, np.int64)
        times, values = np.empty(n_square, np.int64), np.empty(n_square)
        slow = np.empty((n_square, 3), np.int64)
        end, n_series, n_points, n_slow = decode_matrix(
            data, len(head), EXACT_TENS, FIVE_HIGH, FIVE_LOW,
            known.slots, known.hashes, known.offsets, known.texts,
            spans, hashes, which, indptr, times, values, slow,
        )  # fmt: skip
        if end < 0:
            return None
        is_partial = _read_rest(bytes(data[end:]))
        if is_partial is None or not _read_slow(body, slow[:n_slow], values):
            return None
        series = self._numbers(data, known, spans[:n_series], hashes[:n_series], which[:n_series])
        if series is None:
            return None
        samples = Samples(series, indptr[: n_series + 1].copy(), times[:n_points], values[:n_points])
        return _answer(samples, is_partial or head is _IS_PARTIAL)

    def _numbers(self, data: U8, known: _KnownTexts, spans: I64, hashes: U64, which: I64) -> I64 | None:
        """(S,) series numbers; None where a span is no flat object of strings."""
        numbers = np.full(which.size, -1, dtype=np.int64)
        numbers[which >= 0] = known.numbers[which[which >= 0]]
        new = np.flatnonzero(which < 0)
        if new.size == 0:
            return numbers
        try:
            for k in new.tolist():
                text = data[spans[k, 0] : spans[k, 1]]
                numbers[k] = self._table.intern(_labels_decoder.decode(text.data) | self._extra)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        with self._lock:
            # Another thread may have entered the same texts meanwhile: a second entry does no harm.
            self._known = self._known.with_more(data, spans[new], hashes[new], numbers[new])
        return numbers

    def _decode_any(self, body: bytearray) -> Answer:
        try:
            answer = _answer_decoder.decode(body)
            if answer.status != "success":
                raise DecodeError(f"{answer.error_type or 'error'}: {answer.error or 'without a text'}")
            if answer.data is None or answer.data.result_type != "matrix":
                kind = answer.data.result_type if answer.data else "nothing"
                raise DecodeError(f'the result is "{kind}", expected "matrix": the query must select or compute series')
            result = _result_decoder.decode(answer.data.result) or []
            return _answer(self._pack(result), answer.is_partial)
        except DecodeError:
            raise
        except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as err:
            start = bytes(body[:60]).decode("utf-8", "replace")
            raise DecodeError(f"not an answer of query_range: {err}; it begins with {start!r}") from err

    def _pack(self, result: list[_Series]) -> Samples:
        """Samples of parsed series."""
        points = [point for one in result for point in one.values]
        times = np.array([round(float(t) * 1000) for t, _ in points], dtype=np.int64)
        values = np.array([float(v) for _, v in points], dtype=np.float64)
        series = [self._table.intern(one.metric | self._extra) for one in result]
        indptr = np.cumsum([0, *(len(one.values) for one in result)], dtype=np.int64)
        return Samples(np.array(series, dtype=np.int64), indptr, times, values)


class _Series(msgspec.Struct):
    metric: dict[str, str] = {}
    values: list[tuple[float | str, float | str]] = []


class _Data(msgspec.Struct, rename="camel"):
    result_type: str = ""
    result: msgspec.Raw = msgspec.Raw(b"null")


class _Reply(msgspec.Struct, rename="camel"):
    status: str
    data: _Data | None = None
    error_type: str = ""
    error: str = ""
    is_partial: bool = False


_labels_decoder = msgspec.json.Decoder(dict[str, str])
_answer_decoder = msgspec.json.Decoder(_Reply)
_result_decoder = msgspec.json.Decoder(list[_Series] | None)
_rest_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _answer(samples: Samples, is_partial: bool) -> Answer:
    return Answer(samples, is_partial, samples.series.size - distinct(samples.series)[0].size)


def _stripped_size(body: bytearray) -> int:
    """Bytes without the white space at the end."""
    size = len(body)
    while size and body[size - 1] in b" \t\r\n":
        size -= 1
    return size


def _read_rest(rest: bytes) -> bool | None:
    """Whether what follows the result list says that data is missing; None where it repeats what was read."""
    try:
        reply = _rest_decoder.decode(b'{"":{"":0' + rest)
        inner = _rest_decoder.decode(reply[""])
    except (msgspec.DecodeError, KeyError, RecursionError):
        return None
    if reply.keys() & {"status", "data"} or inner.keys() & {"result", "resultType"}:
        return None
    return bytes(reply.get("isPartial", b"")) == b"true"


def _read_slow(body: bytearray, slow: I64, values: NDArray[np.float64]) -> bool:
    """Read the values that the kernel left to `float`; false where one is no plain text of a number."""
    for point, start, stop in slow.tolist():
        text = body[start:stop].decode("utf-8", "replace")
        if not text.isascii() or not text.isprintable():
            return False
        try:
            values[point] = float(text)
        except ValueError:
            return False
    return True
