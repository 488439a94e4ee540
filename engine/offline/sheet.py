"""One file as columns, each as it was written or as numbers; which column is what is chosen from its header."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from engine.errors import InputError
from engine.frame import F64, I64

TIME_NAMES = ("timestamp", "time", "ts", "datetime", "date", "_time")
VALUE_NAMES = ("value", "y", "_value")
# What people call the truth: never a series, never one of its labels.
TRUTH_NAMES = ("label", "is_anomaly", "anomaly", "truth")
_TRUTHS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
_MISSING = ("nan", "null", "none", "na", "n/a", "-")
# Unix times up to the year 5000 in each unit, as a factor to milliseconds.
LATEST_UNIX = 1e19
_UNITS = (("s", 1e11, 1000.0), ("ms", 1e14, 1.0), ("us", 1e17, 1e-3), ("ns", LATEST_UNIX, 1e-6))


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line says of columns; empty means: find out."""

    time: str = ""
    value: str = ""
    truth: str = ""
    ignore: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """The roles of a file's columns.

    `value` is empty in wide form, where each of `series` is a series; in long form `labels` tell series apart.
    """

    time: str
    value: str = ""
    labels: Sequence[str] = ()
    series: Sequence[str] = ()
    truth: str = ""
    notes: Sequence[str] = ()

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns of numbers."""
        return tuple(name for name in (self.value, *self.series, self.truth) if name)


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """The columns of one file that have a role; all arrays are (N,).

    `clock` is how times were written: iso, s, ms, us or ns. `texts` has for each label column the number of each
    row's text and the texts.
    """

    layout: Layout
    times_ms: I64
    clock: str
    numbers: Mapping[str, F64]
    texts: Mapping[str, tuple[I64, list[str]]] = field(default_factory=dict)


Chooser = Callable[[Sequence[str], Mapping[str, bool]], Layout]


def choose(choice: Choice, where: str, names: Sequence[str], is_text: Mapping[str, bool]) -> Layout:
    """Roles of columns by their names.

    Parameters
    ----------
    where : the file, for errors.
    is_text : by name, whether the column's first value that is there is no number.

    Raises
    ------
    InputError : there is no time column, or no value.
    """
    known = ", ".join(names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise InputError(f"{where}: line 1: column {twice} is there twice")
    for name in (choice.time, choice.value, *choice.ignore):
        if name and name not in names:
            raise InputError(f"{where}: line 1: there is no column {name}; there are {known}")
    free = [name for name in names if name not in choice.ignore]
    time = choice.time or _named(free, TIME_NAMES)
    if not time:
        raise InputError(f"{where}: line 1: no column is named {', '.join(TIME_NAMES)}; --time COLUMN says which it is")
    value = choice.value or _named([n for n in free if n != time], VALUE_NAMES)
    truth = choice.truth if choice.truth in names else ""
    others = [n for n in free if n not in (time, value, truth)]
    notes = [f"column {n} is left out: --labels {n} measures against it" for n in others if n.lower() in TRUTH_NAMES]
    others = [n for n in others if n.lower() not in TRUTH_NAMES]
    if value:
        return Layout(time, value, others, (), truth, notes)
    notes += [f"column {n} is left out: it holds text" for n in others if is_text[n]]
    series = [n for n in others if not is_text[n]]
    if not series:
        raise InputError(f"{where}: line 1: no column holds values; there are {known}")
    return Layout(time, "", (), series, truth, notes)


def _named(names: Sequence[str], wanted: Sequence[str]) -> str:
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in wanted if name in lower), "")


def to_number(text: str) -> float:
    """The number that a cell says; NaN where it says that there is none.

    Raises
    ------
    ValueError : it is no number.
    """
    word = text.strip().lower()
    if not word or word in _MISSING:
        return math.nan
    if word in _TRUTHS:
        return _TRUTHS[word]
    if "_" in word:
        raise ValueError(f"{text!r} is no number")
    return float(word)


def is_number(text: str) -> bool:
    """Whether a cell can stand in a column of numbers."""
    try:
        to_number(text)
    except ValueError:
        return False
    return True


def unix_ms(times: F64) -> tuple[I64, str]:
    """Unix times of any unit as milliseconds, and the unit: s, ms, us or ns. It is told by their size.

    Raises
    ------
    ValueError : a time is missing, or from `LATEST_UNIX` on.
    """
    largest = float(np.max(np.abs(times), initial=0.0))
    if not largest < LATEST_UNIX:
        raise ValueError(f"{largest:g} is no Unix time")
    unit, _, factor = next(u for u in _UNITS if largest < u[1])
    return np.rint(times * factor).astype(np.int64), unit


def iso_ms(text: str) -> int:
    """Unix milliseconds of an ISO 8601 date or time; without a zone it is UTC.

    Raises
    ------
    ValueError : it is none.
    """
    moment = datetime.fromisoformat(text.strip())
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
