"""Answers and files that no honest party sends: each is an error in words or a clean skip."""

from __future__ import annotations

import gc
import gzip
import json
import random
import resource
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.config.schema import load_config
from engine.errors import ConfigError, ReadError
from engine.frame import Query, Samples, Window, pack
from engine.metrics import Metrics
from engine.reader.vm import VmReader
from tests.engine.reader.memory_server import MINUTE, START, settings_of

QUERY = Query("q", "m", MINUTE)
WINDOW = Window(START, START + 4 * MINUTE, MINUTE)
T = START // 1000
GOOD: dict[str, Any] = {
    "status": "success",
    "data": {
        "resultType": "matrix",
        "result": [
            {"metric": {"__name__": "m", "a": str(k)}, "values": [[T + 60 * i, f"{k}.{i}"] for i in range(5)]}
            for k in range(3)
        ],
    },
}
TEXT = json.dumps(GOOD, separators=(",", ":")).encode()
ODD: tuple[Any, ...] = (None, True, -1, 1e308, "", "x" * 1000, [], {}, [[]], {"a": {}}, [None], "NaN", 2**70)


def replaced(path: tuple[Any, ...], value: Any) -> bytes:
    """The good answer with another value in one place."""
    answer = json.loads(TEXT)
    place = answer
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(answer).encode()


def answers() -> dict[str, bytes]:
    """Hostile bodies by name."""
    rng = random.Random(1)
    first = ("data", "result", 0)
    found = {f"cut at {k}": TEXT[:k] for k in range(0, len(TEXT), 19)}
    for k in range(60):
        flipped = bytearray(TEXT)
        for _ in range(1 + k % 4):
            flipped[rng.randrange(len(flipped))] = rng.randrange(256)
        found[f"bytes changed {k}"] = bytes(flipped)
    places = [("status",), ("data",), ("data", "result"), first, (*first, "metric"), (*first, "metric", "a")]
    places += [(*first, "values"), (*first, "values", 0), (*first, "values", 0, 0), (*first, "values", 0, 1)]
    for place in places:
        for value in ODD:
            found[f"{'.'.join(map(str, place))} = {str(value)[:12]}"] = replaced(place, value)
    found |= {
        "nothing": b"",
        "zeros": b"\0" * 5000,
        "white": b" " * 100_000,
        "a word": b"null",
        "a number": b"7",
        "deep": b"[" * 100_000,
        "deep objects": b'{"a":' * 50_000,
        "deep in an answer": TEXT.replace(b'"1.0"', b"[" * 50_000),
        "endless string": b'{"status":"' + b"a" * 3_000_000,
        "endless number": TEXT.replace(b'"1.0"', b'"' + b"9" * 1_000_000 + b'"'),
        "endless exponent": TEXT.replace(b'"1.0"', b'"1e' + b"9" * 1000 + b'"'),
        "endless label": TEXT.replace(b'"a":"1"', b'"a":"' + b"x" * (11 << 20) + b'"'),
        "ten thousand labels": TEXT.replace(b'"a":"1"', b",".join(b'"l%d":""' % k for k in range(10_000))),
        "one label twice": TEXT.replace(b'"a":"1"', b'"a":"1","a":"2"'),
        "one series twice": TEXT.replace(b'"a":"1"', b'"a":"0"'),
        "broken UTF-8": TEXT.replace(b'"a":"1"', b'"a":"\xff\xfe"'),
        "half a surrogate": TEXT.replace(b'"a":"1"', b'"a":"\\ud800"'),
        "bad escape": TEXT.replace(b'"a":"1"', b'"a":"\\q"'),
        "zeros in a label": TEXT.replace(b'"a":"1"', b'"a":"\\u0000"'),
        "newline in a label": TEXT.replace(b'"a":"1"', b'"a":"\n"'),
        "times backwards": replaced((*first, "values"), [[T - 60 * i, "1"] for i in range(5)]),
        "one time five times": replaced((*first, "values"), [[T, str(i)] for i in range(5)]),
        "times off the grid": replaced((*first, "values"), [[T + 0.123, "1"]]),
        "times before all time": replaced((*first, "values"), [[-1e300, "1"], [1e300, "2"]]),
        "times of text": replaced((*first, "values"), [[str(T), "1"]]),
        "three in a pair": replaced((*first, "values"), [[T, "1", "2"]]),
        "one in a pair": replaced((*first, "values"), [[T]]),
        "words as values": replaced((*first, "values"), [[T, word] for word in ("a", "0x10", "1_0", " 1", "1 ")]),
        "two answers": TEXT + TEXT,
        "rubbish behind": TEXT + b"]]]]",
        "a vector": TEXT.replace(b"matrix", b"vector"),
        "a page": b"<!DOCTYPE html><html><script>alert(1)</script></html>",
        "an error in a good answer": b'{"status":"error","errorType":"x","error":"' + b"y" * 10_000 + b'"}',
        "a bill of secrets": b'{"status":"error","error":"http://user:hunter2@db/ Authorization: Bearer abc.def"}',
        "partial": TEXT[:-1] + b',"isPartial":true}',
        "an array": b"[" + TEXT + b"]",
        "UTF-16": TEXT.decode().encode("utf-16"),
        "byte order mark": b"\xef\xbb\xbf" + TEXT,
    }
    return found


