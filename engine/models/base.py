"""The contract of every model: hyperparameters are the type's fields, fitted state is arrays, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

import numpy as np
from msgspec import Meta

from engine.errors import ModelError
from engine.frame import F64, I64, Frame, Prediction, Query, State
from engine.models.args import InnerArgs
from engine.models.matching import match
from engine.pool import Pool
from engine.settings import Duration, Pair, Range, Scale, Settings

# Keys of models and queries that mean nothing without an expected value.
BAND_KEYS = (
    "detection_direction", "min_dev_from_expected", "min_rel_dev_from_expected", "scale", "clip_predictions"
)  # fmt: skip


class RowsFit(Protocol):
    """A fit by rows on its way: a model, or what a model that searches keeps for the time of a fit."""

    def fit_rows(self, frame: Frame) -> State:
        """As `Model.fit_rows`."""


class Model(Settings, frozen=True, kw_only=True):
    """Hyperparameters common to all models; see reference of the arguments in docs/models.

    A model holds no data. Univariate models treat rows independently, so a frame may be cut between any two
    rows. `State.series` and `Frame.series` are equal in every call of `learn` and `infer`: `align` sees to it.

    The rows of a multivariate model are channels; `Frame.groups` and `State.groups` say which belong together. It
    treats groups independently, so a frame may be cut between any two groups, and fits by rows: a fit's frame has
    all channels of its groups and all their values. In `infer` the channels of a group are all finite or all NaN
    at each time, and a state's groups are whole. It gives either bands or `Prediction.joint`.

    Class attributes
    ----------------
    fit_by : "time" for a fit that is a fold: `fresh`, then `learn` on consecutive pieces of the window as they
        arrive. "rows" for a fit that needs the whole window at once: `fit_rows` on blocks of rows.
    is_online : `infer` also learns, and unknown series get a fresh row on the spot.
    is_multivariate : one score for all series of all its queries.
    forecasts : `forecast_at` has an effect.
    provides : names that `provide_series` may ask for; `default_series` what is written without it.
    owns_policies : it applies score policies itself.
    args_type : the arguments of an inner library that are honoured, if there is one.
    layout : of its state; another number whenever what the arrays hold changes. State of another one is fitted anew.
    """

    fit_by: ClassVar[Literal["time", "rows"]]
    is_online: ClassVar[bool] = False
    is_available: ClassVar[bool] = True
    is_multivariate: ClassVar[bool] = False
    forecasts: ClassVar[bool] = False
    provides: ClassVar[tuple[str, ...]] = ("anomaly_score", "y", "yhat", "yhat_lower", "yhat_upper")
    default_series: ClassVar[tuple[str, ...]] = provides
    owns_policies: ClassVar[bool] = False
    args_type: ClassVar[type[InnerArgs] | None] = None
    layout: ClassVar[int] = 1

    queries: list[str] | str | None = None
    schedulers: list[str] | str | None = None
    provide_series: list[str] | None = None
    detection_direction: Literal["both", "above_expected", "below_expected"] = "both"
    min_dev_from_expected: Pair = Pair((0.0, 0.0))
    min_rel_dev_from_expected: Pair = Pair((0.0, 0.0))
    scale: Scale = Scale((1.0, 1.0))
    clip_predictions: bool = False
    anomaly_score_outside_data_range: Annotated[float, Meta(ge=0)] | None = None
    data_range: Range | None = None
    groupby: list[str] | None = None
    forecast_at: list[Duration] = []
    args: dict[str, Any] = {}

    @property
    def warm_up(self) -> int:
        """Finite points that a series must have learned before its score counts; 0 for offline models."""
        return 0

    @property
    def missing(self) -> str:
        """What has to be there before it can run and is not; empty if nothing."""
        return ""

    def for_query(self, query: Query, default_outside: float | None = None) -> Self:
        """The model of one query; only those that apply policies themselves differ."""
        return self

    def without_effect(self) -> dict[str, str]:
        """Keys that are written and change nothing, with the reason."""
        found = dict.fromkeys(self._unused_policies(), "this class has no band")
        if self.args_type is None:
            return found | ({"args": "this class has no inner library"} if self.args else {})
        neutral = [name for name in self.args if name in self.args_type.neutral]
        return found | {f"args.{name}": "results do not depend on it" for name in neutral}

    @property
    def has_band(self) -> bool:
        """Whether policies that need an expectation have one; so have those of a model that applies them itself."""
        return self.owns_policies or "yhat" in self.provides

    def _unused_policies(self) -> list[str]:
        names = () if self.has_band else BAND_KEYS
        defaults = {field: getattr(Model(), field) for field in names}
        return [name for name, default in defaults.items() if getattr(self, name) != default]

    def fresh(self, series: I64, frame: Frame) -> State:
        """State of series that have learned nothing; `frame` gives the grid and the zone."""
        raise NotImplementedError

    def learn(self, state: State, frame: Frame) -> State:
        """State after the frame's points. The given state is not changed."""
        raise NotImplementedError

    def finish(self, state: State) -> State:
        """State at the end of a fit by time, ready to serve."""
        return state

    def begin_fit(self, n_series: int, n_workers: int) -> RowsFit:
        """What fits the blocks of one fit by rows: of `n_series` in all, so many at a time (0 series: not known)."""
        return self

    def fit_rows(self, frame: Frame) -> State:
        """State of the frame's rows from their whole window; rows without enough points are left out."""
        raise NotImplementedError

    def infer(self, state: State, frame: Frame) -> tuple[Prediction, State]:
        """Predictions for the frame, and the state after it (the same one for offline models).

        Online models predict each step from the state before it, then learn it.
        """
        raise NotImplementedError

    def joint(self, scores: F64, prediction: Prediction, frame: Frame) -> tuple[F64, F64]:
        """Of a multivariate model with bands, the score of each group, (G, T), and what each channel adds, (S, T).

        Parameters
        ----------
        scores : (S, T) of each channel by itself, after its query's policies; NaN where it is missing.

        Notes
        -----
        The caller sees to missing channels, warm-up and data ranges, and makes shares of a sum of 1 from what
        channels add: any unit will do, what is not above 0 counts as 0.
        """
        raise NotImplementedError


