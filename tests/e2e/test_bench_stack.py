"""`engine bench` against the real VictoriaMetrics: it reads, and writes only where it is told to."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Stack, needs_stack

pytestmark = [pytest.mark.e2e, needs_stack]

STEP_S = 60
N_SERIES, N_POINTS = 7, 200


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("bench"), "--only", "victoriametrics")
    try:
        end = int(time.time()) // STEP_S * STEP_S
        times = [(end - k * STEP_S) * 1000 for k in range(N_POINTS + 30)]
        made.add(
            [
                {
                    "metric": {"__name__": "load", "host": f"h{k}"},
                    "values": [k + t // 60_000 % 5 for t in times],
                    "timestamps": times,
                }
                for k in range(N_SERIES)
            ]
        )
        made.flush()
        yield made
    finally:
        made.down()


def bench(stack: Stack, *words: str) -> dict[str, Any]:
    command = [str(Path(sys.executable).parent / "engine"), "bench", "--datasource", stack.vm, "--query", "load"]
    command += ["--step", "1m", "--points", str(N_POINTS), "--threads", "1", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def names(stack: Stack) -> set[str]:
    stack.flush()
    reply = httpx.get(f"{stack.vm}/api/v1/label/__name__/values", timeout=30).raise_for_status()
    return set(reply.json()["data"])


def test_a_real_database_is_only_read_without_write(stack: Stack) -> None:
    found = bench(stack)
    assert names(stack) == {"load"}
    assert found["settings"]["series"] == N_SERIES
    rows = {r["stage"]: r for r in found["rows"]}
    assert rows["whole fit"]["points"] == N_SERIES * N_POINTS
    assert any("only read" in note for note in found["notes"])


def test_what_is_written_has_names_of_its_own(stack: Stack) -> None:
    found = bench(stack, "--write")
    new = names(stack) - {"load"}
    (prefix,) = {word for note in found["notes"] for word in note.rstrip(";").split() if "engine_bench_" in word}
    assert new
    assert all(name.startswith(prefix.rstrip(";")) for name in new)
