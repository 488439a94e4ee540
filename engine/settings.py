"""The base of every settings type, and the value types that configuration texts are parsed into."""

from __future__ import annotations

import math
import re
from typing import Any, Self

import msgspec

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION = re.compile(r"([+-])?((?:\d+(?:\.\d+)?(?:ms|[smhdw]))+)")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
# Lenient on purpose: documented examples hold PT1D and P1H, which ISO 8601 does not allow.
_ISO = re.compile(r"P(?=T?\d)(?:(\d+)W)?(?:(\d+)D)?T?(?:(\d+)D)?(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?")
_ISO_MS = (604_800_000, 86_400_000, 86_400_000, 3_600_000, 60_000, 1_000)

_NUMBER = re.compile(r"[+-]?(?:inf|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB|)")
_UNIT_BYTES = {"": 1, "B": 1} | {f"{p}B": 1000**k for k, p in enumerate("KMGT", 1)}
_UNIT_BYTES |= {f"{p}iB": 1024**k for k, p in enumerate("KMGT", 1)}


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of settings types: frozen, keyword only. Fields are the documented keys."""


class Duration(int):
    """A length of time in milliseconds, written as "1d", "2h30m", "500ms", "-60s", "P14D" or a number of seconds."""

    _text = ""

    @classmethod
    def parse(cls, value: Any) -> Self:
        """The duration that a configuration value says; it remembers a text, for names made of it.

        Raises
        ------
        ValueError : it says none.
        """
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError('expected a duration like "30s", "5m" or "14d"')
        if isinstance(value, int | float):
            if not math.isfinite(value):
                raise ValueError('expected a duration like "30s", "5m" or "14d"')
            return cls(round(value * 1000))
        text = value.strip()
        if match := _DURATION.fullmatch(text):
            total = sum(float(n) * _UNIT_MS[unit] for n, unit in _PART.findall(match[2]))
            parsed = cls(round(-total if match[1] == "-" else total))
        elif match := _ISO.fullmatch(text):
            parsed = cls(round(sum(float(n) * ms for n, ms in zip(match.groups(), _ISO_MS, strict=True) if n)))
        else:
            raise ValueError('expected a duration like "30s", "5m" or "14d"')
        parsed._text = text
        return parsed

    @property
    def seconds(self) -> float:
        return self / 1000

    @property
    def as_configured(self) -> str:
        """The text that it was parsed from, else the shortest one."""
        return self._text or str(self)

    def __str__(self) -> str:
        """The shortest text that parses back to the same length."""
        rest, parts = abs(int(self)), []
        for unit in ("d", "h", "m", "s", "ms"):
            count, rest = divmod(rest, _UNIT_MS[unit])
            if count:
                parts.append(f"{count}{unit}")
        return ("-" if self < 0 else "") + ("".join(parts) or "0s")


class Size(int):
    """Bytes, written as "512MiB", "1.5 GB" or a whole number."""

    @classmethod
    def parse(cls, value: Any) -> Self:
        """The size that a configuration value says.

        Raises
        ------
        ValueError : it says none.
        """
        match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).strip())
        if match is None:
            raise ValueError('expected a size like "512MiB"')
        return cls(float(match[1]) * _UNIT_BYTES[match[2]])

    def __str__(self) -> str:
        """The shortest text that parses back to the same size."""
        units = sorted(_UNIT_BYTES.items(), key=lambda item: -item[1])
        unit, factor = next((u, f) for u, f in units if int(self) % f == 0)
        return f"{int(self) // factor}{unit}"


class Pair(tuple[float, float]):
    """Two numbers >= 0, (lower, upper), written as a list of one or two, or as one number for both."""

    @classmethod
    def parse(cls, value: Any) -> Self:
        items = list(value) if isinstance(value, list | tuple) else [value]
        numbers = [n for item in items if (n := _number(item)) is not None and 0 <= n < math.inf]
        if not 1 <= len(items) <= 2 or len(numbers) != len(items):
            raise ValueError("expected a number >= 0 or a list [lower, upper] of two")
        return cls((numbers[0], numbers[-1]))


class Scale(Pair):
    """A `Pair` of factors: numbers > 0."""

    @classmethod
    def parse(cls, value: Any) -> Self:
        try:
            found = super().parse(value)
        except ValueError:
            found = None
        if found is None or min(found) <= 0:
            raise ValueError("expected a number > 0 or a list [lower, upper] of two")
        return found


class Range(tuple[float, float]):
    """The closed range [min, max] of valid values; "inf" and "-inf" leave a side open."""

    @classmethod
    def parse(cls, value: Any) -> Self:
        items = [n for v in value if (n := _number(v)) is not None] if isinstance(value, list | tuple) else []
        if len(items) != 2 or not items[0] <= items[1]:
            raise ValueError('expected [min, max] with min <= max; "inf" and "-inf" leave a side open')
        return cls(items)


UNBOUNDED = Range((-math.inf, math.inf))


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        text = value.strip().lower().replace(".inf", "inf")
        return float(text) if _NUMBER.fullmatch(text) else None
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def decode_hook(kind: type, value: Any) -> Any:
    """msgspec's hook for the value types above."""
    if isinstance(value, kind):
        return value
    parse = getattr(kind, "parse", None)
    if parse is None:
        raise NotImplementedError(f"no parser for {kind}")
    return parse(value)
