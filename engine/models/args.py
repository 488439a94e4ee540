"""Arguments of an inner library: those that are honoured, as a type; where that of a custom model is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import msgspec

from engine.settings import Settings


class CustomFile(Settings, frozen=True, kw_only=True):
    """``custom``: where the class of a custom model is; empty is where vmanomaly's image has it."""

    path: str = ""


class InnerArgs(msgspec.Struct, frozen=True):
    """Base of an inner library's arguments: fields are honoured, `neutral` ones accepted as they change no result."""

    neutral: ClassVar[frozenset[str]] = frozenset()


T = TypeVar("T", bound=InnerArgs)


def honoured(kind: type[T], args: Mapping[str, Any]) -> T:
    """Checked `args` as their type; a number in quotes, as placeholders are, is a number."""
    return msgspec.convert(dict(args), kind, strict=False)


def _in_words(name: str, message: str) -> str:
    return message[:1].lower() + message[1:]


def check_args(
    kind: type[InnerArgs], args: Mapping[str, Any], in_words: Callable[[str, str], str] = _in_words
) -> list[str]:
    """Problems of `args`, each as key, value, what was expected; none means that they convert to `kind`.

    Parameters
    ----------
    in_words : from an argument's name and msgspec's message to what is told.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    problems = []
    for name, value in args.items():
        if name in kind.neutral:
            continue
        if name not in types:
            problems.append(f"args.{name}: is not honoured; expected some of {', '.join(types)}")
            continue
        try:
            found = msgspec.convert(value, types[name], strict=False)
        except msgspec.ValidationError as err:
            problems.append(f"args.{name}: {value!r}, {in_words(name, str(err))}")
            continue
        if isinstance(found, float) and not math.isfinite(found):
            problems.append(f"args.{name}: {value!r}, expected a finite number")
    return problems
