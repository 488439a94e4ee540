"""What `args` of a Prophet model may hold: the `prophet` package's constructor arguments, and three more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from engine.models.args import InnerArgs, check_args, honoured
from engine.models.civil import DAY_MS, find_country

Mode = Literal["additive", "multiplicative"]
Positive = Annotated[float, Meta(gt=0)]
Order = Annotated[int, Meta(ge=0)]
Auto = Literal["auto"] | bool | Order


class HolidayRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One occasion of a named holiday: the civil day `ds` and the days from `lower_window` to `upper_window` around."""

    ds: Any
    holiday: str
    lower_window: Annotated[int, Meta(le=0)] = 0
    upper_window: Annotated[int, Meta(ge=0)] = 0
    prior_scale: Positive | None = None


class ProphetArgs(InnerArgs, frozen=True):
    """The arguments that are honoured, with the package's defaults.

    `country_holidays`, `cap` and `floor` are no constructor arguments there: the first is a method's, the others are
    columns of its data. `mcmc_samples` can only be 0: parameters are the most probable ones. `uncertainty_samples`
    must be positive and has no other effect: bounds are exact quantiles, not those of a sample.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"stan_backend"})

    growth: Literal["linear", "logistic", "flat"] = "linear"
    changepoints: list[Any] | None = None
    n_changepoints: Annotated[int, Meta(ge=0, le=1000)] = 25
    changepoint_range: Annotated[float, Meta(ge=0, le=1)] = 0.8
    yearly_seasonality: Auto = "auto"
    weekly_seasonality: Auto = "auto"
    daily_seasonality: Auto = "auto"
    holidays: list[HolidayRow] | None = None
    seasonality_mode: Mode = "additive"
    seasonality_prior_scale: Positive = 10.0
    holidays_prior_scale: Positive = 10.0
    changepoint_prior_scale: Positive = 0.05
    mcmc_samples: Annotated[int, Meta(ge=0, le=0)] = 0
    interval_width: Annotated[float, Meta(gt=0, lt=1)] = 0.8
    uncertainty_samples: Annotated[int, Meta(ge=1)] = 1000
    scaling: Literal["absmax", "minmax"] = "absmax"
    holidays_mode: Mode | None = None
    country_holidays: str | None = None
    cap: float | None = None
    floor: float | None = None

    @property
    def changepoints_ms(self) -> list[int] | None:
        """Times of the given changepoints, rising; None where they are placed automatically."""
        return None if self.changepoints is None else sorted(moment_ms(value) for value in self.changepoints)


def moment_ms(value: Any) -> int:
    """Unix milliseconds of a date or time as YAML or ISO 8601 text gives it; without a zone it is UTC.

    Raises
    ------
    ValueError : it is neither.
    """
    if isinstance(value, str):
        value = datetime.fromisoformat(value.strip())
    if not isinstance(value, date):
        raise ValueError("expected a date like 2026-12-24 or an ISO 8601 time")
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    elif value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    seconds: float = value.timestamp()
    return round(seconds * 1000)


def civil_day(value: Any) -> int:
    """Days since 1970-01-01 of the date that a value names, in whatever zone it is meant."""
    return moment_ms(value) // DAY_MS


def parse_args(args: Mapping[str, Any]) -> ProphetArgs:
    """The arguments as checked types.

    Raises
    ------
    msgspec.ValidationError : a value is none that its argument can have.
    """
    return honoured(ProphetArgs, args)


def check_prophet_args(args: Mapping[str, Any]) -> list[str]:
    """All problems, each as ``args.name: value, what was expected``."""
    return check_args(ProphetArgs, args, _in_words) or _check_together(parse_args(args))


def _in_words(name: str, message: str) -> str:
    if name == "mcmc_samples":
        return "expected 0: the most probable parameters are fitted, not sampled"
    if name == "uncertainty_samples":
        return "expected an integer >= 1: without bounds there is no score"
    return message[:1].lower() + message[1:].replace("`$", "`")


def _check_together(args: ProphetArgs) -> list[str]:
    problems = []
    if args.growth == "logistic":
        if args.cap is None:
            problems.append("args.cap: missing, expected the highest possible value, for growth: logistic")
        elif args.floor is not None and args.cap <= args.floor:
            problems.append(f"args.cap: {args.cap}, expected more than floor ({args.floor})")
    else:
        given = {name: getattr(args, name) for name in ("cap", "floor") if getattr(args, name) is not None}
        problems += [f"args.{name}: {value}, has a meaning only with growth: logistic" for name, value in given.items()]
    if args.country_holidays is not None and find_country(args.country_holidays) is None:
        problems.append(f"args.country_holidays: {args.country_holidays}, expected a country's code like US or DE")
    problems += _check_moments("changepoints", args.changepoints or [])
    problems += _check_moments("holidays", [row.ds for row in args.holidays or []])
    scales: dict[str, float | None] = {}
    for row in args.holidays or []:
        if scales.setdefault(row.holiday, row.prior_scale) != row.prior_scale:
            problems.append(f"args.holidays: {row.holiday}, expected one prior_scale for all of its days")
    return problems


def _check_moments(name: str, values: Sequence[Any]) -> list[str]:
    problems = []
    for value in values:
        try:
            moment_ms(value)
        except ValueError:
            problems.append(f"args.{name}: {value!r}, expected a date like 2026-12-24 or an ISO 8601 time")
    return problems
