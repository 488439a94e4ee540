"""Models of the operator's own: one Python object a series, as in vmanomaly, beside the arrays of all others."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import msgspec
import numpy as np

from engine.errors import ModelError
from engine.frame import F64, I64, Frame, Prediction, Query, State
from engine.models.args import CustomFile
from engine.models.base import Model
from engine.models.custom_base import OnlineModel, RollingModel
from engine.models.custom_load import DEFAULT_FILES, find_file, load_class, where
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

    State is a column of objects. `packed` makes arrays of it, by the class's `serialize`.
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
        if kind.is_multivariate:
            return [f"class: {file}: multivariate custom models are not available yet"]
        return []

    @property
    def file(self) -> Path | None:
        """Path of the file with the class; None where there is none."""
        return find_file(self.custom.path)

    @property
    def missing(self) -> str:
        """What has to be there before anything can run; empty if nothing."""
        expected = " or ".join(map(str, DEFAULT_FILES))
        return "" if self.file else f"no custom model at {expected}; custom.path names another place"

    def of_kind(self) -> Custom:
        """This model as online or offline, as its class is; the file must be there and good."""
        kind = self._kind
        online = issubclass(kind, OnlineModel | RollingModel)
        wanted = (RollingCustom if issubclass(kind, RollingModel) else OnlineCustom) if online else Custom
        return wanted(**{name: getattr(self, name) for name in self.__struct_fields__})

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
        _count(model, n_seen, steps.size)
        return model

    def _inferred(self, model: Any, rows: RowFrames, row: int, steps: I64) -> tuple[dict[str, F64], Any]:
        """Columns at the steps by name, and the object after them."""
        return self._place(model.infer(rows.take(row, steps)), rows, steps), model

    def packed(self, state: State) -> State:
        """The state with objects as bytes, by their `serialize`: `model`, (S, longest), and `size`, (S,).

        Raises
        ------
        ModelError : the class has no `serialize`, or it failed.
        """
        try:
            texts = [model.serialize() for model in state.columns["model"]]
        except Exception as err:
            raise ModelError(where(err, str(self.file))) from err
        size = np.array([len(text) for text in texts], dtype=np.int64)
        columns = np.zeros((size.size, int(size.max(initial=0))), dtype=np.uint8)
        for row, text in enumerate(texts):
            columns[row, : size[row]] = np.frombuffer(text, dtype=np.uint8)
        return state.updated(model=columns, size=size)

    def unpacked(self, state: State) -> State:
        """The state that `packed` was given, by the class's `deserialize`, which may run any code in the bytes.

        Raises
        ------
        ModelError : the class has no `deserialize`, or it failed.
        """
        rows = zip(state.columns["model"], state.columns["size"], strict=True)
        objects = np.full(state.series.size, None, dtype=object)
        try:
            for row, (text, size) in enumerate(rows):
                objects[row] = self._kind.deserialize(text[:size].tobytes())
        except Exception as err:
            raise ModelError(where(err, str(self.file))) from err
        return State(state.series, {"model": objects}, state.shared)


class OnlineCustom(Custom, frozen=True, kw_only=True, tag_field="class", tag="custom"):
    """A custom model whose class derives from `OnlineModel`: `infer` is called point by point and learns each."""

    is_online: ClassVar[bool] = True

    def fresh(self, series: I64, frame: Frame) -> State:
        objects = np.full(series.size, None, dtype=object)
        objects[:] = [self.new() for _ in range(series.size)]
        return State(series, {"model": objects})

    def _inferred(self, model: Any, rows: RowFrames, row: int, steps: I64) -> tuple[dict[str, F64], Any]:
        # The object before stays as it was: what fails is done again from there.
        model = _copied(model)
        parts = []
        for step in steps[:, None]:
            n_seen = model.n_samples_seen_
            parts.append(self._place(model.infer(rows.take(row, step)), rows, step))
            _count(model, n_seen, 1)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, model


class RollingCustom(Custom, frozen=True, kw_only=True, tag_field="class", tag="custom"):
    """A custom model of the old kind without a fit: `infer` is given as many points as the fit window had.

    The object beside its last points is the state of a series.
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
        whole = past.with_points(*rows.raw(row, steps))
        df = rows.table(whole.times_ms, whole.values)
        result = getattr(past.model, "fit_infer", past.model.infer)(df)
        return self._place(result.tail(steps.size), rows, steps), whole.cut()


def settle(model: Model, default: CustomFile) -> Model:
    """A custom model as what its class is, from the default file where it names none; others as they are."""
    if not isinstance(model, Custom):
        return model
    found = model if model.custom.path else msgspec.structs.replace(model, custom=default)
    return found if found.file is None or found.check() else found.of_kind()


def _copied(model: Any) -> Any:
    """A copy of an object; itself where it holds something that cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception:  # noqa: BLE001 - it may hold anything
        return model


def _count(model: Any, n_seen: int, n_points: int) -> None:
    """Keep `n_samples_seen_` of a class that does not do so itself."""
    if model.n_samples_seen_ == n_seen:
        model.n_samples_seen_ = n_seen + n_points
