"""Texts of configurations to values: durations, pairs, ranges."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.settings import UNBOUNDED, Duration, Pair, Range, Settings, decode_hook


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        ("14d", 14 * 86_400),
        ("1w", 7 * 86_400),
        ("500ms", 0.5),
        ("2h30m", 9000),
        ("1d12h", 129_600),
        ("1.5h", 5400),
        ("-60s", -60),
        ("+60s", 60),
        (" 5m ", 300),
        ("P14D", 14 * 86_400),
        ("PT1H30M", 5400),
        ("PT0.5S", 0.5),
        ("P1W", 604_800),
        ("PT1D", 86_400),  # not ISO 8601, but in the original's examples
        ("P1H", 3600),
        (60, 60),
        (0.25, 0.25),
        (0, 0),
    ],
)
def test_a_duration_is_what_its_text_says(text: Any, seconds: float) -> None:
    assert Duration.parse(text).seconds == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "m", "5 m", "5x", "1h-5m", "--5m", "P", "PT", "1mo", None, True, [5], math.nan, math.inf, "5M"]
)
def test_what_is_no_duration_says_what_was_expected(text: Any) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        Duration.parse(text)


@given(st.integers(-(10**13), 10**13))
def test_the_text_of_a_duration_parses_back(length_ms: int) -> None:
    assert Duration.parse(str(Duration(length_ms))) == length_ms


@pytest.mark.parametrize(
    ("value", "pair"),
    [
        (3, (3, 3)),
        (0.5, (0.5, 0.5)),
        ([1, 2], (1, 2)),
        ([4], (4, 4)),
        ((0, 7.5), (0, 7.5)),
        ("0.5", (0.5, 0.5)),
        (["1", 2], (1, 2)),
    ],
)
def test_one_number_of_a_pair_is_for_both_sides(value: Any, pair: tuple[float, float]) -> None:
    assert Pair.parse(value) == pair


@pytest.mark.parametrize(
    "value", [-1, [1, -2], [1, 2, 3], [], "five", "-5", "1_0", "nan", None, True, math.nan, math.inf, {}]
)
def test_a_bad_pair_says_what_was_expected(value: Any) -> None:
    with pytest.raises(ValueError, match="expected a number >= 0"):
        Pair.parse(value)


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        ([0, 100], (0, 100)),
        ([-5.5, -5.5], (-5.5, -5.5)),
        ([0, "inf"], (0, math.inf)),
        (["-inf", "+Inf"], (-math.inf, math.inf)),
        (["-.inf", ".inf"], (-math.inf, math.inf)),
        ([-math.inf, 3], (-math.inf, 3)),
        ([0, "100"], (0, 100)),  # what a quoted placeholder becomes
        (["-1.5e3", " 2 "], (-1500, 2)),
    ],
)
def test_a_range_may_be_open(value: Any, bounds: tuple[float, float]) -> None:
    assert Range.parse(value) == bounds


@pytest.mark.parametrize(
    "value",
    [[1, 0], [0], [0, 1, 2], 5, "0,1", [0, math.nan], [0, "5x"], [0, "nan"], ["9", "10", "11"], [True, 2], None],
)
def test_a_bad_range_says_what_was_expected(value: Any) -> None:
    with pytest.raises(ValueError, match="expected \\[min, max\\]"):
        Range.parse(value)


class Example(Settings, frozen=True, kw_only=True):
    step: Duration
    scale: Pair = Pair((1.0, 1.0))
    data_range: Range = UNBOUNDED


def test_settings_are_filled_from_plain_values() -> None:
    raw = {"step": "1m", "scale": 2, "data_range": [0, "inf"]}
    example = msgspec.convert(raw, Example, dec_hook=decode_hook)
    assert example == Example(step=Duration(60_000), scale=Pair((2.0, 2.0)), data_range=Range((0.0, math.inf)))
    with pytest.raises(AttributeError, match="immutable"):
        example.step = Duration(0)


def test_a_bad_value_names_its_place() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"expected a duration.*\$\.step"):
        msgspec.convert({"step": "soon"}, Example, dec_hook=decode_hook)


def test_a_type_without_a_parser_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="no parser"):
        decode_hook(complex, "1j")


@pytest.mark.parametrize("text", ["90m", "24h", "P1D", "+1h"])
def test_a_duration_remembers_how_it_was_written(text: str) -> None:
    assert Duration.parse(text).as_configured == text
    assert Duration(5_400_000).as_configured == str(Duration.parse("90m")) == "1h30m"
