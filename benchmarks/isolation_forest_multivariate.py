"""Time and state of the multivariate isolation forest, by group: fit, tick, and a tick with contributions.

Run: python benchmarks/isolation_forest_multivariate.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from engine.frame import Frame
from engine.models.base import fit, infer
from engine.models.iforest_multivariate import IsolationForestMultivariate
from engine.pool import Pool

STEP_MS = 300_000
N_STEPS = 14 * 288
N_CELLS = 400  # of groups times channels


def _frame(values: np.ndarray, groups: np.ndarray) -> Frame:
    times = STEP_MS * np.arange(values.shape[1], dtype=np.int64)
    return Frame(np.arange(values.shape[0]), times, np.ascontiguousarray(values), STEP_MS, groups=groups)


def seconds(function: Callable[[], object], rounds: int) -> float:
    """The shortest of some rounds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Fit and tick groups of several sizes and print both."""
    pool = Pool(1)
    rng = np.random.default_rng(1)
    print("channels  fit, ms/group  tick, us/group  with contributions  state, bytes/group")
    for n_channels in (2, 5, 20, 100):
        n_groups = max(2, N_CELLS // n_channels)
        groups = np.repeat(np.arange(n_groups), n_channels)
        values = rng.normal(size=(groups.size, N_STEPS))
        past, now = _frame(values, groups), _frame(values[:, -1:], groups)
        plain = IsolationForestMultivariate()
        asked = IsolationForestMultivariate(provide_series=["anomaly_score", "contribution"])
        state = fit(plain, [past], pool)
        cells = [
            1e3 * seconds(lambda: fit(plain, [past], pool), 2),  # noqa: B023 - called at once
            1e6 * seconds(lambda: infer(plain, state, now, pool), 7),  # noqa: B023 - called at once
            1e6 * seconds(lambda: infer(asked, state, now, pool), 7),  # noqa: B023 - called at once
            state.size_bytes,
        ]
        print("{:8}  {:13.1f}  {:14.1f}  {:18.1f}  {:18.0f}".format(n_channels, *(cell / n_groups for cell in cells)))


if __name__ == "__main__":
    main()
