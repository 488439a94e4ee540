"""A query_range server in memory, and readers that talk to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import msgspec
import numpy as np

from engine.frame import Query, Samples, Window, pack
from engine.metrics import Metrics
from engine.reader.settings import VmReaderSettings
from engine.reader.vm import VmReader
from engine.settings import decode_hook

START = 1_700_000_040_000  # a multiple of a minute
MINUTE = 60_000

Handler = Callable[[dict[str, list[str]], httpx.Request], httpx.Response]


def settings_of(**keys: Any) -> VmReaderSettings:
    given = {
        "class": "vm",
        "datasource_url": "http://db:8428/",
        "sampling_period": "1m",
        "queries": {"q": {"expr": "m"}},
    }
    return msgspec.convert(given | keys, VmReaderSettings, dec_hook=decode_hook)


class Server:
    """Answers query_range like a server with `n_series` series whose value is their number plus the time."""

    def __init__(self, n_series: int = 2, fault: Handler | None = None) -> None:
        self.n_series = n_series
        self.fault = fault
        self.requests: list[httpx.Request] = []
        self.asked: list[dict[str, list[str]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        params = parse_qs(request.content.decode() if request.method == "POST" else request.url.query.decode())
        self.requests.append(request)
        self.asked.append(params)
        try:
            return self._answer(params, request)
        except KeyError:
            return httpx.Response(404)

    def _answer(self, params: dict[str, list[str]], request: httpx.Request) -> httpx.Response:
        if self.fault is not None:
            return self.fault(params, request)
        return self.matrix(params)

    def matrix(self, params: dict[str, list[str]]) -> httpx.Response:
        start, end, step = (float(params[key][0]) for key in ("start", "end", "step"))
        times = [start + k * step for k in range(round((end - start) / step) + 1)]
        result = [
            {"metric": {"n": str(n)}, "values": [[int(t) if t == int(t) else t, str(n + t)] for t in times]}
            for n in range(self.n_series)
        ]
        body = {"status": "success", "data": {"resultType": "matrix", "result": result}}
        return httpx.Response(200, json=body)


def n_steps(params: dict[str, list[str]]) -> int:
    return round((float(params["end"][0]) - float(params["start"][0])) / float(params["step"][0])) + 1


def reader_of(server: Server, metrics: Metrics | None = None, **keys: Any) -> VmReader:
    return VmReader(settings_of(**keys), metrics or Metrics(), "default", httpx.MockTransport(server))


def minutes(n: int) -> Window:
    return Window(START, START + (n - 1) * MINUTE, MINUTE)


QUERY = Query("q", "m", MINUTE)


def read(reader: VmReader, window: Window, query: Query = QUERY) -> list[tuple[Window, Samples]]:
    try:
        return list(reader.read(query, window, "s"))
    finally:
        reader.close()


def whole(pieces: list[tuple[Window, Samples]]) -> Any:
    """All pieces' frames, one beside the other."""
    return np.concatenate([pack(samples, window).values for window, samples in pieces], axis=1)


def expected(n_series: int, window: Window) -> Any:
    return np.arange(n_series)[:, None] + window.timestamps_ms() / 1000


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    url = labels.pop("url", "http://db:8428/api/v1/query_range")
    names = {"url": url, "query_key": "q", "scheduler_alias": "s", "preset": "default"}
    return metrics.registry.get_sample_value(name, names | labels)


def refuse(text: str, above: int, server: Server, status: int = 422) -> Handler:
    def handle(params: dict[str, list[str]], request: httpx.Request) -> httpx.Response:
        if n_steps(params) > above:
            return httpx.Response(status, json={"status": "error", "errorType": "422", "error": text})
        return server.matrix(params)

    return handle
