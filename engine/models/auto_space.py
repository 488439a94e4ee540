"""What `auto` may try: for each class a few values of those hyperparameters that change which points stand out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from engine.errors import ModelError
from engine.models.base import Model
from engine.models.registry import MODELS
from engine.settings import decode_hook

DAY_MS = 86_400_000

# One hyperparameter, or several that belong together: its values as arguments; the first one is the class's default.
Axis = Sequence[Mapping[str, Any]]


class Judging(NamedTuple):
    """How the trials of a class are compared.

    Parameters
    ----------
    has_start : trial 1 is taken unless another one is clearly better, the class as it is left out. Else the best one of
        all is taken.
    n_splits, train_val_ratio : parts of the window, where the configuration does not say.
    is_moved : stretches of what is judged are displaced.
    by_error : the loss is how far yhat is from the series, else what is not found of the displaced stretches.
    is_sided : where the start stays, the class as it is with one side of its band wider is tried too.
    """

    has_start: bool = False
    n_splits: int = 3
    train_val_ratio: float = 3.0
    is_moved: bool = True
    by_error: bool = False
    is_sided: bool = False


# A third of the window is learned and the rest judged: what was learned has to serve for long.
_LONG = Judging(has_start=True, n_splits=1, train_val_ratio=0.5)
# Displaced stretches say too little about memory: in hours the shortest finds them best, in months it learns incidents.
_MEMORY = _LONG._replace(is_moved=False, by_error=True)
# Factors of the lower and the upper half of a band: one is 1.4 or 2 times the other, and their product is 1.
_SIDES = tuple((2.0**-k, 2.0**k) for k in (-0.5, -0.25, 0.25, 0.5))
_JUDGING = {
    "zscore_online": _MEMORY,
    "mad_online": _MEMORY._replace(is_sided=True),
    "holtwinters": _LONG,
    "temporal_envelope": Judging(has_start=True, by_error=True),
}


def judging(alias: str) -> Judging:
    """How a class's trials are compared."""
    return _JUDGING.get(alias, Judging())


def _each(name: str, *values: Any) -> Axis:
    return [{}, *({name: value} for value in values)]


def _args(*choices: Mapping[str, Any]) -> Axis:
    return [{}, *({"args": choice} for choice in choices)]


