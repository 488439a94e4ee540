"""Auto-tuning: another class with hyperparameters found for each series at each fit."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta
from msgspec.structs import replace as replace_params
from numpy.typing import NDArray

from engine.errors import ModelError
from engine.frame import F64, I64, Frame, Prediction, State, find
from engine.models.auto_search import Scheme, fit_alone, search
from engine.models.auto_space import Trials
from engine.models.base import Model, RowsFit
from engine.models.registry import MODELS
from engine.settings import Settings

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
# Prefixes of the tuned model's columns, and of the sizes of their rows.
_OWN, _SHAPE = "own.", "shape."
_NAMES = ".names"
_SPACES = 3
_BUSINESS = Literal["detection_direction", "min_dev_from_expected", "min_rel_dev_from_expected"]


class OptimizationParams(Settings, frozen=True, kw_only=True):
    """``optimization_params`` of `auto`."""

    anomaly_percentage: Annotated[float, Meta(ge=0, lt=0.5)]
    optimized_business_params: list[_BUSINESS] = []
    n_splits: Count | None = None
    train_val_ratio: Positive | None = None
    validation_scheme: Literal["regular", "leaky"] = "regular"
    n_trials: Count = 128
    timeout: Positive | None = None
    n_jobs: Annotated[int, Meta(ge=-1)] = 1
    seed: int | None = None
    exact: bool = False
    optimize_complexity: bool = True
    frozen_params: dict[str, Any] = {}
    beta: Annotated[float, Meta(ge=0)] | None = None
    show_progress_bar: bool = False
    gc_after_trial: bool = False


class _OfTuned:
    """A class attribute that each instance has from the class that it tunes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, model: AutoTuned | None, owner: type[AutoTuned]) -> Any:
        return getattr(Model if model is None else model.tuned_type, self._name)


class _Layout(_OfTuned):
    """That of the tuned class and, in hundreds, what the numbers of trials mean: another one with every other space."""

    def __get__(self, model: AutoTuned | None, owner: type[AutoTuned]) -> int:
        return 100 * _SPACES + int(super().__get__(model, owner))


