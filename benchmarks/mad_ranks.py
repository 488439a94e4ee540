"""Rank errors of the online MAD's sketches, by kind of data: the table of docs/models/mad.md.

Run: python benchmarks/mad_ranks.py [--series 200] [--points 20000] [--compression 100]

How far the share of points below an answer is from the one asked for: of the median, of the deviation around the
sketch's own median, and the larger of those of the quantiles 1 % and 99 % of the distribution that it stands for.
"""

from __future__ import annotations

import argparse

import numpy as np
from zscore import STEP_MS

from engine.frame import F64, Frame
from engine.models.base import fit, infer
from engine.models.mad import OnlineMad
from engine.pool import Pool

TAILS = (0.01, 0.99)


def kinds(n_series: int, n_points: int) -> dict[str, F64]:
    """Shapes of metrics, and what sketches could get wrong."""
    rng, shape = np.random.default_rng(6), (n_series, n_points)
    noise, times, n_level = rng.normal(0, 1, shape), np.arange(n_points), max(1, n_points // 40)
    levels = np.repeat(rng.normal(0, 1, (n_series, n_points // n_level + 1)), n_level, axis=1)
    return {
        "normal": noise,
        "Cauchy": rng.standard_cauchy(shape),
        "log-normal, sigma 2": rng.lognormal(0, 2, shape),
        "two modes, nothing between them at the median": np.where(rng.random(shape) < 0.5, 0.0, 1000.0) + noise,
        "two modes, six to four": np.where(rng.random(shape) < 0.6, noise - 5, 5 + noise / 10),
        "counts around 40": rng.poisson(40, shape).astype(float),
        "45 % zeros": np.where(rng.random(shape) < 0.45, 0.0, rng.exponential(1, shape)),
        "counts around 10,000": rng.poisson(1e4, shape).astype(float),
        "rising": np.sort(noise, axis=1),
        "daily rhythm": 10 * np.sin(times / 45) + noise,
        "forty levels in turn": levels[:, :n_points] + noise / 100,
        "forty tight levels, far apart, in turn": 1000 * levels[:, :n_points] + noise / 100,
    }


def errors(values: F64, answers: F64, share: float) -> F64:
    """(S,) rank errors of the rows' answers, in percent; 0 where values equal to the answer span the share."""
    below, up_to = (values < answers[:, None]).mean(axis=1), (values <= answers[:, None]).mean(axis=1)
    return 100 * np.maximum(np.maximum(below - share, share - up_to), 0)


def share_up_to(x: float, mean: F64, weight: F64, mixed: F64) -> float:
    """Share of a sketch at or below `x`: exact centroids are steps, halves of others lie up to their neighbours."""
    middle, half_step = np.cumsum(weight) - 0.5 * weight, 0.5 * weight * (1.0 - mixed)
    upto = np.stack([middle - half_step, middle + half_step], axis=1).ravel()
    return float(np.interp(x, np.repeat(mean, 2), upto) / weight.sum())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--compression", type=int, default=100)
    args = parser.parse_args()
    model, pool = OnlineMad(compression=args.compression, threshold=1.0), Pool(1)
    times = STEP_MS * np.arange(args.points + 1)
    for kind, values in kinds(args.series, args.points).items():
        rows = np.arange(args.series)
        state = fit(model, [Frame(rows, times[:-1], values, STEP_MS)], pool)
        found, _ = infer(model, state, Frame(rows, times[-1:], np.full((args.series, 1), np.nan), STEP_MS), pool)
        assert found.yhat is not None
        assert found.yhat_upper is not None
        center, deviation = found.yhat[:, 0], (found.yhat_upper - found.yhat)[:, 0]
        median, mad = errors(values, center, 0.5), errors(np.abs(values - center[:, None]), deviation, 0.5)
        tails = []
        for i, n in enumerate(state.columns["size"]):
            sketch = [state.columns[name][i, :n] for name in ("mean", "weight", "mixed")]
            for x in np.quantile(values[i], TAILS):
                true = (values[i] < x).mean(), (values[i] <= x).mean()
                share = share_up_to(x, *sketch)
                tails.append(100 * max(true[0] - share, share - true[1], 0))
        cells = [median.mean(), median.max(), mad.mean(), mad.max(), max(tails)]
        print(f"| {kind} | " + " | ".join(f"{cell:.2f} %" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
