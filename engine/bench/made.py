"""Made-up answers of a database: any number of series over any window, the same for the same question."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

from engine.frame import F64, I64, Window

# Series share this many courses: more would only cost the stand-in time.
_N_COURSES = 64
# Channels of one thing, for models that join them.
CHANNELS = 10
_EXPR = re.compile(r"made_up_(\d+)")


def expr_of(n_series: int) -> str:
    """The query that is answered with so many series."""
    return f"made_up_{n_series}"


def answer(expr: str, window: Window) -> bytes:
    """The body of a query_range answer; no series for a query that `expr_of` does not make."""
    match = _EXPR.fullmatch(expr)
    n_series = int(match[1]) if match else 0
    texts = _texts(window.start_ms, window.end_ms, window.step_ms) if n_series else []
    parts = [
        b'{"metric":{"__name__":"made_up","host":"h%05d","series":"s%07d"},"values":[%b]}'
        % (k // CHANNELS, k, texts[k % _N_COURSES])
        for k in range(n_series)
    ]
    head = b'{"status":"success","data":{"resultType":"matrix","result":['
    return head + b",".join(parts) + b"]}}"


@lru_cache(maxsize=16)
def _texts(start_ms: int, end_ms: int, step_ms: int) -> list[bytes]:
    """The points of each course as an answer writes them: a daily rhythm and noise, two decimals."""
    times = Window(start_ms, end_ms, step_ms).timestamps_ms()
    day = 20 * np.sin(2 * np.pi * times / 86_400_000)
    seconds = [f"{t // 1000}" if t % 1000 == 0 else f"{t / 1000}" for t in times.tolist()]
    texts = []
    for course in range(_N_COURSES):
        values = 100 + course + day + _noise(times // step_ms, course)
        pairs = zip(seconds, np.round(values, 2).tolist(), strict=True)
        texts.append(",".join(f'[{t},"{v}"]' for t, v in pairs).encode())
    return texts


def _noise(steps: I64, course: int) -> F64:
    """Roughly normal numbers that depend on the step alone, so that windows agree where they overlap."""
    draws = np.random.default_rng(course).normal(0, 3, 4099)  # a prime: no rhythm divides it
    return draws[steps % draws.size]
