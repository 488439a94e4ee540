"""One measurement in a process of its own, so that its memory and CPU time are nobody else's.

Run: python -m engine.bench.worker < task.json; prints what it found as JSON.
"""

from __future__ import annotations

import logging
import sys

import msgspec

from engine.bench.line import measure_line
from engine.bench.measuring import Found, Task
from engine.bench.stages import measure_stages
from engine.errors import EngineError


def main() -> int:
    """0 with a result, 1 with an error, both printed."""
    logging.basicConfig(level=logging.ERROR)
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    try:
        found = measure_stages(task) if task.kind == "stages" else measure_line(task)
    except EngineError as err:
        found = Found(error=str(err))
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    return 1 if found.error else 0


if __name__ == "__main__":
    sys.exit(main())
