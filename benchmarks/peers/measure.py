"""One contender of one case in a process of its own, on one core: seconds, peak memory, its result on a few series."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import forests, levels, regressions, seasons
from benchmarks.peers.case import Case

CASES: dict[str, Case] = {**regressions.CASES, **seasons.CASES, **levels.CASES, **forests.CASES}
_THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
    *("POLARS_MAX_THREADS", "LOKY_MAX_CPU_COUNT"),
)


def in_process(case: str, contender: str, result: Path) -> dict[str, Any]:
    """What the contender says of itself; its result goes to a file. Empty where its library is not installed."""
    words = [sys.executable, "-m", "benchmarks.peers.measure", case, contender, str(result)]
    environ = {**os.environ, **dict.fromkeys(_THREADS, "1")}
    done = subprocess.run(words, capture_output=True, text=True, env=environ, check=False)
    if "ModuleNotFoundError" in done.stderr:
        return {}
    if done.returncode:
        raise SystemExit(f"{case}, {contender}: {done.stderr}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(name: str, contender: str, result: Path) -> dict[str, Any]:
    """Time one contender."""
    case = CASES[name]
    its = case.contenders[contender]
    few = case.data(case.n_checked)
    found = its.run(few)  # compiles and imports, too
    if case.check is not None:
        np.save(result, np.asarray(found))
    values = case.data(its.n_series)
    seconds = []
    for _ in range(its.rounds):
        started = time.perf_counter()
        its.run(values)
        seconds.append(time.perf_counter() - started)
    return {
        "seconds": statistics.median(seconds) * case.n_series / its.n_series,
        "n_timed": its.n_series,
        "rounds": its.rounds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("contender")
    parser.add_argument("result", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(json.dumps(measure(args.case, args.contender, args.result)))


if __name__ == "__main__":
    main()
