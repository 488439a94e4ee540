"""The demo's files: a DuckDB file with the machine's counters, and the configuration that reads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from engine.demo.machine import MODES, STEP_S
from engine.duck import DuckFile
from engine.frame import F64

STEP_MS = 1000 * STEP_S

# What `rate(node_cpu_seconds_total)` is in SQL; a counter that starts anew counts from 0.
_RATE = """
      SELECT timestamp, cpu, instance, job, mode,
             CASE WHEN value >= before THEN value - before ELSE value END / 60 AS value
      FROM (SELECT *, lag(value) OVER (PARTITION BY cpu, instance, job, mode ORDER BY timestamp) AS before
            FROM node_cpu_seconds_total
            WHERE timestamp > $start - INTERVAL 1 MINUTE AND timestamp <= $end)"""

_CONFIG = """\
# The getting-started guide's configuration. `scheduler` and `model` are as in the guide; `reader` and `writer` are
# replaced by a local file, and the query rate(node_cpu_seconds_total) by the same in SQL.
scheduler:
  infer_every: "1m"
  fit_every: "2h"
  fit_window: "14d"

model:
  class: "model.prophet.ProphetModel"
  args:
    interval_width: 0.98

reader:
  class: local
  path: {path}
  settle: 5s # the newest sample is written a moment after its minute
  queries:
    node_cpu_rate: |{rate}

writer:
  class: local
  path: {path}

server:
  port: {port}
"""


def write_config(path: Path, store: Path, port: int) -> None:
    """Write the configuration that the demo runs, so that it can be run again without the demo."""
    path.write_text(_CONFIG.format(path=json.dumps(str(store)), rate=_RATE, port=port), encoding="utf-8")


def append_counters(file: DuckFile, counters: F64, start_ms: int) -> None:
    """Append (minutes, CPUs, modes) counters from `start_ms` on to the table ``node_cpu_seconds_total``.

    Raises
    ------
    StoreError : the file is in use, or cannot be written.
    """
    minute, cpu, mode = (index.reshape(-1) for index in np.indices(counters.shape))
    columns = {"t": start_ms + STEP_MS * minute, "cpu": cpu, "mode": mode, "value": counters.reshape(-1)}
    names = ", ".join(f"'{name}'" for name in MODES)
    with file.open(read_only=False) as connection:
        connection.register("columns", columns)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS node_cpu_seconds_total "
            "(timestamp TIMESTAMP, cpu VARCHAR, instance VARCHAR, job VARCHAR, mode VARCHAR, value DOUBLE)"
        )
        connection.execute(
            f"""INSERT INTO node_cpu_seconds_total
            SELECT make_timestamp_ms(t), CAST(cpu AS VARCHAR), 'demo:9100', 'node-exporter', [{names}][mode + 1], value
            FROM columns"""
        )
