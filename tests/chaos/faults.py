"""What can go wrong, each as a function that does it, waits, and makes it good again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

from tests.chaos.world import World
from tests.e2e.stack import until

# A database that was stopped needs its usual ten seconds to store what it took before.
_RECOVER_S = 11.0


def kill_engine(world: World, rng: random.Random) -> None:
    world.kill_engine()
    time.sleep(rng.uniform(0, 4))
    world.start_engine()


def kill_target(world: World, rng: random.Random) -> None:
    world.kill_target()
    time.sleep(rng.uniform(0, 6))
    world.restart_target()


def kill_both(world: World, rng: random.Random) -> None:
    world.kill_target()
    time.sleep(rng.uniform(0, 3))
    world.kill_engine()
    time.sleep(rng.uniform(0, 3))
    world.start_engine()
    time.sleep(rng.uniform(0, 5))
    world.restart_target()


def pause_target(world: World, rng: random.Random) -> None:
    world.target.kill("victoriametrics", signal.SIGSTOP)
    time.sleep(rng.uniform(2, 12))
    world.target.kill("victoriametrics", signal.SIGCONT)
    time.sleep(_RECOVER_S)


def fill_target_disk(world: World, rng: random.Random) -> None:
    world.db_disk.fill(4 << 20)
    time.sleep(rng.uniform(2, 4))
    world.db_disk.free()
    time.sleep(2)
    world.restart_target()
    time.sleep(_RECOVER_S)


def fill_state_disk(world: World, rng: random.Random) -> None:
    world.state_disk.fill(rng.choice([0, 4 << 10, 1 << 20]))
    time.sleep(rng.uniform(2, 8))
    if rng.random() < 0.5:
        world.kill_engine()
        time.sleep(rng.uniform(0, 2))
        if rng.random() < 0.5:
            world.state_disk.free()
        world.start_engine()
        time.sleep(rng.uniform(0, 8))
    world.state_disk.free()


def proxy_fault(world: World, rng: random.Random) -> None:
    proxy = rng.choice([world.source_proxy, world.target_proxy])
    faults = ["cut", "delay", "500", "429"] + (["400"] if proxy is world.target_proxy else [])
    proxy.fault = rng.choice(faults)
    time.sleep(rng.uniform(1, 3) if proxy.fault == "400" else rng.uniform(2, 10))
    proxy.fault = None


def refuse(world: World, rng: random.Random) -> None:
    world.target_proxy.fault = "400"
    time.sleep(rng.uniform(1, 3))
    world.target_proxy.fault = None


def damage_state(world: World, rng: random.Random) -> None:
    """Flip a byte of the newest file of state, as a bad disk does."""
    world.kill_engine()
    files = [*world.state.glob("*.snapshot"), *world.state.glob("*.journal")]
    if files:
        newest = max(files, key=lambda path: path.stat().st_mtime_ns)
        data = bytearray(newest.read_bytes())
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            newest.write_bytes(data)
    world.start_engine()


def cut_spool(world: World, rng: random.Random) -> None:
    """Cut the end off the newest file of the spool, sometimes while it holds results that nobody else has."""
    if rng.random() < 0.5:
        world.target_proxy.fault = "500"
        time.sleep(rng.uniform(3, 6))
    world.kill_engine()
    files = sorted((world.state / "spool").glob("*.spool"))
    if files:
        data = files[-1].read_bytes()
        files[-1].write_bytes(data[: max(0, len(data) - rng.choice([1, 100, 10_000, 1_000_000]))])
    world.target_proxy.fault = None
    world.start_engine()


def change_config(world: World, rng: random.Random) -> None:
    """Good and bad ones in a row; the last one is good. A process that starts with a bad one ends, as it should."""
    until(lambda: world.metric("process_open_fds") > 0, 60, "the configuration is read")
    for _ in range(rng.randrange(1, 4)):
        if rng.random() < 0.5:
            world.config_path.write_text(rng.choice(["{{{", "", "models: 3\n", world.config_text("nonsense: [")]))
        else:
            world.timeout_s = 9 - world.timeout_s
            level = rng.choice(["info", "warning"])
            world.config_path.write_text(world.config_text(f"settings: {{logger_levels: {{http: {level}}}}}\n"))
        time.sleep(rng.uniform(0.5, 2.5))
    world.config_path.write_text(world.config_text())
    time.sleep(1)


FAULTS: tuple[Callable[[World, random.Random], None], ...] = (
    *(kill_engine, kill_target, kill_both, pause_target, fill_target_disk, fill_state_disk),
    *(proxy_fault, proxy_fault, refuse, damage_state, cut_spool, change_config),
)