class AutoTuned(Model, frozen=True, kw_only=True, tag_field="class", tag="auto"):
    """``class: auto``: another class with hyperparameters found for each series at each fit.

    Reproduces the contract of vmanomaly's auto-tuning: online if the tuned class is, the same outputs, always fitted on
    the whole window. Results do not depend on how rows are cut, unless `timeout` ends the search.

    Choices where the original's documentation is open, and differences:

    - The space of a class is a table of a few values of what changes the order of points (memory, seasons, robustness),
      not of thresholds; the class's own defaults, with `frozen_params`, are the first trial. Some classes have
      settings that are right for most series: they are taken unless others are clearly better.
    - What a trial finds is measured on points that are moved by known amounts, as no labels are there; to that come
      the share of alerts above `anomaly_percentage` and the mean error. Memories are judged by the error alone.
    - `scale` is a hyperparameter where it stands at its default: a trial may make one half of its band the wider one.
    - `anomaly_percentage` is an upper limit: the band of a series is widened, never narrowed, until its alerts in
      validation keep to it, at most tenfold.
    - Validation is always causal, as with ``exact: true``. `timeout` bounds one fit of all series together; without it
      all trials are run. `n_jobs`, `beta`, `show_progress_bar` and `gc_after_trial` have no effect: threads are
      `n_workers`.
    - `optimized_business_params` is accepted: policies belong to queries and stay as configured.
    - Multivariate classes are not tuned.
    """

    fit_by: ClassVar[Literal["time", "rows"]] = "rows"
    # To the type checker a descriptor is not the value that it gives.
    is_online: ClassVar[bool] = _OfTuned("is_online")  # type: ignore[assignment]
    forecasts: ClassVar[bool] = _OfTuned("forecasts")  # type: ignore[assignment]
    layout: ClassVar[int] = _Layout("layout")  # type: ignore[assignment]
    provides: ClassVar[tuple[str, ...]] = _OfTuned("provides")  # type: ignore[assignment]
    default_series: ClassVar[tuple[str, ...]] = _OfTuned("default_series")  # type: ignore[assignment]

    tuned_class_name: Annotated[str, Meta(min_length=1)]
    optimization_params: OptimizationParams

    @property
    def tuned_type(self) -> type[Model]:
        """The class that is tuned."""
        entry = MODELS.find(self.tuned_class_name)
        return Model if entry is None else MODELS.settings_type(entry.alias)

    @property
    def warm_up(self) -> int:
        return self.trials(60_000).model(0).warm_up

    def check(self) -> list[str]:
        """Problems that single fields cannot show, each as key, value, what was expected."""
        problems = []
        entry = MODELS.find(self.tuned_class_name)
        kind = None if entry is None else MODELS.settings_type(entry.alias)
        if entry is None or entry.alias in ("auto", "custom", "noop") or kind is None or kind.is_multivariate:
            problems.append(f"tuned_class_name: {self.tuned_class_name}, expected a built-in class of single series")
        elif not kind.is_available:
            problems.append(f"tuned_class_name: {self.tuned_class_name} is not available yet")
        if self.optimization_params.n_jobs == 0:
            problems.append("optimization_params.n_jobs: 0, expected -1 or a whole number >= 1")
        frozen = self.optimization_params.frozen_params
        if fixed := {"class", "class_name"} & set(frozen):
            problems.append(f"optimization_params.frozen_params: {sorted(fixed)}, expected no class here")
        if problems or kind is None:
            return problems
        problems += _misplaced({key: value for key, value in frozen.items() if key not in fixed}, kind)
        try:
            self.trials(60_000).model(0)
        except ModelError as err:
            problems.append(f"optimization_params.frozen_params: {frozen}, {err}")
        return problems

    def without_effect(self) -> dict[str, str]:
        """Keys that are written and change nothing, with the reason."""
        params = self.optimization_params
        unused = super().without_effect()
        if not self.check():
            of_tuned = self.trials(60_000).model(0).without_effect()
            unused |= {f"optimization_params.frozen_params.{key}": reason for key, reason in of_tuned.items()}
        found = {
            "optimized_business_params": (params.optimized_business_params, "policies stay as configured"),
            "n_jobs": (params.n_jobs not in (1, -1), "threads are settings.n_workers"),
            "beta": (params.beta is not None, "the search has no such parameter"),
            "gc_after_trial": (params.gc_after_trial, "a trial leaves nothing behind"),
        }
        return unused | {f"optimization_params.{k}": why for k, (is_written, why) in found.items() if is_written}

    def trials(self, step_ms: int, tz: str = "UTC") -> Trials:
        """What is tried on a grid of this step; trial 0 is the class as it is.

        Prophet has the calendar of a zone other than UTC, as in the original.
        """
        entry = MODELS.find(self.tuned_class_name)
        assert entry is not None
        params = self.optimization_params
        common: dict[str, Any] = {}
        if self.provide_series is not None:
            common["provide_series"] = self.provide_series
        if self.forecast_at:
            common["forecast_at"] = [offset.as_configured for offset in self.forecast_at]
        civil = {"tz_aware": True} if entry.alias == "prophet" and tz != "UTC" else {}
        frozen = json.dumps({**civil, **params.frozen_params}, sort_keys=True, default=str)
        may_scale = self.scale == (1.0, 1.0)
        return _trials(entry.alias, step_ms, frozen, json.dumps(common), params.n_trials, params.seed or 0, may_scale)

    def fresh(self, series: I64, frame: Frame) -> State:
        trials = self.trials(frame.step_ms, frame.tz)
        state = trials.model(0).fresh(series, frame)
        return _pack(state, np.zeros(series.size, dtype=np.int64), np.ones(series.size), 0)

    def begin_fit(self, n_series: int, n_workers: int) -> RowsFit:
        return _Fit(self, n_series, n_workers)

    def fit_rows(self, frame: Frame) -> State:
        """State of the frame's rows as of one whole fit."""
        return _Fit(self, frame.shape[0], 1).fit_rows(frame)

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        trials, warm_up = self.trials(frame.step_ms, frame.tz), self.warm_up
        predictions, states, order = [], [], []
        for number, rows in _by_trial(state):
            model, own = trials.model(number), state.take(rows)
            part = Frame(frame.series[rows], frame.timestamps_ms, frame.values[rows], frame.step_ms, frame.tz)
            prediction, after = model.infer(_unpack(own, number), part)
            predictions.append(_widened(prediction, own.columns["widen"], model, warm_up))
            states.append(_pack(after, own.columns["trial"], own.columns["widen"], number) if model.is_online else own)
            order.append(rows)
        back = np.argsort(np.concatenate(order))
        after = State.concat(states).take(back) if self.is_online else state
        return _joined(predictions, back), after


