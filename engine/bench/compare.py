"""Two results of `engine bench` beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import InputError

# Medians of five differ by so much on a machine that does nothing else.
_NOISE = 0.1
_SETTINGS = ("models", "series", "points", "step", "threads", "datasource", "query", "write")
_TOTALS = {"peak_rss_bytes": "peak memory", "state_bytes_per_series": "state per series"}
Result = dict[str, Any]


def read_old(path: Path, settings: Mapping[str, object]) -> Result:
    """An older result that was measured with the same settings.

    Raises
    ------
    InputError : the file is none, or was measured with others; says which.
    """
    try:
        old = msgspec.json.decode(path.read_bytes())
        found, rows = old["settings"], [(row["model"], row["stage"], row["seconds"]) for row in old["rows"]]
        totals = [total["model"] for total in old["totals"]]
    except OSError as err:
        raise InputError(f"--compare {path}: cannot be read: {err.strerror or err}") from err
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError) as err:
        raise InputError(f"--compare {path}: expected what `engine bench --json` printed") from err
    other = [f"{k} {found.get(k)!r}, now {settings.get(k)!r}" for k in _SETTINGS if found.get(k) != settings.get(k)]
    if other or not rows or not totals:
        raise InputError(f"--compare {path}: measured with other settings: {'; '.join(other) or 'no rows'}")
    return dict(old)


def compare(old: Result, new: Result) -> list[dict[str, Any]]:
    """A row for each thing that both have: before, now, their ratio, and the verdict."""
    rows = []
    before = {(row["model"], row["stage"]): row["seconds"] for row in old["rows"]}
    for row in new["rows"]:
        key = row["model"], row["stage"]
        if key in before:
            rows.append(_verdict(*key, "s", before[key], row["seconds"], ("faster", "slower")))
    totals = {total["model"]: total for total in old["totals"]}
    for total in new["totals"]:
        for name, what in _TOTALS.items():
            then, now = totals[total["model"]].get(name), total.get(name)
            if then and now is not None:
                rows.append(_verdict(total["model"], what, "bytes", then, now, ("smaller", "larger")))
    return rows


def _verdict(model: str, what: str, unit: str, then: float, now: float, words: tuple[str, str]) -> dict[str, Any]:
    ratio = now / then
    better, worse = words
    verdict = better if ratio < 1 - _NOISE else worse if ratio > 1 + _NOISE else "same"
    return {"model": model, "what": what, "unit": unit, "before": then, "now": now, "ratio": ratio, "verdict": verdict}
