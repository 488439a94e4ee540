"""docs/compatibility.md names tests that exist, and at least one for each line of its tables."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs/compatibility.md").read_text()


def rows() -> list[str]:
    """The lines of all tables, without their heads."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [line for line in lines if not re.match(r"\| (Fact|Mistake there) \|", line)]


def test_every_named_test_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 100
    defined = {path: set(re.findall(r"^def (test_\w+)", (TESTS / path).read_text(), re.MULTILINE)) for path, _ in named}
    assert [f"{path}::{name}" for path, name in named if name not in defined[path]] == []


def test_every_line_names_a_test() -> None:
    assert [line for line in rows() if not re.search(r"\| (`[\w/]+\.py::\w+` ?)+\|$", line)] == []
