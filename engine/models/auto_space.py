"""What `auto` may try: for each class a few values of those hyperparameters that change which points stand out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from engine.errors import ModelError
from engine.models.base import Model
from engine.models.registry import MODELS
from engine.settings import decode_hook

DAY_MS = 86_400_000

# One hyperparameter, or several that belong together: its values as arguments; the first one is the class's default.
Axis = Sequence[Mapping[str, Any]]


def _each(name: str, *values: Any) -> Axis:
    return [{}, *({name: value} for value in values)]


def _args(*choices: Mapping[str, Any]) -> Axis:
    return [{}, *({"args": choice} for choice in choices)]


def axes(alias: str, step_ms: int) -> list[Axis]:
    """The axes of a class's search space. Thresholds are not among them: they change no order of points."""
    day = max(2, DAY_MS // step_ms)
    # Memories of a day, three and ten: shorter ones learn every incident.
    decays = _each("decay", *(1 - 1 / (n * day) for n in (10, 3, 1)))
    strength = _each("history_strength", 4.0)
    spaces: dict[str, list[Axis]] = {
        "zscore_online": [strength, decays],
        "mad_online": [strength, decays],
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
        "holtwinters": [
            [{}, {"seasonality": "1d"}, {"seasonality": "7d"}, {"args": {"seasonal": None}}],
            _args({"trend": "add", "damped_trend": True}),
        ],
        "prophet": [
            _args({"changepoint_prior_scale": 0.005}, {"changepoint_prior_scale": 0.5}),
            _args({"weekly_seasonality": False}, {"daily_seasonality": False, "weekly_seasonality": False}),
            _args({"seasonality_prior_scale": 0.1}),
        ],
        "isolation_forest_univariate": [_each("seasonal_features", ["hod"], ["hod", "dow"])],
        "arima": [[{"order": order} for order in ([1, 0, 1], [1, 1, 1], [2, 0, 0], [0, 1, 1], [3, 0, 1])]],
        "temporal_envelope": [
            _each("alpha", 0.0025, 0.01),
            _each(
                "seasonalities", [], ["hod_smooth"], ["hod_spiky", "dow_plateau"], ["hod_smooth", "weekpart_plateau"]
            ),
            _each("loss_reactivity", 2.0),
        ],
    }
    return spaces.get(alias, [[{}]])


def _odd(n: int) -> int:
    return n + 1 - n % 2


class Trials:
    """The hyperparameters to try, in the order in which they are: the class's defaults, then all others as seeded.

    Parameters
    ----------
    frozen : arguments that all of them have, merged over their own.
    common : keys of the wrapper that its models share (`provide_series`, `forecast_at`).
    """

    def __init__(
        self, alias: str, step_ms: int, frozen: Mapping[str, Any], common: Mapping[str, Any], n_trials: int, seed: int
    ) -> None:
        self._kind: type[Model] = MODELS.settings_type(alias)
        self._common = dict(common)
        self._models: dict[int, Model] = {}
        space = axes(alias, step_ms)
        sizes = [len(axis) for axis in space]
        n_all = math.prod(sizes)
        order = [0, *(1 + np.random.default_rng(seed).permutation(n_all - 1)).tolist()]
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

    def __len__(self) -> int:
        return len(self.arguments)

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
