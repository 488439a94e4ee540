"""Adds batches to a spool and settles some; writes a byte for each that is safe. Run to be killed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import engine.spool.segment
from engine.spool.spool import Spool
from tests.engine.writer.batches import numbered

N_BATCHES = 6


def main(folder: Path) -> None:
    engine.spool.segment._FULL_BYTES = 1000  # two batches a file
    spool = Spool(folder, 1 << 30)
    for k in range(N_BATCHES):
        spool.add(numbered(k))
        os.write(1, b".")
        if k == 3:
            for _ in range(2):
                entry = spool.next()
                assert entry is not None
                spool.done(entry)
            spool.settle(time.monotonic())
    spool.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
