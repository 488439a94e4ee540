"""Multivariate temporal envelope: a band for each channel, and one score for all channels of a group."""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from engine.errors import ModelError
from engine.frame import F64, I64, Frame, Prediction, State
from engine.models.envelope_args import EnvelopeModel
from engine.models.envelope_calendar import calendar, n_bins
from engine.models.matching import joined
from kernels.envelope_mv import LARGEST, envelope_mv_run
from kernels.envelope_mv_state import COUNT, L2, MAX, MEAN, N_CHANNEL, N_GROUP, Channels, JointRates, Scratch

log = logging.getLogger("model")

Count = Annotated[int, Meta(ge=1)]

_RECOMMENDED = 100
_AGGREGATIONS = {"max": MAX, "mean": MEAN, "l2": L2}
_MONTH_MS = 30 * 86_400_000
# Means are over at least so many rows, however long the step.
_LEAST_MEMORY = 2000.0
# Rows of random weights from which the factors start; further directions start from data.
_MOST_START = 200
# Of the squared distance, 1 at the threshold, as much is nobody's fault but of all channels alike.
_NOBODYS = 1.0
# As single scores are.
_LARGEST_SCORE = 1e6
_NONE: F64 = np.empty((0, 0))


class TemporalEnvelopeMultivariate(
    EnvelopeModel, frozen=True, kw_only=True, tag_field="class", tag="temporal_envelope_multivariate"
):
    """``class: temporal_envelope_multivariate``: all channels of a group together.

    See docs/models/envelope_multivariate.md. The original documents arguments and purpose, not the algorithm: this one
    is our own. Each channel is scored against its own band under its query's policies; `score_aggregation` makes one
    deviation of these. The distance of the whole row counts beside it, as far as it comes from channels whose policies
    let them count.
    """

    fit_by: ClassVar[Literal["time", "rows"]] = "rows"
    is_multivariate: ClassVar[bool] = True
    layout: ClassVar[int] = 2
    provides: ClassVar[tuple[str, ...]] = ("anomaly_score", "contribution", "y", "yhat", "yhat_lower", "yhat_upper")
    default_series: ClassVar[tuple[str, ...]] = ("anomaly_score",)

    dependency_rank: Annotated[int, Meta(ge=0)] = 8
    score_aggregation: Literal["max", "mean", "l2"] = "l2"
    max_channels: Count = 1000
    recommended_max_channels: Count = _RECOMMENDED
    random_state: int = 42

    def check(self) -> list[str]:
        problems = super().check()
        # The default, larger than what is configured as the limit, was nobody's wish.
        if self.recommended_max_channels > self.max_channels and self.recommended_max_channels != _RECOMMENDED:
            limit = f"expected at most max_channels ({self.max_channels})"
            problems.append(f"recommended_max_channels: {self.recommended_max_channels}, {limit}")
        return problems

    def fresh(self, series: I64, frame: Frame) -> State:
        """State of groups that have learned nothing, but for those with more than `max_channels`."""
        sizes = np.diff(frame.indptr)
        self._warn(sizes)
        keep = np.repeat(sizes <= self.max_channels, sizes)
        sizes = sizes[sizes <= self.max_channels]
        n = int(keep.sum())
        bins = n_bins(self.seasonalities, self.holidays.parsed())
        rank = min(self.dependency_rank, int(sizes.max(initial=0)))
        shapes = {"scalars": N_CHANNEL, "profile": bins, "basis": rank, "moments": rank, "loadings": rank}
        columns = {name: np.zeros((n, size)) for name, size in shapes.items()}
        of_groups = {"group": np.zeros((sizes.size, N_GROUP)), "visits": np.zeros((sizes.size, bins))}
        groups = np.zeros(0, np.int64) if frame.groups is None else frame.groups[keep]
        return State(series[keep], columns, {}, groups, of_groups)

    def fit_rows(self, frame: Frame) -> State:
        """State of the frame's groups; too wide ones are left out, those without a complete row begin cold.

        Raises
        ------
        ModelError : all groups have more than `max_channels`.
        """
        state = self.fresh(frame.series, frame)
        if state.series.size == 0 and frame.series.size > 0:
            raise ModelError(f"all groups have more than max_channels ({self.max_channels}) channels")
        kept = np.isin(frame.series, state.series)
        groups = None if frame.groups is None else frame.groups[kept]
        part = replace(frame, series=state.series, values=frame.values[kept], groups=groups)
        return self.learn(state, replace(part, values=joined(part.values, part.indptr)))

    def learn(self, state: State, frame: Frame) -> State:
        return self._run(state, frame, _NONE, _NONE, _NONE, _NONE, _NONE)

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        yhat, lower, upper, blame = (np.empty(frame.shape) for _ in range(4))
        sizes = np.diff(state.indptr)
        far = np.empty((sizes.size, frame.timestamps_ms.size))
        new = self._run(state, frame, yhat, lower, upper, far, blame)
        seen = np.repeat(state.group_columns["group"][:, COUNT].astype(np.int64), sizes)
        # Parts of the squared distance: without policies they add up to it.
        whole = np.add.reduceat(blame, state.indptr[:-1], axis=0) if sizes.size else far
        share = blame * np.repeat(far * far / np.where(whole > 0.0, whole, 1.0), sizes, axis=0)
        return Prediction(yhat, lower, upper, share=share, seen=seen, largest=LARGEST), new

    def joint(self, scores: F64, prediction: Prediction, frame: Frame) -> tuple[F64, F64]:
        """The larger one of the channels' aggregated scores and the distance of their row.

        What policies take from a channel's deviation they take from its part in the distance: its squared deviation
        counts by the square of what is left.
        """
        first, sizes = frame.indptr[:-1], np.diff(frame.indptr)
        own = np.nan_to_num(scores, nan=0.0)
        if self.score_aggregation == "max":
            band = np.maximum.reduceat(own, first, axis=0)
        elif self.score_aggregation == "mean":
            band = np.add.reduceat(own, first, axis=0) / sizes[:, None]
        else:
            band = np.sqrt(np.add.reduceat(own * own, first, axis=0) / sizes[:, None])
        assert prediction.share is not None
        left = self._left(own, prediction, frame) ** 2
        far = np.sqrt(np.add.reduceat(np.nan_to_num(prediction.share, nan=0.0) * left, first, axis=0))
        nobodys = np.repeat(_NOBODYS / sizes, sizes)[:, None]
        return np.fmax(band, far), (prediction.share + nobodys) * left

    def _left(self, own: F64, prediction: Prediction, frame: Frame) -> F64:
        """(S, T) how much of a channel's deviation its policies leave: 0 nothing, 1 all, more if `scale` narrows.

        Where there is no deviation there is nothing to take from what came before.
        """
        yhat, lower, upper = prediction.yhat, prediction.yhat_lower, prediction.yhat_upper
        assert yhat is not None
        assert lower is not None
        assert upper is not None
        half = np.where(frame.values >= yhat, upper - yhat, yhat - lower)
        raw = np.minimum(np.abs(frame.values - yhat) / half, _LARGEST_SCORE)
        most = max(1.0, 1.0 / min(self.scale))
        with np.errstate(divide="ignore", invalid="ignore"):
            left = np.where(raw > 0.0, np.minimum(own / raw, most), 1.0)
        return np.nan_to_num(left, nan=0.0)

    def _run(self, state: State, frame: Frame, yhat: F64, lower: F64, upper: F64, far: F64, blame: F64) -> State:
        """Run the recursion over every group; all outputs are rows of channels but `far`, rows of groups."""
        places = calendar(self.seasonalities, self.holidays.parsed(), frame.timestamps_ms, frame.step_ms, frame.tz)
        rates = self.joint_rates(frame.step_ms)
        new = {name: column.copy() for name, column in {**state.columns, **state.group_columns}.items()}
        rank = new["basis"].shape[1]
        sketch = np.random.default_rng(self.random_state % 2**32).standard_normal((rank, self._n_start())).T.copy()
        for g, (a, b) in enumerate(itertools.pairwise(state.indptr.tolist())):
            channels = Channels(
                new["scalars"][a:b],
                new["profile"][a:b],
                new["basis"][a:b],
                new["moments"][a:b],
                new["loadings"][a:b],
                new["group"][g],
                new["visits"][g],
                sketch,
            )
            work = _scratch(b - a, rank, places.left.shape[2])
            distances = far[g] if far.size else np.empty(0)
            bands = yhat[a:b], lower[a:b], upper[a:b]
            envelope_mv_run(frame.values[a:b], places, rates, channels, work, *bands, distances, blame[a:b])
        return state.updated(**new)

    def joint_rates(self, step_ms: int) -> JointRates:
        """The recursion's settings for a step; smoothing stays half-way between so many rows and so much time."""
        low, high = self.quantiles
        below, above = self._widths()
        return JointRates(
            low=float(low),
            high=float(high),
            fence=float(self.iqr_threshold),
            width_below=below,
            width_above=above,
            width=max(0.5 * (below + above), 0.05),
            level=float(self.alpha),
            clip=float(self.loss_reactivity),
            shift_after=float(self.changepoint_window),
            smooth=1.0 / max(1.5, 6.84 * math.cbrt(60_000.0 / step_ms)),
            memory=max(_LEAST_MEMORY, _MONTH_MS / step_ms),
            aggregation=_AGGREGATIONS[self.score_aggregation],
        )

    def _n_start(self) -> int:
        return min(max(16, 2 * self.dependency_rank), _MOST_START)

    def _warn(self, sizes: I64) -> None:
        if large := int((sizes > self.max_channels).sum()):
            log.warning("%d groups with more than max_channels (%d) channels are left out", large, self.max_channels)
        wide = (sizes > self.recommended_max_channels) & (sizes <= self.max_channels)
        if wide.any():
            message = "%d groups have more than recommended_max_channels (%d) channels, the widest %d"
            log.warning(message, int(wide.sum()), self.recommended_max_channels, int(sizes[wide].max()))


def _scratch(n_channels: int, rank: int, n_components: int) -> Scratch:
    """Work space of one group."""
    rows = np.empty((7, n_channels))
    places = max(1, 2 * n_components)
    return Scratch(
        *(rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6]),
        *(np.empty((rank, rank)), np.empty(rank), np.empty(places, np.int64), np.empty(places)),
    )