ANSWERS = answers()


def read(body: bytes, **headers: str) -> Samples | str:
    """The samples that a reader makes of a body, or what it says against it."""

    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body, headers={"Content-Type": "application/json", **headers})

    reader = VmReader(settings_of(), Metrics(), "default", httpx.MockTransport(respond))
    try:
        ((_, samples),) = list(reader.read(QUERY, WINDOW, "s"))
        return samples
    except ReadError as err:
        return str(err)
    finally:
        reader.close()


def test_there_are_enough_of_them() -> None:
    assert len(ANSWERS) >= 150
    assert isinstance(read(TEXT), Samples)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_hostile_answer_is_an_error_or_samples_that_can_be_placed(name: str) -> None:
    started = time.monotonic()
    found = read(ANSWERS[name])
    assert time.monotonic() - started < 10
    if isinstance(found, str):
        assert 10 < len(found) < 1000
        assert "hunter2" not in found
        assert "abc.def" not in found
        return
    frame = pack(found, WINDOW)
    assert frame.values.shape == (np.unique(found.series).size, WINDOW.n_steps)
    assert not np.isinf(frame.values).any()


def test_a_bomb_that_unpacks_to_more_than_is_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.reader.query_range.MAX_BODY_BYTES", 8 << 20)
    found = read(gzip.compress(b" " * (64 << 20)), **{"Content-Encoding": "gzip"})
    assert isinstance(found, str)
    assert "larger than 8 MiB" in found


def test_hostile_answers_leave_no_memory_behind() -> None:
    def held_mib() -> float:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)

    chosen = [body for body in ANSWERS.values() if len(body) < 1 << 20]
    for body in chosen:
        read(body)
    before = held_mib()
    for _ in range(3):
        for body in chosen:
            read(body)
    assert held_mib() < before + 30


# Configuration files.

SEEDS = sorted(Path(__file__).parent.joinpath("config").glob("*_good.yaml"))


def load(path: Path) -> None:
    load_config([path], {"DB_URL": "http://x", "QUERY": "up"})


WORDS = st.sampled_from(
    [b"{", b"}", b"[", b"]", b":", b"- ", b"&a ", b"*a", b"!!python/object:os.system ", b"\t", b"\0", b"\xff", b"%{X}",
     b"<<: ", b"null", b"~", b".inf", b"-.nan", b"1e999", b"0o7", b"2001-01-01", b"'", b'"', b"|\n", b"? ", b"---\n",
     b"P1D", b"-1"]
)  # fmt: skip
KEYS = st.sampled_from(["reader", "writer", "models", "schedulers", "settings", "server", "class", "queries", "expr"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.sampled_from(SEEDS), edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), WORDS), max_size=6))
def test_a_configuration_with_anything_in_it_is_good_or_has_problems(
    tmp_path: Path, seed: Path, edits: list[tuple[float, int, bytes]]
) -> None:
    text = seed.read_bytes()
    for place, n_removed, word in edits:
        at = int(place * len(text))
        text = text[:at] + word + text[at + n_removed :]
    path = tmp_path / "c.yaml"
    path.write_bytes(text)
    started = time.monotonic()
    problems: tuple[str, ...] | None = None
    try:
        load(path)
    except ConfigError as err:
        problems = err.problems
    assert problems is None or (problems and all(problem.strip() for problem in problems))
    assert time.monotonic() - started < 5


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["reader", "writer", "models", "schedulers", "settings", "server", "class", "queries", "expr", "a"]
                )
                | st.text(max_size=5),
                inner,
                max_size=5,
            )
        ),
        max_leaves=30,
    )
)
def test_any_document_at_all_is_good_or_has_problems(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError):
        load(path)
