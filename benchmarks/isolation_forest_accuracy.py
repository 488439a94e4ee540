"""Our isolation forest against scikit-learn's: rank correlation of scores and ROC-AUC on ten labelled data sets.

Run by hand where both are installed: ``PYTHONPATH=. python benchmarks/isolation_forest_accuracy.py [rows] [seeds]``.
Exit status 1 where a bound is not kept: ours agree with scikit-learn's as well as its own seeds among themselves, less
0.01, and the mean areas differ by no more than 0.01.
"""

from __future__ import annotations

import sys
from itertools import combinations, product

import numpy as np
from scipy.stats import spearmanr
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from kernels.iforest import forest_zeros
from kernels.iforest_build import forest_build
from kernels.iforest_paths import forest_score
from tests.golden.isolation_forest.generate import data_sets


def ours(x: np.ndarray, seed: int) -> np.ndarray:
    """Our raw scores of a forest built on the same rows."""
    n_sample = min(256, len(x))
    forest, out = forest_zeros(x.shape[1], 100, n_sample), np.empty(len(x))
    forest_build(x, seed, n_sample, x.shape[1], False, forest)
    forest_score(x, n_sample, forest, out)
    return out


def main() -> int:
    """Print a row for each data set; 1 if a bound is not kept."""
    n_rows, n_seeds = (int(a) for a in (*sys.argv[1:], 4000, 12)[:2])
    is_bad = False
    print("| Data | Columns | scikit-learn with itself | Ours with scikit-learn | AUC, scikit-learn | AUC, ours |")
    print("|---|---|---|---|---|---|")
    for name, (x, is_outlier) in data_sets(n_rows).items():
        theirs = [-IsolationForest(random_state=seed).fit(x).score_samples(x) for seed in range(n_seeds)]
        mine = [ours(x.astype(np.float64), seed) for seed in range(n_seeds)]
        itself = np.mean([spearmanr(a, b)[0] for a, b in combinations(theirs, 2)])
        across = np.mean([spearmanr(a, b)[0] for a, b in product(mine, theirs)])
        areas = [np.mean([roc_auc_score(is_outlier, s) for s in scores]) for scores in (theirs, mine)]
        print(f"| {name} | {x.shape[1]} | {itself:.3f} | {across:.3f} | {areas[0]:.3f} | {areas[1]:.3f} |")
        is_bad |= across < itself - 0.01 or abs(areas[1] - areas[0]) > 0.01
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main())
