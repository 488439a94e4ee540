"""Maps to settings types, field by field, so that every bad value is reported and not only the first."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import inspect

from engine.config.report import Report
from engine.settings import Duration, Settings, decode_hook

T = TypeVar("T", bound=Settings)

_MAY_BE_ZERO = {"latency_offset", "settle"}
_MAY_BE_NEGATIVE = {"offset"}
_LONGEST = Duration(36_500 * 86_400_000)
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}


def to_settings(
    kind: type[T], raw: Any, path: str, report: Report, *, also: Collection[str] = ("class",), hint: str = ""
) -> T | None:
    """The settings that a map says; None when one of its values is bad, which is reported.

    Parameters
    ----------
    also : keys that are read elsewhere.
    hint : for unknown keys without a near one.
    """
    if not isinstance(raw, dict):
        report.bad(path, raw, "expected a map of settings")
        return None
    n_before = report.n_reported
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in raw:
        if key not in fields and key not in also:
            report.unknown(f"{path}.{key}", fields, hint)
    values: dict[str, Any] = {}
    for key, field in fields.items():
        value = raw.get(key)
        if value == "" and {str, type(None)} <= set(get_args(field.type)):
            continue  # a template wrote what nobody filled in
        if value is None and not (key in raw and _takes_none(field.type)):
            if field.required:
                report.missing(f"{path}.{key}", f"expected {expected(field.type)}")
            continue
        values[field.name] = _to_value(field.type, value, f"{path}.{key}", report)
    if report.n_reported > n_before or any(f.required and n not in values for n, f in fields.items()):
        return None
    return kind(**values)


def _takes_none(kind: Any) -> bool:
    return type(None) in get_args(kind)


def _to_value(kind: Any, value: Any, path: str, report: Report) -> Any:
    """The value as the field's type wants it; a problem is reported and gives None."""
    if value is None:
        return None
    for option in (kind, *get_args(kind)):
        if isinstance(option, type) and issubclass(option, Settings) and isinstance(value, dict):
            return to_settings(option, value, path, report, also=())
        item = next((a for a in get_args(option) for a in (a, *get_args(a)) if _is_settings(a)), None)
        if item and get_origin(option) is list and isinstance(value, list):
            inner = get_args(option)[0]
            return [_to_value(inner, v, f"{path}[{k}]", report) for k, v in enumerate(value)]
        if item and get_origin(option) is dict and isinstance(value, dict):
            return {a: to_settings(item, v, f"{path}.{a}", report, also=()) for a, v in value.items()}
    try:
        info = inspect.type_info(kind)
        found = msgspec.convert(_lenient(info, value), kind, strict=False, dec_hook=decode_hook)
    except (msgspec.ValidationError, OverflowError, RecursionError):
        report.bad(path, value, f"expected {expected(kind)}")
        return None
    _check_size(found, value, path, report)
    return found


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _check_size(found: Any, value: Any, path: str, report: Report) -> None:
    """What the types do not say: finite numbers, durations above zero."""
    key = path.rpartition(".")[2]
    for item in found if isinstance(found, list) else [found]:
        if isinstance(item, Duration):
            least = -_LONGEST if key in _MAY_BE_NEGATIVE else 0 if key in _MAY_BE_ZERO else 1
            if not least <= item <= _LONGEST:
                bound = "" if key in _MAY_BE_NEGATIVE else " of 0 or more" if key in _MAY_BE_ZERO else " above 0"
                report.bad(path, value, f'expected a duration{bound}, at most "{_LONGEST}"')
        elif isinstance(item, float) and not math.isfinite(item):
            report.bad(path, value, "expected a finite number")


def _lenient(info: Any, value: Any) -> Any:
    """What YAML made a number or text of although its writer, or a quoted placeholder, meant the other."""
    if isinstance(info, inspect.UnionType):
        kinds = {type(t) for t in info.types}
        if inspect.BoolType in kinds and isinstance(value, str):
            return _TRUTHS.get(value.lower(), value)
        if isinstance(value, list | dict):
            wanted = inspect.ListType if isinstance(value, list) else inspect.DictType
            inner = next((t for t in info.types if isinstance(t, wanted)), None)
            return value if inner is None else _lenient(inner, value)
        if inspect.StrType in kinds and not kinds & {inspect.IntType, inspect.FloatType, inspect.BoolType}:
            return _lenient(inspect.StrType(), value)
        return value
    if isinstance(info, inspect.StrType) and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(info, inspect.ListType) and isinstance(value, list):
        return [_lenient(info.item_type, v) for v in value]
    if isinstance(info, inspect.DictType) and isinstance(value, dict):
        return {k: _lenient(info.value_type, v) for k, v in value.items()}
    return value


def expected(kind: Any) -> str:
    """What a field takes, in words."""
    return _in_words(inspect.type_info(kind))


def _in_words(info: Any) -> str:
    if isinstance(info, inspect.UnionType):
        # What one item is comes after the list: "text or a list, each item text".
        types = sorted(info.types, key=lambda t: isinstance(t, inspect.ListType))
        words = [_in_words(t) for t in types if not isinstance(t, inspect.NoneType)]
        return " or ".join(dict.fromkeys(words))
    if isinstance(info, inspect.IntType | inspect.FloatType):
        signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
        bounds = [f"{s} {getattr(info, n):g}" for n, s in signs.items() if getattr(info, n) is not None]
        noun = "a whole number" if isinstance(info, inspect.IntType) else "a number"
        return f"{noun} {' and '.join(bounds)}".rstrip()
    if isinstance(info, inspect.StrType):
        return f"text like {info.pattern}" if info.pattern else "text" + (" that is not empty" * bool(info.min_length))
    if isinstance(info, inspect.LiteralType):
        return f"one of {', '.join(map(str, info.values))}"
    if isinstance(info, inspect.ListType):
        return f"a list, each item {_in_words(info.item_type)}"
    if isinstance(info, inspect.DictType):
        return "a map" if isinstance(info.value_type, inspect.AnyType) else f"a map to {_in_words(info.value_type)}"
    if isinstance(info, inspect.CustomType):
        try:
            decode_hook(info.cls, object())
        except ValueError as err:
            return str(err).removeprefix("expected ")
    if isinstance(info, inspect.BoolType):
        return "true or false"
    return "a map of settings" if isinstance(info, inspect.StructType) else "a value"
