"""Ratios and growth of docs/benchmarks.md as pictures. Needs matplotlib, from the `bench` group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.peers.case import OURS

_REACHED, _MISSED, _PLAIN = "#2f7d4f", "#c0622f", "#7f8c99"


def draw_ratios(peers: dict[str, Any], path: Path) -> None:
    """How many times as fast as each peer, and the bar that was set before, as a tick."""
    rows = [
        (f"{case['title']} / {name}", row["ratio"], row["bar"])
        for case in peers.values()
        for name, row in case["rows"].items()
        if name != OURS
    ]
    figure, axes = plt.subplots(figsize=(13, 0.32 * len(rows) + 1))
    for at, (_, ratio, bar) in enumerate(rows):
        color = _PLAIN if bar is None else _REACHED if ratio >= bar else _MISSED
        axes.barh(at, ratio, color=color)
        axes.text(ratio * 1.08, at, f"{ratio:.3g}", va="center", fontsize=8)
        if bar is not None:
            axes.plot([bar, bar], [at - 0.45, at + 0.45], color="black", linewidth=1.5)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=8)
    axes.set_xscale("log")
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("times as fast (the black line is the bar that was set before)")
    _save(figure, path)


def draw_growth(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds over size, as lines on logarithmic scales."""
    figure, both = plt.subplots(1, 2, figsize=(10, 4))
    for axes, what in zip(both, ("series", "points"), strict=True):
        for row in rows:
            if row["grows"] == what:
                sizes = [int(size) for size in row["seconds"]]
                label = f"{row['model']}, {row['stage']}: exponent {row['exponent']:.2f}"
                axes.plot(sizes, list(row["seconds"].values()), marker="o", markersize=3, label=label)
        axes.set(xscale="log", yscale="log", xlabel=what, ylabel="seconds")
        axes.legend(fontsize=7)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)