def _misplaced(frozen: Mapping[str, Any], kind: type[Model]) -> list[str]:
    """Problems of frozen keys that are no hyperparameters of the class, or no numbers."""
    common = set(Model.__struct_fields__) - {"args"}
    own = [name for name in kind.__struct_fields__ if name not in common]
    problems = []
    for key, value in frozen.items():
        path = f"optimization_params.frozen_params.{key}"
        if key in common:
            problems.append(f"{path}: {value}, expected beside tuned_class_name: it is not the tuned class's alone")
        elif key not in own:
            problems.append(f"{path}: {value}, expected some of {', '.join(own)}")
        elif isinstance(value, float) and not math.isfinite(value):
            problems.append(f"{path}: {value}, expected a finite number")
    return problems


class _Fit:
    """One fit of all series: blocks of rows share the time that there is."""

    def __init__(self, model: AutoTuned, n_series: int, n_workers: int) -> None:
        self._model = model
        self._n_left = n_series
        self._n_workers = n_workers
        self._lock = threading.Lock()
        timeout = model.optimization_params.timeout
        if timeout is not None:
            _compile(model)
        self._end = None if timeout is None else time.monotonic() + timeout

    def fit_rows(self, frame: Frame) -> State:
        params = self._model.optimization_params
        trials = self._model.trials(frame.step_ms, frame.tz)
        judging = trials.judging
        scheme = Scheme(
            params.anomaly_percentage,
            params.n_splits or judging.n_splits,
            params.train_val_ratio or judging.train_val_ratio,
            params.validation_scheme == "leaky",
            params.optimize_complexity,
            params.seed or 0,
            judging.is_moved,
            judging.by_error,
        )
        end = self._share(frame.shape[0])
        choice = search(trials, frame, scheme, lambda: float("inf") if end is None else end - time.monotonic())
        parts, order = [], []
        for number in np.unique(choice.trial) if frame.shape[0] else [0]:
            rows = np.flatnonzero(choice.trial == number)
            part = Frame(frame.series[rows], frame.timestamps_ms, frame.values[rows], frame.step_ms, frame.tz)
            state = fit_alone(trials.model(int(number)), part)
            kept = rows[find(part.series, state.series)]
            parts.append(_pack(state, choice.trial[kept], choice.widen[kept], int(number)))
            order.append(kept)
        return State.concat(parts).take(np.argsort(np.concatenate(order)))

    def _share(self, n_rows: int) -> float | None:
        """Until when these rows may be searched: their part of the time left, as blocks that run beside them have."""
        if self._end is None:
            return None
        with self._lock:
            now = time.monotonic()
            share = min(1.0, n_rows * self._n_workers / max(self._n_left, 1))
            self._n_left -= n_rows
        return now + share * (self._end - now)


def _compile(model: AutoTuned) -> None:
    """Run the class on three made-up days: what a cold start compiles is no time of a search."""
    times_ms = 3_600_000 * np.arange(72, dtype=np.int64)
    frame = Frame(np.zeros(1, dtype=np.int64), times_ms, np.sin(times_ms / 1e7)[None], 3_600_000)
    params = replace_params(model.optimization_params, n_trials=1)
    trials = replace_params(model, optimization_params=params).trials(frame.step_ms)
    search(trials, frame, Scheme(0.01, 1, 1.0, True, True, 0), lambda: float("inf"))


