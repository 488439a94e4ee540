"""What is wrong with a configuration: all problems and warnings, gathered while it is read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from engine.config.secrets import Masker


class Report:
    """Collects problems and warnings, in the order found, without credentials and without repeats.

    Parameters
    ----------
    strict : unknown keys are problems, not warnings.

    Attributes
    ----------
    masker : hides credentials; set it as soon as the settings are read.
    n_reported : counts problems, also those that only follow from others.
    is_partial : sections and keys may be missing, because a preset fills them.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.masker = Masker({})
        self.is_partial = False
        self._strict = strict
        self.n_reported = 0
        self._settled: set[str] = set()
        self._problems: dict[str, None] = {}
        self._warnings: dict[str, None] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(map(self.masker.text, self._problems))

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(map(self.masker.text, self._warnings))

    def problem(self, path: str, text: str) -> None:
        """Something that cannot be run."""
        self.n_reported += 1
        if path in self._settled:
            return
        self._problems.setdefault(f"{path}: {text}")

    def bad(self, path: str, value: Any, text: str) -> None:
        """A value that is not what was expected there."""
        key = path.rpartition(".")[2]
        self.problem(path, f"{self.masker.shown(key, value)}, {text}")

    def unset(self, path: str, name: str) -> None:
        """A placeholder of a variable that is not set; whatever else is wrong at its place follows from that."""
        self.problem(path, f"%{{{name}}}, expected the environment variable {name} to be set")
        self._settled.add(path)

    def missing(self, path: str, text: str) -> None:
        """A key that must be there."""
        if not self.is_partial:
            self.problem(path, f"missing, {text}")

    def warn(self, path: str, text: str) -> None:
        """Something that runs, perhaps not as meant."""
        self._warnings.setdefault(f"{path}: {text}")

    def unknown(self, path: str, known: Iterable[str], hint: str = "") -> None:
        """A key that nothing reads."""
        key = path.rpartition(".")[2]
        near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
        text = f"unknown key{f'; did you mean {near[0]}?' if near else hint}"
        if self._strict:
            self.problem(path, text)
        else:
            self.warn(path, f"{text}; it has no effect")