def learn(model: Model, state: State | None, frame: Frame, pool: Pool) -> State | None:
    """State after one more piece of the window; None while no series has appeared.

    For models that fit by time. Pieces may hold different series: the state has the union.
    """
    if frame.series.size == 0:
        return state
    if state is None:
        state = replace(model.fresh(frame.series, frame), is_given=True)
    state, frame = with_unknown(model, state, frame)
    parts = pool.map_rows(lambda a, b: model.learn(state.rows(a, b), frame.rows(a, b)), frame.series.size)
    return replace(_together(state, parts), is_given=False)


def fit_rows(model: Model, blocks: Iterable[Frame], pool: Pool, n_series: int | None = None) -> State:
    """State of models that fit by rows, from blocks of distinct rows over the whole window.

    Parameters
    ----------
    n_series : of all blocks; counted where those are a sequence.

    Raises
    ------
    ModelError : there was no block.
    """
    if n_series is None:
        n_series = sum(frame.shape[0] for frame in blocks) if isinstance(blocks, Sequence) else 0
    fitter = model.begin_fit(n_series, pool.n_workers)
    parts: list[State] = []
    for frame in blocks:
        parts += _fit_block(fitter, frame, pool)
    if not parts:
        raise ModelError("no series with data in the fit window")
    return State.concat(parts)


def _fit_block(fitter: RowsFit, frame: Frame, pool: Pool) -> list[State]:
    return pool.map_rows(lambda a, b: fitter.fit_rows(frame.rows(a, b)), *_room(frame))


def fit(model: Model, blocks: Iterable[Frame], pool: Pool) -> State:
    """A state from scratch, from pieces in time or blocks of rows as `Model.fit_by` says.

    Raises
    ------
    ModelError : there was no series.
    """
    if model.fit_by == "rows":
        return fit_rows(model, blocks, pool)
    state: State | None = None
    for frame in blocks:
        state = learn(model, state and replace(state, is_given=True), frame, pool)
    if state is None:
        raise ModelError("no series with data in the fit window")
    return model.finish(state)


def infer(model: Model, state: State, frame: Frame, pool: Pool) -> tuple[Prediction, State]:
    """`Model.infer` with rows cut over the pool's threads; state and frame must be aligned.

    A state that is given may be changed: it is the result then, and of no use where this raises.
    """
    parts = pool.map_rows(lambda a, b: model.infer(state.rows(a, b), frame.rows(a, b)), *_room(frame))
    after = _together(state, [new for _, new in parts]) if model.is_online else state
    return Prediction.concat([p for p, _ in parts]) if len(parts) > 1 else parts[0][0], replace(after, is_given=False)


def align(model: Model, state: State, frame: Frame) -> tuple[State, Frame]:
    """State and frame with the same rows.

    Series the frame lacks are rows of NaN. Series the state lacks are dropped from the frame of an offline
    model and get a fresh row in the state of an online one. Of multivariate models see `match`.
    """
    if model.is_multivariate:
        matched = match(state, frame, model.fresh if model.is_online else None)
        return matched.state, matched.frame
    if model.is_online:
        return with_unknown(model, state, frame)
    return state, frame.select(state.series)


def _room(frame: Frame) -> tuple[int, I64 | None]:
    """How many rows there are, and where they may be cut."""
    return frame.series.size, None if frame.groups is None else frame.indptr


def _together(state: State, parts: Sequence[State]) -> State:
    """Parts of what became of a state, one below the other: itself if its own columns were changed in place."""
    if len(parts) == 1:
        return parts[0]
    return state if state.is_given and all(_is_within(part, state) for part in parts) else State.concat(parts)


def _is_within(part: State, state: State) -> bool:
    columns, its = {**state.columns, **state.group_columns}, {**part.columns, **part.group_columns}
    return its.keys() == columns.keys() and all(np.may_share_memory(rows, columns[n]) for n, rows in its.items())


def with_unknown(model: Model, state: State, frame: Frame) -> tuple[State, Frame]:
    """State and frame over the union of their series, the state's first."""
    if np.array_equal(state.series, frame.series):
        return state, frame
    unknown = np.setdiff1d(frame.series, state.series, assume_unique=True)
    if unknown.size:
        state = State.concat([state, model.fresh(unknown, frame)])
    return state, frame.select(state.series)
