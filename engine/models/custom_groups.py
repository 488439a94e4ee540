"""Custom models of several channels: one Python object a group."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from engine.errors import ModelError
from engine.frame import F64, I64, Frame, Prediction, State
from engine.models.custom import Custom, copied, count_samples
from engine.models.custom_rows import Failures, RowFrames
from engine.models.matching import groups_of


class MultivariateCustom(Custom, frozen=True, kw_only=True, tag_field="class", tag="custom"):
    """A custom model whose class derives from `MultivariateModel`: an object for each group, with a column a channel.

    `fit` and `infer` get the times at which all channels of the group have a value. State is an object a group.
    """

    is_multivariate: ClassVar[bool] = True
    provides: ClassVar[tuple[str, ...]] = ("anomaly_score", "y")
    default_series: ClassVar[tuple[str, ...]] = ("anomaly_score",)

    def fit_rows(self, frame: Frame) -> State:
        """An object for each group with a complete time; those whose fit failed are left out.

        Raises
        ------
        ModelError : every fit failed.
        """
        groups, failures = _Groups(frame), Failures(self.file, "fit", "groups")
        objects = np.full(len(groups), None, dtype=object)
        for group, steps in enumerate(groups.steps):
            if steps.size:
                with failures.of(groups.first(group)):
                    objects[group] = self.new()
                    n_seen = objects[group].n_samples_seen_
                    objects[group].fit(groups.take(group, steps))
                    count_samples(objects[group], n_seen, steps.size)
        failures.report(len(groups))
        is_fitted = np.array([o is not None for o in objects], dtype=np.bool_)
        is_fitted[np.isin(groups.firsts, failures.series)] = False
        if failures.series and not is_fitted.any():
            raise ModelError(failures.first)
        rows = np.repeat(is_fitted, np.diff(frame.indptr))
        return State(frame.series[rows], {}, {}, groups_of(frame)[rows], {"model": objects[is_fitted]})

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        """What each object makes of the complete times of its group."""
        groups, failures = _Groups(frame), Failures(self.file, "infer", "groups")
        objects = state.group_columns["model"].copy()
        score = np.full((len(groups), frame.timestamps_ms.size), np.nan)
        for group, steps in enumerate(groups.steps):
            if steps.size:
                with failures.of(groups.first(group)):
                    score[group, steps], objects[group] = self._scored(objects[group], groups, group, steps)
        failures.report(len(groups))
        failed = np.isin(frame.series, failures.series)
        prediction = Prediction(joint=score, share=np.ones(frame.shape), failed=failed)
        return prediction, state.updated(model=objects) if self.is_online else state

    def _scored(self, model: Any, groups: _Groups, group: int, steps: I64) -> tuple[F64, Any]:
        """Scores at the steps, and the object after them."""
        return groups.scores(model.infer(groups.take(group, steps)), steps), model


class OnlineMultivariateCustom(MultivariateCustom, frozen=True, kw_only=True, tag_field="class", tag="custom"):
    """One whose class derives from `OnlineModel`, too: `infer` is called time by time and learns each."""

    is_online: ClassVar[bool] = True

    def fresh(self, series: I64, frame: Frame) -> State:
        n_groups = frame.indptr.size - 1
        objects = np.full(n_groups, None, dtype=object)
        objects[:] = [self.new() for _ in range(n_groups)]
        return State(series, {}, {}, frame.groups, {"model": objects})

    def _scored(self, model: Any, groups: _Groups, group: int, steps: I64) -> tuple[F64, Any]:
        # The object before stays as it was: what fails is done again from there.
        model = copied(model)
        parts = []
        for step in steps[:, None]:
            n_seen = model.n_samples_seen_
            parts.append(groups.scores(model.infer(groups.take(group, step)), step))
            count_samples(model, n_seen, 1)
        return np.concatenate(parts), model


class _Groups:
    """The groups of a frame as pandas frames: `timestamp`, then a column for each channel."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._rows = RowFrames(frame)
        self._indptr = frame.indptr
        self.firsts: I64 = frame.series[self._indptr[:-1]]
        complete = np.isfinite(frame.values)
        if len(self):
            complete = np.logical_and.reduceat(complete, self._indptr[:-1], axis=0)
        # By group, where all of its channels have a value.
        self.steps: list[I64] = [np.flatnonzero(row) for row in complete]

    def __len__(self) -> int:
        return self._indptr.size - 1

    def first(self, group: int) -> int:
        """A group's first series, which names it."""
        return int(self.firsts[group])

    def take(self, group: int, steps: I64) -> Any:
        """A pandas frame of some steps of a group."""
        first, last = self._indptr[group], self._indptr[group + 1]
        series = self._frame.series[first:last]
        names = [f"y{k}" for k in range(series.size)] if self._frame.names is None else self._frame.names(series)
        return self._rows.joined(dict(zip(names, range(first, last), strict=True)), steps)

    def scores(self, result: Any, steps: I64) -> F64:
        """(n,) the `anomaly_score` of a result at the steps."""
        return self._rows.place(result, steps, ["anomaly_score"])["anomaly_score"]
