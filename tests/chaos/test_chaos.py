"""Faults at random for some minutes; then every score is there, as an undisturbed run gives it."""

from __future__ import annotations

import collections
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.reference import compare, undisturbed
from tests.chaos.world import STEP_S, World
from tests.e2e.stack import needs_stack, until

MINUTES = float(os.environ.get("CHAOS_MINUTES", "3"))
SEED = int(os.environ.get("CHAOS_SEED", str(int(time.time()))))
# After the last fault: until all that waited is written, also what a lost state has to score again.
QUIET_S = 60 + 10 * MINUTES

pytestmark = [
    pytest.mark.chaos,
    needs_stack,
    pytest.mark.skipif(os.geteuid() != 0, reason="small disks are mounted by root only"),
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, int(60 * MINUTES + QUIET_S + 300))
    yield made
    made.close()


def resources(world: World) -> tuple[float, float, float]:
    """Memory in MiB, file descriptors, threads."""
    assert world.engine is not None
    tasks = len(list(Path(f"/proc/{world.engine.process.pid}/task").iterdir()))
    return world.metric("process_resident_memory_bytes") / (1 << 20), world.metric("process_open_fds"), tasks


def all_is_written(world: World) -> None:
    assert world.engine is not None
    since = time.time()
    until(
        lambda: world.metric("vmanomaly_writer_queue_bytes") == 0 and time.time() > since + 10,
        QUIET_S,
        "all is written",
        lambda: world.engine.log if world.engine else "",
    )


def test_chaos(world: World, tmp_path: Path) -> None:
    print(f"\nCHAOS_SEED={SEED} CHAOS_MINUTES={MINUTES:g}")
    rng, done = random.Random(SEED), collections.Counter[str]()
    engine = world.start_engine()
    assert time.time() < world.begin_s, "the machine is too slow to be ready in time"
    sent = "vmanomaly_writer_datapoints_sent_total"
    until(lambda: world.metric(sent) > 0, 120, "scores", lambda: engine.log)
    time.sleep(20)
    before = resources(world)
    end = time.monotonic() + 60 * MINUTES
    while time.monotonic() < end:
        fault = rng.choice(FAULTS)
        done[fault.__name__] += 1
        print(f"{time.strftime('%X')} {fault.__name__}", flush=True)
        fault(world, rng)
        time.sleep(rng.uniform(0, 5))
    assert world.engine is not None
    last_s = int(time.time()) // STEP_S * STEP_S - STEP_S
    all_is_written(world)
    time.sleep(20)  # what a restart of the database has lost is sent again by then
    all_is_written(world)
    after = resources(world)
    code, _ = world.engine.stop()
    assert code == 0
    world.target.flush()
    config = world.config_text().replace(world.source_proxy.url, world.source.vm)
    expected = undisturbed(tmp_path, config, world.begin_s, last_s)
    refused = [*world.target_proxy.refused]
    verdict = compare(world.target.vm, expected, world.begin_s, last_s, refused)
    print(f"faults {dict(done)}")
    print(f"{verdict.n_there} of {verdict.n_expected} samples there, {verdict.n_twice} of them more than once,")
    print(f"{verdict.n_refused} refused, {len(verdict.missing)} missing, {len(verdict.wrong)} wrong;")
    print(f"MiB, file descriptors, threads {before} before, {after} after")
    assert verdict.wrong[:5] == []
    assert verdict.missing[:5] == []
    assert verdict.n_there + verdict.n_refused == verdict.n_expected > 0
    kept = [path.read_bytes() for path in (world.state / "spool").glob("refused*.jsonl")]
    assert bool(kept) == bool(refused)
    assert "Traceback" not in world.engine.log
    assert after[1] <= before[1] + 5
    assert after[2] <= before[2] + 4
    assert after[0] <= 1.5 * before[0] + 200
