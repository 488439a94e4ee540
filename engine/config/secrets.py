"""What must not be shown: credentials by key, inside URLs, and wherever their text turns up again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

MASK = "***"

_SECRET_KEY = re.compile(r"passw|token|secret|credential|api_?key|authorization", re.IGNORECASE)
# Paths, not secrets: they must be readable to be checked.
_NOT_SECRET = re.compile(r"_file$|_path$")
# Maps whose keys are names that the operator chose: `llm_tokens` is a query, not a credential.
_NAMED = frozenset({"schedulers", "models", "queries", "metric_format", "extra_labels", "logger_levels"})
# Greedy up to the last @: a password may hold any character.
_IN_URL = re.compile(r"(?<=://)\S*@")
_IN_URL_QUERY = re.compile(r"([?&][^=&\s]*(?:passw|token|secret|key|auth)[^=&\s]*=)[^&\s\"']+", re.IGNORECASE)
# Shorter texts occur by chance in names and numbers.
_LEAST_LENGTH = 6
_LONGEST_SHOWN = 80


def is_secret(key: str) -> bool:
    """Whether the value under a key is a credential."""
    return bool(_SECRET_KEY.search(key)) and not _NOT_SECRET.search(key)


class Masker:
    """Hides the credentials of one configuration in any text about it.

    Parameters
    ----------
    raw : the configuration as maps, lists and scalars.
    """

    def __init__(self, raw: Any) -> None:
        # The longest first: one credential may be part of another.
        self._known = sorted({s for s in _credentials(raw) if len(s) >= _LEAST_LENGTH}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without credentials."""
        for secret in self._known:
            text = text.replace(secret, MASK)
        return _IN_URL_QUERY.sub(rf"\1{MASK}", _IN_URL.sub(f"{MASK}@", text))

    def value(self, key: str, value: Any, *, is_name: bool = False) -> Any:
        """A copy of a value from the configuration without credentials.

        Parameters
        ----------
        is_name : the key is a name that the operator chose.
        """
        if not is_name and is_secret(key) and value is not None and not isinstance(value, bool):
            return MASK
        if isinstance(value, Mapping):
            names = not is_name and key in _NAMED
            return {self.text(str(k)): self.value(str(k), v, is_name=names) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(key, item) for item in value]
        if isinstance(value, int | float) and type(value) not in (int, float, bool):
            return str(value)  # durations have a spelling of their own
        return self.text(value) if isinstance(value, str) else value

    def shown(self, key: str, value: Any) -> str:
        """A value on one line, as an error text quotes it."""
        text = json.dumps(self.value(key, value), default=str, ensure_ascii=False)
        return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _credentials(raw: Any, key: str = "", *, is_name: bool = False) -> Iterator[str]:
    if not is_name and is_secret(key):
        yield from _scalars(raw)
    elif isinstance(raw, Mapping):
        for name, value in raw.items():
            yield from _credentials(value, str(name), is_name=not is_name and key in _NAMED)
    elif isinstance(raw, list | tuple):
        for item in raw:
            yield from _credentials(item)
    elif isinstance(raw, str) and (match := _IN_URL.search(raw)):
        yield from match[0][:-1].split(":", 1)[1:]


def _scalars(raw: Any) -> Iterator[str]:
    """Texts and numbers at any depth."""
    if isinstance(raw, Mapping | list | tuple):
        for item in raw.values() if isinstance(raw, Mapping) else raw:
            yield from _scalars(item)
    elif raw is not None and not isinstance(raw, bool):
        yield str(raw)
