"""Models of the operator's own: one Python object a series, as in vmanomaly, beside the arrays of all others."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import msgspec
import numpy as np

from engine.errors import ModelError
from engine.frame import F64, I64, Frame, Prediction, Query, State
from engine.models.args import CustomFile
from engine.models.base import Model
from engine.models.custom_base import RollingModel
from engine.models.custom_load import DEFAULT_FILES, find_file, load_class
from engine.models.custom_rows import Failures, Past, RowFrames, make
from engine.score import merge

_COMMON = (
    *("scale", "clip_predictions", "data_range", "detection_direction", "min_dev_from_expected"),
    *("min_rel_dev_from_expected", "anomaly_score_outside_data_range", "provide_series"),
)


class Custom(Model, frozen=True, kw_only=True, tag_field="class", tag="custom"):
    """``class: custom``: the class `CustomModel` of a file, one object for each series.

    Reproduces vmanomaly's contract for custom models. Where its documentation is open, or differs between releases:

    - `fit` and `infer` get the points that there are, without rows of NaN.
    - Objects learn of the common arguments as attributes; policies apply where the class asks for them. There is no
      warm-up but its own.
    - An exception skips that series, not the others: its rows have no score.
    - A class without `serialize` and `deserialize` lives in memory.

    State is a column of objects, in memory only.
    """

    fit_by: ClassVar[Literal["time", "rows"]] = "rows"
    owns_policies: ClassVar[bool] = True
    provides: ClassVar[tuple[str, ...]] = ()

    custom: CustomFile = CustomFile()

    def check(self) -> list[str]:
        """What is wrong with the file, as key, value, what was expected."""
        file = self.file
        if self.custom.path and file is None:
            return [f"custom.path: {self.custom.path}, there is no such file"]
        if file is None:
            return []
        try:
            kind = load_class(file)
        except ModelError as err:
            return [f"class: {err}"]
        if kind.is_multivariate and issubclass(kind, RollingModel):
            return [f"class: {file}: RollingModel has no groups, expected MultivariateModel with Model or OnlineModel"]
        return []

    def without_effect(self) -> dict[str, str]:
        return {}  # `args` are the class's own

    @property
    def file(self) -> Path | None:
        """Path of the file with the class; None where there is none."""
        return find_file(self.custom.path)

    @property
    def missing(self) -> str:
        """What has to be there before anything can run; empty if nothing."""
        expected = " or ".join(map(str, DEFAULT_FILES))
        return "" if self.file else f"no custom model at {expected}; custom.path names another place"

    def for_query(self, query: Query, default_outside: float | None = None) -> Self:
        """This model with the policies that it has on a query, for its objects to apply."""
        policy = merge(self, query, default_outside)
        return msgspec.structs.replace(
            self,
            scale=policy.scale,
            clip_predictions=policy.clip,
            data_range=policy.data_range,
            detection_direction=policy.direction,
            min_dev_from_expected=policy.min_dev,
            min_rel_dev_from_expected=policy.min_rel_dev,
            anomaly_score_outside_data_range=policy.outside_score,
        )

    def new(self) -> Any:
        """An object that has learned nothing."""
        common = {name: getattr(self, name) for name in _COMMON}
        return make(self._kind, {name: value for name, value in common.items() if value is not None}, self.args)

    @property
    def _kind(self) -> type[Any]:
        file = self.file
        if file is None:
            raise ModelError(self.missing)
        return load_class(file)

    def fit_rows(self, frame: Frame) -> State:
        """An object for each series with a point; those whose fit failed are left out.

        Raises
        ------
        ModelError : every fit failed.
        """
        rows, failures = RowFrames(frame), Failures(self.file, "fit")
        objects = np.full(frame.shape[0], None, dtype=object)
        for row in range(frame.shape[0]):
            steps = rows.points(row)
            if steps.size:
                with failures.of(int(frame.series[row])):
                    objects[row] = self._fitted(rows, row, steps)
        failures.report(frame.shape[0])
        keep = np.flatnonzero([found is not None for found in objects])
        if failures.series and keep.size == 0:
            raise ModelError(failures.first)
        return State(frame.series[keep], {"model": objects[keep]})

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        """What each object makes of the points of its series."""
        rows, failures = RowFrames(frame), Failures(self.file, "infer")
        found = {name: np.full(frame.shape, np.nan) for name in ("anomaly_score", *self._more)}
        objects = state.columns["model"].copy()
        for row in range(frame.shape[0]):
            steps = rows.points(row)
            if steps.size:
                with failures.of(int(frame.series[row])):
                    columns, objects[row] = self._inferred(objects[row], rows, row, steps)
                    for name, column in columns.items():
                        found[name][row, steps] = column
        failures.report(frame.shape[0])
        score = found.pop("anomaly_score")
        prediction = Prediction(score=score, extra=found, failed=np.isin(frame.series, failures.series))
        return prediction, state.updated(model=objects) if self.is_online else state

    @property
    def _more(self) -> list[str]:
        """Columns besides the score that its results are asked for."""
        return [n for n in self.provide_series or self.default_series if n not in ("timestamp", "y", "anomaly_score")]

    def _place(self, result: Any, rows: RowFrames, steps: I64) -> dict[str, F64]:
        # What is asked for without a score needs none.
        names = self.provide_series or self.default_series
        return rows.place(result, steps, [*(["anomaly_score"] if "anomaly_score" in names else []), *self._more])

    def _fitted(self, rows: RowFrames, row: int, steps: I64) -> Any:
        model = self.new()
        n_seen = model.n_samples_seen_
        model.fit(rows.take(row, steps))
        count_samples(model, n_seen, steps.size)
        return model

    def _inferred(self, model: Any, rows: RowFrames, row: int, steps: I64) -> tuple[dict[str, F64], Any]:
        """Columns at the steps by name, and the object after them."""
        return self._place(model.infer(rows.take(row, steps)), rows, steps), model


class OnlineCustom(Custom, frozen=True, kw_only=True, tag_field="class", tag="custom"):
    """A custom model whose class derives from `OnlineModel`: `infer` is called point by point and learns each."""

    is_online: ClassVar[bool] = True

    def fresh(self, series: I64, frame: Frame) -> State:
        objects = np.full(series.size, None, dtype=object)
        objects[:] = [self.new() for _ in range(series.size)]
        return State(series, {"model": objects})

    def _inferred(self, model: Any, rows: RowFrames, row: int, steps: I64) -> tuple[dict[str, F64], Any]:
        # The object before stays as it was: what fails is done again from there.
        model = copied(model)
        parts = []
        for step in steps[:, None]:
            n_seen = model.n_samples_seen_
            parts.append(self._place(model.infer(rows.take(row, step)), rows, step))
            count_samples(model, n_seen, 1)
        return _one_after_other(parts), model


class RollingCustom(Custom, frozen=True, kw_only=True, tag_field="class", tag="custom"):
    """A custom model of the old kind without a fit: `infer` is given as many points as the fit window had, and one new.

    The object beside its last points is the state of a series. Several new points come one by one: none sees a later
    one, whatever a run brings.
    """

    is_online: ClassVar[bool] = True

    def fresh(self, series: I64, frame: Frame) -> State:
        none = np.empty(0, dtype=np.int64), np.empty(0)
        objects = np.full(series.size, None, dtype=object)
        objects[:] = [Past(self.new(), frame.timestamps_ms.size, *none) for _ in range(series.size)]
        return State(series, {"model": objects})

    def _fitted(self, rows: RowFrames, row: int, steps: I64) -> Any:
        return Past(self.new(), steps.size, *rows.raw(row, steps))

    def _inferred(self, past: Any, rows: RowFrames, row: int, steps: I64) -> tuple[dict[str, F64], Any]:
        call, parts = getattr(past.model, "fit_infer", past.model.infer), []
        for step in steps[:, None]:
            past = past.with_points(*rows.raw(row, step))
            result = call(rows.table(past.times_ms, past.values))
            parts.append(self._place(result.tail(1), rows, step))
            past = past.cut()
        return _one_after_other(parts), past


def _one_after_other(parts: Sequence[Mapping[str, F64]]) -> dict[str, F64]:
    """The columns of consecutive steps together."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def copied(model: Any) -> Any:
    """A copy of an object; itself where it holds something that cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception:  # noqa: BLE001 - it may hold anything
        return model


def count_samples(model: Any, n_seen: int, n_points: int) -> None:
    """Keep `n_samples_seen_` of a class that does not do so itself."""
    if model.n_samples_seen_ == n_seen:
        model.n_samples_seen_ = n_seen + n_points
