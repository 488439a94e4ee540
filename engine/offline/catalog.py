"""What model classes there are and what they take, from the types that check configurations."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgspec

from engine.config.classes import MODELS, ClassEntry
from engine.config.convert import expected
from engine.models.base import Model
from engine.settings import Settings

_WIDTH = 100


def overview() -> list[dict[str, Any]]:
    """Facts of all classes, in the order of the registry."""
    return [_facts(entry) for entry in MODELS.entries.values()]


def details(entry: ClassEntry) -> dict[str, Any]:
    """All that is known of one class."""
    kind = _kind(entry)
    return {
        **_facts(entry),
        "names": [*entry.names, *entry.redirected],
        "text": inspect.getdoc(kind) or "",
        "outputs": list(kind.provides or kind.default_series),
        "written_by_default": list(kind.default_series),
        "arguments": list(_arguments(kind, kind.__struct_fields__, "")),
    }


def overview_text() -> str:
    """The classes as a table."""
    rows = [("class", "learns", "series", "for")]
    for facts in overview():
        learns = "from each point" if facts["is_online"] else "at each fit"
        series = "all together" if facts["is_multivariate"] else "one by one"
        use = facts["use"] if facts["is_available"] else f"(not available yet) {facts['use']}"
        rows.append((facts["class"], learns, series, use.strip()))
    lines = _columns(rows)
    return "\n".join([*lines, "", "engine models CLASS tells the arguments, defaults and outputs of one."])


def details_text(entry: ClassEntry) -> str:
    """One class in full."""
    facts = details(entry)
    own, common = _split(facts["arguments"])
    lines = [f"{facts['class']}: {facts['use']}" if facts["use"] else facts["class"]]
    lines += ["" if facts["is_available"] else "It loads and is checked, but is not available yet.", facts["text"], ""]
    if facts["names"]:
        lines += _wrapped("Also: ", facts["names"])
    lines += _wrapped("Writes: ", facts["written_by_default"])
    if more := [name for name in facts["outputs"] if name not in facts["written_by_default"]]:
        lines += _wrapped("With provide_series also: ", more)
    lines += ["", "Arguments", *_table(own), "", "Arguments of all classes", *_table(common)]
    return "\n".join(lines)


def _kind(entry: ClassEntry) -> type[Model]:
    kind: type[Model] = MODELS.settings_type(entry.alias)
    return kind


def _facts(entry: ClassEntry) -> dict[str, Any]:
    kind = _kind(entry)
    return {
        "class": entry.alias,
        "use": entry.use,
        "is_online": kind.is_online,
        "is_multivariate": kind.is_multivariate,
        "forecasts": kind.forecasts,
        "is_available": kind.is_available,
    }


def _arguments(kind: type[Any], names: Sequence[str], prefix: str) -> Iterator[dict[str, Any]]:
    """Fields of a settings type, those of settings inside it by their dotted names."""
    common = set(Model.__struct_fields__)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name in names:
        field = fields[name]
        key = prefix + field.encode_name
        inner = _inner(field.type)
        if name == "args" and not prefix:
            inner = getattr(kind, "args_type", None)
        if inner is not None:
            for argument in _arguments(inner, inner.__struct_fields__, f"{key}."):
                # What a part needs is needed only where there is one.
                yield argument if field.required else {**argument, "is_required": False}
            continue
        yield {
            "name": key,
            "default": None if field.required else _plain(_default(field)),
            "is_required": field.required,
            "expects": expected(field.type),
            "is_common": not prefix and name in common,
        }


def _inner(kind: Any) -> Any:
    """The settings type that a field holds one of, if it does."""
    options = (kind, *get_args(kind))
    return next((o for o in options if isinstance(o, type) and issubclass(o, Settings)), None)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


def _plain(value: Any) -> Any:
    """A default as a configuration would write it."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if type(value).__module__ != "builtins" else value


def _split(arguments: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    own = sorted((a for a in arguments if not a["is_common"]), key=lambda a: a["name"].startswith("args."))
    return own, [argument for argument in arguments if argument["is_common"]]


def _table(arguments: Sequence[dict[str, Any]]) -> list[str]:
    if not arguments:
        return ["  (none)"]
    rows = [
        (f"  {a['name']}", "required" if a["is_required"] else _shown(a["default"]), a["expects"]) for a in arguments
    ]
    return _columns(rows)


def _shown(default: Any) -> str:
    if default is None:
        return "-"
    return default if isinstance(default, str) else msgspec.json.encode(default).decode()


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned text; the last column is wrapped."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]) - 1)]
    indent = sum(widths) + 2 * len(widths)
    lines = []
    for row in rows:
        head = "".join(cell.ljust(width + 2) for cell, width in zip(row, widths, strict=False))
        rest = textwrap.wrap(row[-1], max(30, _WIDTH - indent)) or [""]
        lines += [(head + rest[0]).rstrip(), *(" " * indent + line for line in rest[1:])]
    return lines


def _wrapped(title: str, names: Sequence[str]) -> list[str]:
    return textwrap.wrap(title + ", ".join(names), _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
