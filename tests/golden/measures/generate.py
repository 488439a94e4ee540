"""Writes ``cases.json``: average precision of small samples by scikit-learn, ties and single classes included.

Run where scikit-learn is installed, from the root of the repository: ``python -m tests.golden.measures.generate``.
Made with the version in the file. Tolerance: 1e-12, for both only add and divide.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score


def main() -> None:
    """Write the file beside this script."""
    rng = np.random.default_rng(5)
    cases = []
    for n_points, share, n_levels in [(12, 0.3, 4), (60, 0.1, 7), (200, 0.05, 1000), (200, 0.5, 3), (9, 1.0, 4)]:
        for _ in range(3):
            truth = (rng.random(n_points) < share).astype(int)
            truth[0] = 1
            scores = rng.integers(0, n_levels, n_points) / n_levels + 0.25 * truth
            expected = average_precision_score(truth, scores)
            cases.append({"truth": truth.tolist(), "scores": scores.tolist(), "average_precision": expected})
    text = json.dumps({"scikit-learn": version("scikit-learn"), "cases": cases})
    Path(__file__).with_name("cases.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
