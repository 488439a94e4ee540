"""Writes ``sets.npz`` and ``agreement.json``: labelled rows with the scores of scikit-learn's forests.

Run where scikit-learn is installed (made with the version that the JSON file names): ``python generate.py``.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

HERE = Path(__file__).parent
# Scores of the first seeds are kept, all seeds say how far forests agree.
N_ROWS, N_KEPT, N_SEEDS = 400, 6, 30


def data_sets(n: int) -> dict[str, tuple[Any, Any]]:
    """By name, rows and whether each is an outlier: one in 20, spread evenly and 1.5 times as far as the rest."""
    rng = np.random.default_rng(17)
    hour = np.arange(n) % 24 * (2 * np.pi / 24)
    steps = rng.integers(0, 3, (n, 1))
    bimodal = np.where(rng.random(n) < 0.3, rng.normal(0, 1, n), rng.normal(20, 2, n))
    daily = np.column_stack([10 * np.sin(hour) + rng.normal(0, 1, n), np.sin(hour), np.cos(hour)])
    regular = {
        "normal": rng.normal(0, 1, (n, 1)),
        "heavy tails": rng.standard_t(2, (n, 1)),
        "counts": rng.poisson(3, (n, 1)).astype(float),
        "two modes": bimodal[:, None],
        "log-normal": rng.lognormal(0, 2, (n, 1)),
        "rhythm": (10 * np.sin(np.arange(n) / 20) + rng.normal(0, 1, n))[:, None],
        "correlated": rng.normal(0, 1, (n, 4)) @ rng.normal(0, 1, (4, 4)),
        "clusters": rng.normal(0, 1, (n, 3)) + 5 * steps,
        "ten columns": rng.standard_t(4, (n, 10)),
        "hours": daily,
    }
    sets = {}
    for name, x in regular.items():
        is_outlier = rng.random(n) < 0.05
        low, high = np.quantile(x, [0.02, 0.98], axis=0)
        far = (low + high) / 2 + 1.5 * (high - low) * (rng.random(x.shape) - 0.5)
        sets[name] = (np.where(is_outlier[:, None], far, x).astype(np.float32), is_outlier)
    return sets


def main() -> None:
    arrays, head = {}, {"scikit-learn": version("scikit-learn"), "sets": {}}
    for k, (name, (x, is_outlier)) in enumerate(data_sets(N_ROWS).items()):
        scores = [-IsolationForest(random_state=seed).fit(x).score_samples(x) for seed in range(N_SEEDS)]
        agreement = [spearmanr(a, b)[0] for a, b in combinations(scores, 2)]
        auc = [roc_auc_score(is_outlier, s) for s in scores]
        head["sets"][name] = {"rank correlation": float(np.mean(agreement)), "auc": float(np.mean(auc))}
        arrays[f"x{k}"], arrays[f"is_outlier{k}"] = x, is_outlier
        arrays[f"scores{k}"] = np.round(np.array(scores[:N_KEPT]) * 65535).astype(np.uint16)
    np.savez_compressed(HERE / "sets.npz", **arrays)
    (HERE / "agreement.json").write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
