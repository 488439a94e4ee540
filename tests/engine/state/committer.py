"""Commits five records to the state folder that it is given, and says on standard output after each that it is done."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from engine.disk.codec import Record
from engine.state.store import StateStore

NAMES = {"scheduler": "s", "model": "m", "query": "q"}
# Snapshots; the others are appended.
SAVED = (1, 4)


def record(n: int) -> Record:
    """Facts and arrays that belong together: a mix of two records shows."""
    return Record({"n": n}, {"values": np.full(3_000, n, dtype=np.float64), "names": np.array([f"series {n}"])})


def main() -> None:
    """Commit the records 1 to 5."""
    store = StateStore(Path(sys.argv[1]))
    keeper = store.keeper(NAMES, "i")
    for n in range(1, 6):
        if n in SAVED:
            keeper.save(record(n), n)
        else:
            keeper.append(record(n))
        os.write(1, b"%d" % n)


if __name__ == "__main__":
    main()
