"""Matrix answers a second: the decoder against msgspec's typed decoding into the same arrays.

``python -m benchmarks.decode`` prints one JSON object a case: megabytes a second (best of the rounds) and the ratio.
One third of the series are counters, one third ratios with 15 to 17 digits, one third short decimals.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable

import msgspec
import numba
import numpy as np

from engine.reader.decode import Decoder
from engine.series import SeriesTable

ROUNDS = 9


class _Series(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]]


class _Data(msgspec.Struct):
    result: list[_Series]


class _Reply(msgspec.Struct):
    data: _Data


def labels(i: int) -> dict[str, str]:
    """Labels as long as those of real HTTP metrics."""
    return {
        "__name__": "http_request_duration_seconds_sum",
        "instance": f"10.0.{i >> 8 & 255}.{i & 255}:9100",
        "job": "node",
        "handler": f"/api/v1/resource/{i % 97}",
        "code": str(200 + i % 5),
        "cluster": "eu-1",
        "pod": f"backend-{i:05d}-abcde",
    }


def texts(rng: np.random.Generator, kind: int, n: int) -> list[str]:
    """Values as a server prints them."""
    if kind == 0:
        return [str(v) for v in np.cumsum(rng.integers(0, 5000, n)).tolist()]
    if kind == 1:
        return [repr(v) for v in (rng.random(n) * 10.0 ** rng.integers(-3, 4)).tolist()]
    return [f"{v:.3f}".rstrip("0").rstrip(".") for v in (rng.random(n) * 1000).tolist()]


def make_body(n_series: int, n_steps: int) -> bytearray:
    """An answer in the form that VictoriaMetrics sends."""
    rng = np.random.default_rng(0)
    parts = []
    for i in range(n_series):
        points = ",".join(f'[{1_700_000_000 + 60 * j},"{v}"]' for j, v in enumerate(texts(rng, i % 3, n_steps)))
        parts.append(f'{{"metric":{json.dumps(labels(i), separators=(",", ":"))},"values":[{points}]}}')
    head = '{"status":"success","data":{"resultType":"matrix","result":['
    return bytearray((head + ",".join(parts) + "]}}").encode())


def with_msgspec(body: bytearray) -> Callable[[], int]:
    """The fastest way without a kernel: typed decoding, then arrays for each series."""
    decoder = msgspec.json.Decoder(_Reply)

    def run() -> int:
        n_points = 0
        gc.disable()  # two million small objects: the collector would triple the time
        try:
            for series in decoder.decode(body).data.result:
                times, values = zip(*series.values, strict=True)
                n_points += np.fromiter(times, float, len(times)).size
                np.fromiter(map(float, values), float, len(values))
        finally:
            gc.enable()
        return n_points

    return run


def with_ours(body: bytearray) -> Callable[[], int]:
    """All series known, as they are from the second tick on."""
    decoder = Decoder(SeriesTable())
    return lambda: decoder.decode(body).samples.n_points


def best_s(run: Callable[[], int], rounds: int) -> float:
    """The shortest time of the rounds, after a first one that does not count."""
    run()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Print the cases."""
    for n_series, n_steps in ((100, 20_160), (10_000, 10), (20_000, 1)):
        body = make_body(n_series, n_steps)
        ours, theirs = with_ours(body), with_msgspec(body)
        assert ours() == theirs() == n_series * n_steps
        ours_s, theirs_s = best_s(ours, ROUNDS), best_s(theirs, 3)
        megabytes = len(body) / 1e6
        print(
            json.dumps(
                {
                    "case": f"{n_series} x {n_steps}",
                    "megabytes": round(megabytes, 1),
                    "ours_mb_per_s": round(megabytes / ours_s),
                    "msgspec_mb_per_s": round(megabytes / theirs_s),
                    "ratio": round(theirs_s / ours_s, 1),
                    "versions": {"numba": numba.__version__, "msgspec": msgspec.__version__},
                }
            )
        )


if __name__ == "__main__":
    main()
