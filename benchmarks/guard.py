"""Is this tree as fast as another commit? Ratios only, both on this machine, round by round one after the other.

Run: python -m benchmarks.guard --base v0.1.0 [--cases zscore holtwinters …] [--rounds 5]

Our own contender of each comparison in `benchmarks.peers` is timed in both trees; the other commit is checked out aside
and measured by this tree's benchmarks. A case counts as slower or faster where every round says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.peers.case import OURS
from benchmarks.peers.measure import CASES

ROOT = Path(__file__).parent.parent


def seconds(tree: Path, case: str, folder: Path) -> float:
    """The time of our contender, by the code of a tree."""
    environ = {**os.environ, "PYTHONPATH": str(tree), "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "benchmarks.peers.measure", case, OURS, str(folder / "result.npy")]
    done = subprocess.run(words, cwd=tree, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case} in {tree}: {done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def verdict(ratios: list[float]) -> str:
    """What all rounds agree on; 3 % is nothing."""
    if min(ratios) > 1.03:
        return "slower"
    return "faster" if max(ratios) < 0.97 else "same"


def main() -> int:
    """Print a line for each case; 1 if any is slower."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="commit to compare with")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    is_slower = False
    with tempfile.TemporaryDirectory() as name:
        folder, base = Path(name), Path(name, "base")
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "-q", "--detach", str(base), args.base], check=True)
        try:
            shutil.rmtree(base / "benchmarks")
            shutil.copytree(ROOT / "benchmarks", base / "benchmarks")
            for case in args.cases:
                rounds = [(seconds(ROOT, case, folder), seconds(base, case, folder)) for _ in range(args.rounds)]
                ratios = [head / before for head, before in rounds]
                found = verdict(ratios)
                is_slower |= found == "slower"
                middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
                print(f"{case:20} {middle:.2f} of the base's time ({low:.2f} to {high:.2f}): {found}", flush=True)
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(base)], check=False)
    return int(is_slower)


if __name__ == "__main__":
    sys.exit(main())
