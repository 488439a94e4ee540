"""Checks of a Prophet model's keys beside `args`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from engine.models.civil import find_country, public_holidays
from engine.models.prophet_args import Mode, Positive
from engine.settings import Duration, Settings

_BAND = ("yhat", "yhat_lower", "yhat_upper")
_TERMS = ("trend", "additive_terms", "multiplicative_terms", "holidays", "yearly", "weekly", "daily")
_CLOCKS = ("minute", "hod", "dow", "month")


class Compression(Settings, frozen=True, kw_only=True):
    """Points gathered before a fit: the length of the windows, and what stands for the points in one."""

    window: Duration
    agg_method: Literal["mean", "median"] = "mean"
    adjust_boundaries: bool = True


class CustomSeasonality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An item of `seasonalities`: a period in days and its Fourier terms."""

    name: str
    period: Positive
    fourier_order: Annotated[int, Meta(ge=1)]
    prior_scale: Positive | None = None
    mode: Mode | None = None


class ClockSeasonality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An item of `tz_seasonalities`: a part of the wall clock."""

    name: Literal["minute", "hod", "dow", "month"]
    fourier_order: Annotated[int, Meta(ge=1)] | None = None
    prior_scale: Positive | None = None
    mode: Mode | None = None


def check_model(
    args: Mapping[str, Any],
    seasonalities: Sequence[Any],
    clocks: Sequence[Any],
    provide_series: Sequence[str] | None,
    forecast_at: Sequence[Duration],
) -> list[str]:
    """All problems, each as ``key: value, what was expected``."""
    problems = _check_items("seasonalities", seasonalities, CustomSeasonality)
    items = [{"name": item} if isinstance(item, str) else item for item in clocks]
    problems += _check_items("tz_seasonalities", items, ClockSeasonality)
    names = [item["name"] for item in (*seasonalities, *items) if isinstance(item.get("name"), str)]
    problems += [f"seasonalities: {name}, expected each name once" for name in _repeated(names)]
    problems += [
        f"seasonalities: {name}, expected a name that no output has"
        for name in names
        if name in (*_BAND, *_TERMS[:4], "y", "anomaly_score") or name.endswith(("_lower", "_upper"))
    ]
    problems += [f"forecast_at: {o}, expected a time ahead like 1h" for o in forecast_at if o <= 0]
    if not problems:
        problems += _check_series(args, names, provide_series or ())
    return problems


def _check_items(key: str, items: Sequence[Any], kind: type[Any]) -> list[str]:
    problems = []
    for position, item in enumerate(items):
        try:
            msgspec.convert(item, kind)
        except msgspec.ValidationError as err:
            message = str(err)
            problems.append(f"{key}[{position}]: {item!r}, {message[:1].lower()}{message[1:]}".replace("`$", "`"))
    return problems


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _check_series(args: Mapping[str, Any], seasonal: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Names in `provide_series` that no such model has, the names it has in the text."""
    components = [*_TERMS, *seasonal, *(row.get("holiday", "") for row in args.get("holidays") or [])]
    known = {"timestamp", "anomaly_score", "y", *_BAND}
    known |= {name + suffix for name in components for suffix in ("", "_lower", "_upper")}
    left = [name for name in wanted if name not in known and not name.startswith(_BAND[0] + "_")]
    country = args.get("country_holidays")
    if left and isinstance(country, str) and find_country(country) is not None:
        holidays = {name for year in range(1995, 2045) for name in public_holidays(country, year)}
        left = [name for name in left if name.removesuffix("_lower").removesuffix("_upper") not in holidays]
    shown = ", ".join(["anomaly_score", "y", *_BAND, *dict.fromkeys(components)])
    return [f"provide_series: {name}, expected some of {shown}" for name in left]
