"""Arguments as operators write them: numbers in quotes, names of inner libraries, keys that change nothing."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from engine.config.single import make_model
from engine.errors import ConfigError
from engine.frame import Frame
from engine.models.args import honoured
from engine.models.base import fit, infer
from engine.models.envelope_calendar import SHAPES, Preset
from engine.models.iforest import ForestArgs
from engine.models.prophet_args import ProphetArgs
from engine.pool import Pool
from engine.settings import Pair, Range


@pytest.mark.parametrize(
    ("class_name", "quoted", "plain"),
    [
        ("zscore_online", {"scale": "2"}, {"scale": 2}),
        ("zscore_online", {"scale": ["1", " 2.5 "]}, {"scale": [1, 2.5]}),
        ("zscore_online", {"min_dev_from_expected": "5", "data_range": ["0", "1e2"]},
         {"min_dev_from_expected": 5, "data_range": [0, 100]}),
    ],
)  # fmt: skip
def test_a_quoted_number_is_the_number(class_name: str, quoted: dict[str, Any], plain: dict[str, Any]) -> None:
    assert make_model(class_name, quoted)[0] == make_model(class_name, plain)[0]


def test_less_than_the_recommended_number_of_channels_may_be_the_limit() -> None:
    assert make_model("temporal_envelope_multivariate", {"max_channels": 50})[0].max_channels == 50
    with pytest.raises(ConfigError, match="recommended_max_channels"):
        make_model("temporal_envelope_multivariate", {"max_channels": 50, "recommended_max_channels": 60})


def test_a_forecast_that_is_asked_for_is_configured() -> None:
    for name in ("temporal_envelope", "prophet", "holtwinters"):
        make_model(name, {"provide_series": ["yhat_1.5h", "yhat_upper_5h"], "forecast_at": ["5h", "1.5h"]})
        with pytest.raises(ConfigError, match=r"yhat_6h.*forecast_at"):
            make_model(name, {"provide_series": ["yhat_6h"], "forecast_at": ["5h"]})


@pytest.mark.parametrize("country", ["us", "US", "United States", "united_states", "UnitedStates", "Germany", "de"])
def test_countries_are_known_by_code_or_name_however_written(country: str) -> None:
    make_model("temporal_envelope", {"holidays": {"countries": [country]}})
    make_model("prophet", {"args": {"country_holidays": country}})
    for strange in ("", "Atlantis"):
        with pytest.raises(ConfigError, match="countries"):
            make_model("temporal_envelope", {"holidays": {"countries": [country, strange]}})


def test_presets_and_their_shapes_are_the_same_names() -> None:
    assert list(get_args(Preset)) == list(SHAPES)


@pytest.mark.parametrize("text", ["", "x", "nan", "-1", "inf", "1,5"])
def test_a_text_that_is_no_number_of_a_pair_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number >= 0"):
        Pair.parse(text)


@pytest.mark.parametrize("text", ["nan", "x", ""])
def test_a_text_that_is_no_bound_of_a_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Range.parse([text, 5])


def test_quoted_inner_arguments_are_their_values() -> None:
    texts = {"interval_width": "0.98", "daily_seasonality": "true", "weekly_seasonality": "auto",
             "yearly_seasonality": "12", "growth": "flat"}  # fmt: skip
    plain = {"interval_width": 0.98, "daily_seasonality": True, "yearly_seasonality": 12, "growth": "flat"}
    make_model("prophet", {"args": texts})
    assert honoured(ProphetArgs, texts) == honoured(ProphetArgs, plain)
    assert honoured(ForestArgs, {"max_samples": "64", "max_features": "0.5"}) == ForestArgs(
        max_samples=64, max_features=0.5
    )
    with pytest.raises(ConfigError, match=r"args\.interval_width"):
        make_model("prophet", {"args": {"interval_width": "wide"}})
    with pytest.raises(ConfigError, match=r"args\.cap"):
        make_model("prophet", {"args": {"growth": "logistic", "cap": "inf"}})


def test_a_model_with_quoted_arguments_computes_what_the_one_with_numbers_does() -> None:
    times = 3_600_000 * np.arange(240, dtype=np.int64)
    y = 10 + np.sin(times / 1e7)[None] + np.random.default_rng(0).normal(0, 0.1, (1, 240))
    frame, results = Frame(np.zeros(1, np.int64), times, y, 3_600_000), {}
    for name, arguments in {
        "std": ({"period": 24, "args": {"seasonal": "9", "robust": "true"}},
                {"period": 24, "args": {"seasonal": 9, "robust": True}}),
        "holtwinters": ({"args": {"seasonal": "null", "trend": "add", "damped_trend": "1"}},
                        {"args": {"seasonal": None, "trend": "add", "damped_trend": True}}),
        "arima": ({"order": ["1", "0", "1"], "args": {"seasonal_order": ["1", "0", "0", "24"]}},
                  {"order": [1, 0, 1], "args": {"seasonal_order": [1, 0, 0, 24]}}),
        "isolation_forest": ({"args": {"n_estimators": "10"}}, {"args": {"n_estimators": 10}}),
    }.items():  # fmt: skip
        for a in arguments:
            model, _ = make_model(name, a)
            prediction, _ = infer(model, fit(model, [frame], Pool(1)), frame, Pool(1))
            results.setdefault(name, []).append(prediction.score if prediction.yhat is None else prediction.yhat)
    for name, (quoted, plain) in results.items():
        np.testing.assert_array_equal(quoted, plain, err_msg=name)


@pytest.mark.parametrize(
    ("class_name", "arguments"),
    [
        ("isolation_forest", {"n_jobs": -1, "verbose": 0, "warm_start": False}),
        ("prophet", {"stan_backend": "CMDSTANPY"}),
        ("holtwinters", {"missing": "none", "freq": "1h"}),
        ("arima", {"concentrate_scale": True, "validate_specification": False}),
    ],
)
def test_inner_arguments_that_change_no_result_are_accepted_and_said(
    class_name: str, arguments: dict[str, Any]
) -> None:
    more = {"order": [1, 0, 0]} if class_name == "arima" else {}
    _, warnings = make_model(class_name, {"args": arguments, **more})
    assert [w for name in arguments for w in warnings if f"args.{name}: has no effect" in w]
    assert len(warnings) >= len(arguments)


@pytest.mark.parametrize("class_name", ["zscore_online", "mad_online", "rolling_quantile", "quantile_online"])
def test_args_of_a_class_without_an_inner_library_are_said_to_have_no_effect(class_name: str) -> None:
    more = {"quantile": 0.9, "window_steps": 10} if class_name == "rolling_quantile" else {}
    _, warnings = make_model(class_name, {"args": {"a": 1}, **more})
    assert any("args: has no effect" in w for w in warnings)


def test_a_season_without_parts_is_said_to_have_no_effect() -> None:
    _, warnings = make_model("quantile_online", {"seasonal_interval": "7d"})
    assert any("seasonal_interval: has no effect" in w for w in warnings)
    assert make_model("quantile_online", {"seasonal_interval": "7d", "min_subseason": "1h"})[1] == ()


@pytest.mark.parametrize("class_name", ["isolation_forest", "isolation_forest_multivariate"])
def test_policies_that_need_a_band_are_said_to_have_no_effect_without_one(class_name: str) -> None:
    keys = {"min_dev_from_expected": 3, "min_rel_dev_from_expected": [0, 5], "scale": 2, "clip_predictions": True}
    _, warnings = make_model(class_name, keys)
    assert [key for key in keys if any(f"{key}: has no effect" in w for w in warnings)] == list(keys)
    assert make_model(class_name, {"data_range": [0, 1]})[1] == ()
