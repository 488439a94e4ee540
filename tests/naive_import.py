"""Import lines from their definition: one mapping for each row that has a finite value."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any


def import_lines(
    rows: Sequence[Sequence[float]], stamps_ms: Sequence[int], head: bytes, tails: Sequence[bytes]
) -> tuple[list[dict[str, Any]], int]:
    """The lines as mappings, and the points of rows without a tail."""
    lines, refused = [], 0
    for row, tail in zip(rows, tails, strict=True):
        finite = [(v, t) for v, t in zip(row, stamps_ms, strict=True) if math.isfinite(v)]
        if not tail:
            refused += len(finite)
        elif finite:
            values, times = zip(*finite, strict=True)
            metric = json.loads(head + tail + b"]}")["metric"]
            lines.append({"metric": metric, "values": list(values), "timestamps": list(times)})
    return lines, refused