def axes(alias: str, step_ms: int) -> list[Axis]:
    """The axes of a class's search space. Thresholds are not among them: they change no order of points."""
    day = max(2, DAY_MS // step_ms)
    strength = _each("history_strength", 4.0)
    # What was learned stays, or gives way in two or three days. A median is hardly moved by incidents that it learns.
    two_days, three_days = ({"decay": 1 - 1 / (n * day)} for n in (2, 3))
    spaces: dict[str, list[Axis]] = {
        "zscore_online": [[{}, {"history_strength": 30.0}, three_days]],
        "mad_online": [[{}, {"history_strength": 1000.0}, two_days]],
        "quantile_online": [
            [
                {},
                *({"seasonal_interval": a, "min_subseason": b} for a, b in (("1d", "1h"), ("7d", "1h"), ("1d", "4h"))),
            ],
            [{}, {"quantiles": [0.25, 0.5, 0.75], "iqr_threshold": 1.5}, {"quantiles": [0.05, 0.5, 0.95]}],
            strength,
            _each("global_smoothing", 0.3),
        ],
        "rolling_quantile": [
            [{"window_steps": n} for n in (day, max(2, day // 6), 3 * day, 7 * day)],
            [{"quantile": q} for q in (0.95, 0.75, 0.99)],
            _each("iqr_threshold", 2.0),
        ],
        "std": [
            [
                {},
                *({"period": p, "args": {"trend": _odd(n * p)}} for p in (day, 7 * day) for n in (2, 10, 50)),
                *({"period": 1, "args": {"trend": _odd(n * day)}} for n in (1, 10)),
            ],
            _args({"robust": True}),
            _args({"seasonal": 15}, {"seasonal": 51}),
        ],
        # A forecast for weeks: from means of hours, and with a trend that ends.
        "holtwinters": [
            [
                {},
                {"frequency": "1h", "args": {"trend": "add", "damped_trend": True}},
                {"frequency": "2h", "seasonality": "1d"},
            ],
        ],
        "prophet": [
            _args({"changepoint_prior_scale": 0.005}, {"changepoint_prior_scale": 0.5}),
            _args({"weekly_seasonality": False}, {"daily_seasonality": False, "weekly_seasonality": False}),
            _args({"seasonality_prior_scale": 0.1}),
        ],
        "isolation_forest_univariate": [_each("seasonal_features", ["hod"], ["hod", "dow"])],
        "arima": [[{"order": order} for order in ([1, 0, 1], [1, 1, 1], [2, 0, 0], [0, 1, 1], [3, 0, 1])]],
        "temporal_envelope": [
            [{}, {"alpha": 0.0025}, *({"alpha": 0.0025, "loss_reactivity": clip} for clip in (1.0, 2.0))],
        ],
    }
    return spaces.get(alias, [[{}]])


def _odd(n: int) -> int:
    return n + 1 - n % 2


class Trials:
    """The hyperparameters to try, in the order in which they are: the class's defaults, then all others as seeded.

    `start` is the one that others have to beat, if there is one: 0 where what is frozen leaves none. The last ones,
    from `n_even` on, are the class as it is with an uneven band.

    Parameters
    ----------
    frozen : arguments that all of them have, merged over their own.
    common : keys of the wrapper that its models share (`provide_series`, `forecast_at`).
    may_scale : the halves of a band may be scaled.
    """

    def __init__(
        self,
        alias: str,
        step_ms: int,
        frozen: Mapping[str, Any],
        common: Mapping[str, Any],
        n_trials: int,
        seed: int,
        may_scale: bool = True,
    ) -> None:
        self._kind: type[Model] = MODELS.settings_type(alias)
        self._common = dict(common)
        self._models: dict[int, Model] = {}
        space = axes(alias, step_ms)
        sizes = [len(axis) for axis in space]
        n_all = math.prod(sizes)
        self.judging = judging(alias)
        n_first = 1 + self.judging.has_start
        order = [*range(n_first), *(n_first + np.random.default_rng(seed).permutation(n_all - n_first)).tolist()]
        found: dict[str, dict[str, Any]] = {}
        for number in order:
            if len(found) == n_trials:
                break
            merged: dict[str, Any] = {}
            for place, axis in zip(np.unravel_index(number, sizes), space, strict=True):
                merged = merge(merged, axis[int(place)])
            merged = merge(merged, frozen)
            found.setdefault(json.dumps(merged, sort_keys=True, default=str), merged)
        self.arguments = list(found.values())
        self.n_even = len(self.arguments)
        self.start = self._start()
        if self.judging.is_sided and may_scale:
            uneven = [{**self.arguments[0], "scale": sides} for sides in _SIDES]
            self.arguments += uneven[: n_trials - self.n_even]

    def __len__(self) -> int:
        return len(self.arguments)

    def _start(self) -> int:
        if not self.judging.has_start or len(self) < 2:
            return 0
        try:
            self.model(1)
        except ModelError:
            return 0
        return 1

    def model(self, number: int) -> Model:
        """The model of one trial.

        Raises
        ------
        ModelError : its arguments do not go together.
        """
        if number not in self._models:
            try:
                model = msgspec.convert(
                    {**self.arguments[number], **self._common, "class": self._kind.__struct_config__.tag},
                    self._kind,
                    strict=False,
                    dec_hook=decode_hook,
                )
            except (msgspec.ValidationError, ValueError) as err:
                raise ModelError(str(err)) from err
            check = getattr(model, "check", None)
            if problems := check() if check else []:
                raise ModelError("; ".join(problems))
            self._models[number] = model
        return self._models[number]


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both maps in one, the second one's values first, maps in maps merged, too."""
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged
