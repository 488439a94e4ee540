"""How well every model finds anomalies: labelled metrics of companies, labelled servers, seeded scenarios.

Run: ENGINE_TEST_DATA=FOLDER python benchmarks/quality.py [--models a,b] [--sets kpi,asd,synthetic] [--write] [--base X]

Every model runs with its default arguments through `engine score`'s own code, each in a process of its own. Prints one
table for each set of data; `--write` puts them into docs/models/quality.md, replacing the rows of the models that ran.
`--base` runs a commit as well and prints both figures side by side. Labels serve to measure, never to fit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/models/quality.md"
WORKER = Path(__file__).with_name("quality_worker.py")
SETS = ("kpi", "asd", "synthetic")
_TIMEOUT_S = 3600

# Why a class is not in the tables.
EXCLUDED = {
    "custom": "is a program of yours, not a model of ours",
    "noop": "scores nothing",
}
# What a class cannot do without; everything else is its default.
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "rolling_quantile": ("quantile=0.99", "window_steps=1440"),
    "arima": ("order=[2,1,2]",),
    "auto": ("tuned_class_name=zscore_online", "optimization_params.anomaly_percentage=0.01"),
}
# What the measures of a set need beyond the score.
MORE = {"asd": ("provide_series=[anomaly_score,contribution]",)}
COLUMNS: dict[str, dict[str, str]] = {
    "kpi": {
        "ap": "average precision",
        "series_f1": "best 7-delay F1, per KPI",
        "best_f1": "7-delay F1, one threshold",
        "f1_at_1": "7-delay F1 at 1",
        "f1_at_1_small": "the same without the 5 giant segments",
        "episodes": "false episodes a week at 1",
        "seconds": "s",
        "mib": "MiB",
    },
    "asd": {
        "ap": "average precision",
        "best_point_f1": "F1, one threshold",
        "f1_at_1": "7-delay F1 at 1",
        "episodes": "false episodes a week at 1",
        "hit_rate": "HitRate of the blame",
        "seconds": "s",
        "mib": "MiB",
    },
}


def classes(sets: Sequence[str]) -> dict[str, list[str]]:
    """For each set of data the classes that can run on it."""
    from engine.config.classes import MODELS

    found: dict[str, list[str]] = {name: [] for name in sets}
    for alias in MODELS.entries:
        kind = MODELS.settings_type(alias)
        if alias in EXCLUDED or not kind.is_available:
            continue
        for name in sets:
            if (name == "asd") == kind.is_multivariate:
                found[name].append(alias)
    return found


def files_of(name: str, data: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """The runs of a set: files and how much of them is the head."""
    if name == "kpi":
        return {"kpi": {"files": [str(data / "aiops-kpi/train")], "fraction": 0.1}}
    if name == "asd":
        return {
            "asd": {"files": [str(p) for p in sorted((data / "asd-servers").glob("server-*.csv.gz"))], "rows": 8640}
        }
    from benchmarks import scenarios

    fraction = float(scenarios.FIT_FRACTION)
    return {i: {"files": [str(scenarios.write(i, folder))], "fraction": fraction} for i in scenarios.IDS}


@contextlib.contextmanager
def checkout(ref: str | None) -> Iterator[Path]:
    """The working tree, or a commit in a folder of its own."""
    if ref is None:
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "worktree", "add", "-q", "--detach", folder, ref], cwd=ROOT, check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=ROOT, check=True)


def run(tree: Path, task: Mapping[str, Any]) -> dict[str, float] | str:
    """The figures of one task, or the last line of what went wrong."""
    command = [sys.executable, str(WORKER), json.dumps(task)]
    environ = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}"}
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"did not end within {_TIMEOUT_S} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["failed"])[-1]
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(tree: Path, chosen: Mapping[str, Sequence[str]], data: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """By set, class and run: the figures."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, aliases in chosen.items():
            runs = files_of(name, data, Path(folder))
            found[name] = {}
            for alias in aliases:
                found[name][alias] = {}
                for scenario, where in runs.items():
                    arguments = [*ARGUMENTS.get(alias, ()), *MORE.get(name, ())]
                    task = {**where, "set": name, "class": alias, "arguments": arguments}
                    outcome = run(tree, task)
                    found[name][alias][scenario] = outcome
                    print(f"{name:>10} {alias:>32} {scenario:>12}: {_short(outcome)}", file=sys.stderr, flush=True)
    return found


def _short(outcome: dict[str, float] | str) -> str:
    if isinstance(outcome, str):
        return outcome
    return ", ".join(f"{key} {value:.3g}" for key, value in outcome.items())


