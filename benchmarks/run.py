"""All comparisons with other libraries: measured here and now, written to docs/benchmarks.md.

Run: python -m benchmarks.run [case …]          (needs the dependency group `bench`)

Every contender runs alone, in a process of its own, on one core and the same data. Figures of cases that are not named
are kept from docs/benchmarks.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import chart, scaling, wire
from benchmarks.peers.case import OURS, Case
from benchmarks.peers.measure import CASES, in_process

_OTHERS = ("wire", "scaling")
DOCS = Path(__file__).parent.parent / "docs"
_PACKAGES = (
    *("numpy", "numba", "prophet", "statsmodels", "statsforecast", "stl-rs", "scikit-learn", "pandas", "polars"),
    *("bottleneck", "msgspec", "orjson"),
)


def compare(name: str, case: Case) -> dict[str, Any]:
    """Seconds of all contenders of a case, and what its check says of their results."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for contender, its in case.contenders.items():
            sys.stderr.write(f"{name}: {contender} …\n")
            result = Path(folder, f"{contender}.npy")
            row = in_process(name, contender, result)
            if not row:
                sys.stderr.write(f"{name}: {contender} is not installed\n")
                continue
            rows[contender] = row | {"bar": its.bar}
            if contender != OURS and case.check is not None:
                rows[contender]["check"] = case.check(np.load(Path(folder, f"{OURS}.npy")), np.load(result))
    for row in rows.values():
        row["ratio"] = row["seconds"] / rows[OURS]["seconds"]
    return {"title": case.title, "n_series": case.n_series, "rows": rows}


def table(found: dict[str, Any]) -> list[str]:
    """Lines of the page: a row for each peer of each case."""
    lines = [
        "| What | Against | Ours, s | Theirs, s | Timed | Ratio | Bar | Results |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in found.values():
        ours = case["rows"][OURS]
        for name, row in case["rows"].items():
            if name == OURS:
                continue
            bar = "" if row["bar"] is None else f"{row['bar']:g}"
            ratio = f"**{row['ratio']:.3g}**" if row["bar"] and row["ratio"] >= row["bar"] else f"{row['ratio']:.3g}"
            timed = f"{ours['n_timed']}, {row['n_timed']}"
            cells = [case["title"], name, f"{ours['seconds']:.3g}", f"{row['seconds']:.3g}", timed, ratio, bar]
            lines.append("| " + " | ".join([*cells, row.get("check", "")]) + " |")
    return lines


def growth(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of the page: how each stage of a model grows."""
    lines = ["| Model | What | Grows with | Exponent | Seconds |", "|---|---|---|---|---|"]
    for row in rows:
        seconds = ", ".join(f"{int(size):,}: {value:.2g}" for size, value in row["seconds"].items())
        lines.append(f"| {row['model']} | {row['stage']} | {row['grows']} | {row['exponent']:.2f} | {seconds} |")
    return lines


def page(found: dict[str, Any]) -> str:
    """docs/benchmarks.md."""
    machine = found["machine"]
    parts = [
        "# Benchmarks",
        "",
        "Our kernels against the libraries that people use for the same. Made by `python -m benchmarks.run`: every",
        "contender in a process of its own, on one core, the same data for all. Seconds are for 1,000 series, medians",
        "of at least five rounds of ours; slower libraries are timed once on fewer series (*timed*: ours, theirs) and",
        "scaled. Ratios that reach the bar that was set before are bold. How well models find anomalies is another",
        "matter: [models/quality.md](models/quality.md).",
        "",
        "![How many times as fast](benchmarks.png)",
        "",
        *table(found["peers"]),
        "",
        "## Reading and writing",
        "",
        *wire.table(found["wire"]),
        "",
        "## Growth",
        "",
        "A fit of 100 points by series, one of 200 series by points, and a tick from answer bytes to import bytes.",
        "The exponent is that of the size, from a thousand series or points on; 1 is in proportion.",
        "",
        "![Seconds over size](benchmarks_growth.png)",
        "",
        *growth(found["scaling"]),
        "",
        "## Machine",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}; "
        + ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
        + ".",
        "",
    ]
    return "\n".join(parts)


def this_machine() -> dict[str, Any]:
    """What figures depend on."""
    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpus[0].partition(": ")[2] if cpus else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": packages,
    }


def main() -> None:
    """Measure, keep, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"of {', '.join([*CASES, *_OTHERS])}")
    args = parser.parse_args()
    if unknown := set(args.cases) - {*CASES, *_OTHERS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    kept = DOCS / "benchmarks.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"peers": {}, "wire": [], "scaling": []}
    found["machine"] = this_machine()
    for name in [case for case in CASES if case in (args.cases or CASES)]:
        found["peers"][name] = compare(name, CASES[name])
    if not args.cases or "wire" in args.cases:
        found["wire"] = wire.measure()
    if not args.cases or "scaling" in args.cases:
        found["scaling"] = [row for alias in scaling.MODELS_SHOWN for row in scaling.sweep(alias)]
    found["peers"] = {name: found["peers"][name] for name in CASES if name in found["peers"]}
    kept.write_text(json.dumps(found, indent=1) + "\n")
    (DOCS / "benchmarks.md").write_text(page(found))
    chart.draw_ratios(found["peers"], DOCS / "benchmarks.png")
    chart.draw_growth(found["scaling"], DOCS / "benchmarks_growth.png")


if __name__ == "__main__":
    main()