@lru_cache(maxsize=64)
def _trials(alias: str, step_ms: int, frozen: str, common: str, n_trials: int, seed: int, may_scale: bool) -> Trials:
    return Trials(alias, step_ms, json.loads(frozen), json.loads(common), n_trials, seed, may_scale)


def _by_trial(state: State) -> Iterator[tuple[int, I64]]:
    """Each trial with the rows that have it."""
    chosen = state.columns["trial"]
    for number in np.unique(chosen) if chosen.size else _known(state):
        yield int(number), np.flatnonzero(chosen == number)


def _known(state: State) -> list[int]:
    """A trial that a state without rows knows the columns of."""
    return [int(name.removesuffix(_NAMES)) for name in state.shared if name.endswith(_NAMES)][:1]


def _pack(state: State, trial: I64, widen: F64, number: int) -> State:
    """A tuned model's state as rows of the wrapper's, where rows of other trials may be wider or have other columns."""
    columns: dict[str, NDArray[Any]] = {"trial": trial, "widen": widen}
    for name, column in state.columns.items():
        columns[_OWN + name] = column
        if column.ndim > 1:
            columns[_SHAPE + name] = np.tile(np.array(column.shape[1:], dtype=np.int64), (trial.size, 1))
    shared = {f"{number}.{name}": array for name, array in state.shared.items()}
    shared[f"{number}{_NAMES}"] = np.array(list(state.columns), dtype=np.str_)
    return State(state.series, columns, shared)


def _unpack(state: State, number: int) -> State:
    """The tuned model's state of rows that all have this trial."""
    columns = {}
    for name in state.shared[f"{number}{_NAMES}"].tolist():
        column = state.columns[_OWN + name]
        if column.ndim > 1 and column.shape[0]:
            sizes = state.columns[_SHAPE + name].max(axis=0, initial=0).tolist()
            column = np.ascontiguousarray(column[(slice(None), *(slice(0, size) for size in sizes))])
        columns[name] = column
    first = f"{number}."
    own = {n.removeprefix(first): a for n, a in state.shared.items() if n.startswith(first)}
    return State(state.series, columns, {n: a for n, a in own.items() if n != _NAMES[1:]})


def _widened(prediction: Prediction, widen: F64, own: Model, warm_up: int) -> Prediction:
    """The band as wide as its trial and the limit of alerts ask for; points learned as the wrapper's warm-up counts."""
    yhat, lower, upper, score, seen = (
        prediction.yhat, prediction.yhat_lower, prediction.yhat_upper, prediction.score, prediction.seen,
    )  # fmt: skip
    factor = widen[:, None]
    if yhat is not None and lower is not None and upper is not None:
        below, above = factor * own.scale[0], factor * own.scale[1]
        # As they are where nothing is changed, bit for bit.
        lower = np.where(below != 1, yhat - below * (yhat - lower), lower)
        upper = np.where(above != 1, yhat + above * (upper - yhat), upper)
    if score is not None:
        score = score / factor
    if seen is not None and own.warm_up != warm_up:
        seen = seen + (warm_up - own.warm_up)
    return replace(prediction, yhat_lower=lower, yhat_upper=upper, score=score, seen=seen)


def _joined(parts: list[Prediction], back: I64) -> Prediction:
    """Rows of all parts in the order `back`; extra series that a part lacks are missing there."""
    names = dict.fromkeys(name for part in parts for name in part.extra)
    filled = []
    for part in parts:
        like = part.score if part.yhat is None else part.yhat
        assert like is not None
        extra = {n: part.extra[n] if n in part.extra else np.full(like.shape, np.nan) for n in names}
        filled.append(replace(part, extra=extra))
    whole = Prediction.concat(filled)
    arrays = {f.name: getattr(whole, f.name) for f in fields(whole) if f.name not in ("extra", "largest")}
    ordered = {name: None if array is None else array[back] for name, array in arrays.items()}
    extra = {name: column[back] for name, column in whole.extra.items()}
    return Prediction(**ordered, extra=extra, largest=whole.largest)
