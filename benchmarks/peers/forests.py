"""Isolation forests of 100 trees on 256 points: built and all points scored, or built and one point scored."""

from __future__ import annotations

import numpy as np

from benchmarks.peers.case import OURS, Case, Contender, frame_of
from engine.frame import F64
from engine.models.base import fit, infer
from engine.models.iforest import Contamination, IsolationForest
from engine.pool import Pool
from kernels.iforest import forest_zeros
from kernels.iforest_build import forest_build
from kernels.iforest_paths import forest_score

N_SAMPLE, N_TREES = 256, 100


def columns_of(row: F64) -> F64:
    """The value, its step, its distance from its last hour, the time of day."""
    hour = np.convolve(row, np.ones(12) / 12, mode="same")
    return np.column_stack([row, np.diff(row, prepend=row[0]), row - hour, np.arange(row.size) % 288 / 288])


def engine_all(values: F64) -> F64:
    scores = np.empty(values.shape)
    for row, out in zip(values, scores, strict=True):
        x = columns_of(row)
        forest = forest_zeros(x.shape[1], N_TREES, N_SAMPLE)
        forest_build(x, 1, N_SAMPLE, x.shape[1], False, forest)
        forest_score(x, N_SAMPLE, forest, out)
    return scores


def sklearn_all(values: F64) -> F64:
    from sklearn.ensemble import IsolationForest as Theirs

    forests = ((columns_of(row), Theirs(n_estimators=N_TREES, max_samples=N_SAMPLE, random_state=0)) for row in values)
    return np.array([-forest.fit(x).score_samples(x) for x, forest in forests])


def engine_one(values: F64) -> F64:
    model, frame, pool = IsolationForest(contamination=Contamination(0.01)), frame_of(values), Pool(1)
    found = infer(model, fit(model, [frame], pool), frame_of(values[:, -1:].copy()), pool)[0].score
    assert found is not None
    return found


def sklearn_one(values: F64) -> F64:
    from sklearn.ensemble import IsolationForest as Theirs

    found = []
    for row in values[:, :, None]:
        forest = Theirs(n_estimators=N_TREES, max_samples=N_SAMPLE, random_state=0).fit(row)
        found.append(-forest.score_samples(row[-1:]))
    return np.array(found)


def rank_correlation(ours: F64, theirs: F64) -> str:
    def ranks(x: F64) -> F64:
        return np.argsort(np.argsort(x, axis=1), axis=1).astype(np.float64)

    each = [np.corrcoef(a, b)[0, 1] for a, b in zip(ranks(ours), ranks(theirs), strict=True)]
    return f"rank correlation {np.median(each):.3f}"


CASES = {
    "forest": Case(
        "Isolation forest on four columns, all 4,032 points scored",
        {OURS: Contender(engine_all, 100, 5), "scikit-learn": Contender(sklearn_all, 10, bar=20)},
        check=rank_correlation,
    ),
    "forest-one": Case(
        "Isolation forest of values, fit on 4,032 points, one point scored",
        {OURS: Contender(engine_one, 1_000, 5), "scikit-learn": Contender(sklearn_one, 10, bar=100)},
    ),
}