def tables(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, list[list[str]]]:
    """By set: a heading and a row of text for each class."""
    made = {}
    for name, by_class in found.items():
        if name == "synthetic":
            ids = list(next(iter(by_class.values()), {}))
            head = ["model", *(i for i in ids if i != "clean"), "mean", "clean: % above 1"]
            made[name] = [head, *([alias, *_scenario_cells(runs)] for alias, runs in by_class.items())]
            continue
        columns = COLUMNS[name]
        rows = []
        for alias, runs in by_class.items():
            (outcome,) = runs.values()
            cells = [outcome] + [""] * (len(columns) - 1) if isinstance(outcome, str) else _cells(outcome, columns)
            rows.append([alias, *cells])
        made[name] = [["model", *columns.values()], *rows]
    return made


def _cells(outcome: Mapping[str, float], keys: Sequence[str] | Mapping[str, str]) -> list[str]:
    digits = {"seconds": ".0f", "mib": ".0f", "episodes": ".2f"}
    return [
        "-" if outcome.get(k) is None or outcome[k] != outcome[k] else f"{outcome[k]:{digits.get(k, '.3f')}}"
        for k in keys
    ]


def _scenario_cells(runs: Mapping[str, Any]) -> list[str]:
    ap = {i: float("nan") if isinstance(o, str) else o.get("ap", float("nan")) for i, o in runs.items() if i != "clean"}
    clean = runs.get("clean")
    above = 100 * clean["above_1"] if isinstance(clean, dict) else float("nan")
    mean = sum(ap.values()) / max(1, len(ap))
    return [*(f"{value:.3f}" for value in ap.values()), f"{mean:.3f}", f"{above:.3f}"]


def as_markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as a table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    return lines + ["| " + " | ".join(row) + " |" for row in rows[1:]]


def update_page(made: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Replace the rows of the models that ran, between the marks of each set; classes as the registry has them."""
    from engine.config.classes import MODELS

    order = list(MODELS.entries)
    text = PAGE.read_text(encoding="utf-8")
    for name, rows in made.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        old = re.search(f"{re.escape(begin)}(.*?){re.escape(end)}", text, re.DOTALL)
        if old is None:
            raise SystemExit(f"{PAGE}: the marks of {name} are not there")
        new = {row[0]: row for row in rows[1:]}
        kept = [line.strip("| ").split(" | ") for line in old[1].splitlines()[2:]]
        merged = [new.pop(row[0], row) if len(row) == len(rows[0]) else new.pop(row[0], None) for row in kept]
        every = [*(row for row in merged if row), *new.values()]
        every.sort(key=lambda row: order.index(row[0]) if row[0] in order else len(order))
        table = as_markdown([rows[0], *every])
        text = text[: old.start()] + begin + "\n".join(table) + "\n" + end + text[old.end() :]
    PAGE.write_text(text, encoding="utf-8")


def compare(base: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """A line for each figure that both have and that moved."""
    lines = []
    for name, by_class in head.items():
        for alias, runs in by_class.items():
            for scenario, outcome in runs.items():
                old = base.get(name, {}).get(alias, {}).get(scenario)
                if isinstance(outcome, str) or not isinstance(old, dict):
                    lines.append(f"{name} {alias} {scenario}: base {_short(old or '-')}; head {_short(outcome)}")
                    continue
                moved = [k for k in outcome if k in old and k not in ("seconds", "mib") and outcome[k] != old[k]]
                moved += [k for k in ("seconds", "mib") if abs(outcome[k] - old[k]) > 0.25 * old[k]]
                lines += [f"{name} {alias} {scenario}: {k} {old[k]:.4g} -> {outcome[k]:.4g}" for k in moved]
    return lines or ["no figure moved"]


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="", help="only these classes, with commas between them")
    parser.add_argument("--sets", default=",".join(SETS), help="only these sets of data")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/models/quality.md")
    parser.add_argument("--base", metavar="REF", help="a commit to compare with")
    args = parser.parse_args()
    data = Path(os.environ.get("ENGINE_TEST_DATA", "../shared/data"))
    chosen = classes(args.sets.split(","))
    if args.models:
        chosen = {name: [a for a in aliases if a in args.models.split(",")] for name, aliases in chosen.items()}
    with checkout(args.base) as tree:
        base = measure(tree, chosen, data) if args.base else None
    head = measure(ROOT, chosen, data)
    made = {name: rows for name, rows in tables(head).items() if len(rows) > 1}
    for name, rows in made.items():
        print("\n".join([f"\n{name}", *as_markdown(rows)]))
    if base is not None:
        print("\n".join(["", *compare(base, head)]))
    if args.write:
        update_page(made)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
