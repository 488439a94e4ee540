"""Isolation forest over channels: how few random cuts part what several metrics show at one time from the rest."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from engine.errors import ModelError
from engine.frame import F64, Frame, Prediction, State
from engine.models.args import honoured
from engine.models.iforest import ForestArgs, IsolationForest, seasonal_columns
from kernels.iforest import forest_zeros
from kernels.iforest_groups import GroupForests, groups_fit, groups_score


class IsolationForestMultivariate(
    IsolationForest, frozen=True, kw_only=True, tag_field="class", tag="isolation_forest_multivariate"
):
    """``class: isolation_forest_multivariate``: one score for all channels of a group; 1 is the threshold.

    Reproduces vmanomaly's multivariate isolation forest and, below it, scikit-learn's `IsolationForest`: a row is a
    time, its columns are the channels. Times at which one is missing are left out of fits and are not scored. What
    is open in the original's documentation is as in the univariate class; all trees are kept here.

    Beyond the original, ``provide_series: [contribution]`` gives each channel's share of the score: by how much cuts
    of it shorten the path, where they do.
    """

    is_multivariate: ClassVar[bool] = True
    provides: ClassVar[tuple[str, ...]] = ("anomaly_score", "contribution", "y")

    def _shared(self, frame: Frame) -> F64:
        return seasonal_columns(self.seasonal_features, frame) if self.seasonal_features else frame.values[:0].T.copy()

    def fit_rows(self, frame: Frame) -> State:
        """State of the groups with at least two complete times; others are left out.

        Raises
        ------
        ModelError : the window has no step.
        """
        if frame.timestamps_ms.size == 0:
            raise ModelError("isolation forest needs a fit window of at least one step")
        args = honoured(ForestArgs, self.args)
        n_sample, share, most = args.sample(frame.timestamps_ms.size)
        shared = self._shared(frame)
        indptr = frame.indptr
        n_groups = indptr.size - 1
        n_features = np.array([args.n_features(d + shared.shape[1]) for d in np.diff(indptr).tolist()], dtype=np.int64)
        shared_scales = np.zeros((2, n_groups, shared.shape[1]))
        empty = forest_zeros(max(np.diff(indptr), default=0) + shared.shape[1], args.n_estimators, most)
        trees = {
            name: np.zeros((n_groups, part.size), dtype=part.dtype)
            for name, part in empty._asdict().items()
            if name in GroupForests._fields
        }
        used, low, high = np.zeros(n_groups, dtype=np.int64), *np.zeros((2, n_groups))
        forests = GroupForests(
            **trees, shared_center=shared_scales[0], shared_scale=shared_scales[1], used=used, low=low, high=high
        )
        center, scale = np.zeros((2, frame.series.size))
        groups_fit(
            frame.values, indptr, shared, args.seed, n_sample, share, n_features, args.bootstrap,
            self.contamination, center, scale, forests,
        )  # fmt: skip
        state = State(frame.series, {"center": center, "scale": scale}, {}, frame.groups, forests._asdict())
        return state.take(np.flatnonzero(np.repeat(forests.used > 0, np.diff(indptr))))

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        indptr = frame.indptr
        shared = self._shared(frame)
        forests = GroupForests(*(state.group_columns[name] for name in GroupForests._fields))
        joint = np.empty((indptr.size - 1, frame.timestamps_ms.size))
        is_asked = "contribution" in (self.provide_series or ())
        share = np.zeros(frame.shape)
        gain = share if is_asked else np.empty((0, 0))
        scales = state.columns["center"], state.columns["scale"]
        groups_score(frame.values, indptr, shared, *scales, forests, joint, gain)
        return Prediction(joint=joint, share=share), state
