"""The reader against a peer on a real socket that misbehaves below HTTP: every wait has a bound."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from engine.errors import ReadError
from engine.frame import Query, Window
from engine.metrics import Metrics
from engine.reader import query_range
from engine.reader.vm import VmReader
from tests.engine.reader.memory_server import MINUTE, START, settings_of

QUERY = Query("q", "m", MINUTE)
ONE = Window(START, START, MINUTE)
RESULT = [{"metric": {"a": "1"}, "values": [[START // 1000, "1.5"]]}]
BODY = json.dumps(
    {"status": "success", "data": {"resultType": "matrix", "result": RESULT}}, separators=(",", ":")
).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
GOOD = HEAD % len(BODY) + BODY

Script = Callable[[socket.socket], Any]


@contextmanager
def serving(*scripts: Script) -> Iterator[str]:
    """A server whose n-th connection runs the n-th script after a request came; the last one serves the rest."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve(connection: socket.socket, script: Script) -> None:
        with connection, suppress(OSError):
            if read_request(connection):
                script(connection)

    def accept() -> None:
        n = 0
        while not stop.is_set():
            with suppress(OSError):
                connection, _ = listener.accept()
                script = scripts[min(n, len(scripts) - 1)]
                n += 1
                threading.Thread(target=serve, args=(connection, script), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def read_request(connection: socket.socket) -> bool:
    text = b""
    while b"\r\n\r\n" not in text:
        piece = connection.recv(65536)
        if not piece:
            return False
        text += piece
    return True


def drip(connection: socket.socket, text: bytes) -> None:
    for byte in text:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def wait_for_the_end(connection: socket.socket) -> None:
    connection.settimeout(30)
    connection.recv(1)


def read_one(url: str, metrics: Metrics | None = None, **keys: Any) -> list[float]:
    reader = VmReader(settings_of(datasource_url=url, **keys), metrics or Metrics(), "default")
    try:
        return [v for _, samples in reader.read(QUERY, ONE, "s") for v in samples.values.tolist()]
    finally:
        reader.close()


def failing(url: str, **keys: Any) -> tuple[str, str, float]:
    """Text and code of the error, and how long it took."""
    started = time.monotonic()
    with pytest.raises(ReadError) as caught:
        read_one(url, **keys)
    return str(caught.value), caught.value.code, time.monotonic() - started


def test_a_good_answer_is_read_plain_and_compressed() -> None:
    packed = gzip.compress(BODY)
    head = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n") % len(packed)
    with serving(lambda c: c.sendall(GOOD)) as url:
        assert read_one(url) == [1.5]
    with serving(lambda c: c.sendall(head + packed)) as url:
        assert read_one(url) == [1.5]


def test_silence_ends_after_the_fetch_timeout() -> None:
    with serving(wait_for_the_end) as url:
        text, code, took_s = failing(url, fetch_timeout="300ms")
    assert code == "timeout"
    assert "no whole answer within 0.3 s" in text
    assert took_s < 5


def test_a_body_that_drips_in_ends_after_the_fetch_timeout() -> None:
    with serving(lambda c: (c.sendall(HEAD % 1000), drip(c, b"{" * 1000))) as url:
        _, code, took_s = failing(url, fetch_timeout="500ms")
    assert code == "timeout"
    assert took_s < 10


def test_headers_that_drip_in_end_soon_after_the_fetch_timeout() -> None:
    with serving(lambda c: drip(c, b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000)) as url:
        _, code, took_s = failing(url, fetch_timeout="500ms")
    assert code == "timeout"
    assert took_s < 10


def test_half_a_body_is_tried_again_and_told() -> None:
    with serving(lambda c: c.sendall(GOOD[:-5]), lambda c: c.sendall(GOOD)) as url:
        assert read_one(url) == [1.5]
    with serving(lambda c: c.sendall(GOOD[:-5])) as url:
        _, code, _ = failing(url, fetch_timeout="500ms")
    assert code == "connection_error"


def test_a_connection_reset_or_closed_without_an_answer_is_tried_again() -> None:
    def reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    for script in (reset, lambda c: c.shutdown(socket.SHUT_RDWR)):
        metrics = Metrics()
        with serving(script, lambda c: c.sendall(GOOD)) as url:
            assert read_one(url, metrics) == [1.5]
        names = {"url": f"{url}/api/v1/query_range", "query_key": "q", "scheduler_alias": "s", "preset": "default"}
        get = metrics.registry.get_sample_value
        assert get("vmanomaly_reader_responses_total", names | {"code": "connection_error"}) == 1
        assert get("vmanomaly_reader_responses_total", names | {"code": "200"}) == 1


def test_a_server_that_closes_between_requests_costs_nothing() -> None:
    with serving(lambda c: c.sendall(GOOD)) as url:  # one answer a connection, no word about closing
        reader = VmReader(settings_of(datasource_url=url), Metrics(), "default")
        for _ in range(3):
            assert [s.n_points for _, s in reader.read(QUERY, ONE, "s")] == [1]
        reader.close()


def test_an_endless_body_ends_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_range, "MAX_BODY_BYTES", 5 << 20)

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"10000\r\n" + b"{" * 65536 + b"\r\n")

    with serving(flood) as url:
        text, code, _ = failing(url)
    assert "larger than 5 MiB" in text
    assert code == "200"


def test_a_small_body_that_unpacks_to_a_huge_one_ends_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_range, "MAX_BODY_BYTES", 5 << 20)
    packed = gzip.compress(b"{" * (50 << 20))
    head = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n") % len(packed)
    with serving(lambda c: c.sendall(head + packed)) as url:
        text, _, _ = failing(url)
    assert "larger than 5 MiB" in text


def test_bytes_that_are_no_http_are_an_error() -> None:
    with serving(lambda c: c.sendall(b"\x15\x03\x01\x00\x02\x02\x16 no http at all\r\n\r\n")) as url:
        _, code, _ = failing(url, fetch_timeout="300ms")
    assert code == "connection_error"


def test_no_server_is_an_error_soon() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        text, code, _ = failing(f"http://127.0.0.1:{unused.getsockname()[1]}", fetch_timeout="300ms")
    assert code == "connection_error"
    assert "refused" in text


def test_closing_ends_a_read_that_waits() -> None:
    started = threading.Event()

    def hang(connection: socket.socket) -> None:
        started.set()
        wait_for_the_end(connection)

    with serving(hang) as url:
        reader = VmReader(settings_of(datasource_url=url), Metrics(), "default")
        errors: list[ReadError] = []

        def run() -> None:
            try:
                list(reader.read(QUERY, ONE, "s"))
            except ReadError as err:
                errors.append(err)

        thread = threading.Thread(target=run)
        thread.start()
        assert started.wait(10)
        reader.close()
        thread.join(5)
        assert not thread.is_alive()
        assert "the reader is closed" in str(errors[0])


def test_closing_ends_the_wait_before_another_attempt() -> None:
    answered = threading.Event()

    def busy(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 503 Busy\r\nRetry-After: 25\r\nContent-Length: 0\r\n\r\n")
        answered.set()

    with serving(busy) as url:
        reader = VmReader(settings_of(datasource_url=url), Metrics(), "default")

        def run() -> None:
            with pytest.raises(ReadError):
                list(reader.read(QUERY, ONE, "s"))

        thread = threading.Thread(target=run)
        thread.start()
        assert answered.wait(10)
        reader.close()
        thread.join(5)
        assert not thread.is_alive()
