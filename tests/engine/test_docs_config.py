"""docs/config.md holds every key with its default, every class name, every flag."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from engine import cli
from engine.config.classes import MODELS, READERS, SCHEDULERS, WRITERS
from engine.config.describe import effective_yaml
from engine.config.schema import load_config
from engine.config.sections import ServiceSettings
from engine.models.auto import OptimizationParams
from engine.models.base import Model
from engine.reader.settings import QuerySettings, ReaderSettings
from engine.server.settings import PullSettings, PushSettings, ServerSettings
from engine.settings import UNBOUNDED, Duration

TEXT = (Path(__file__).parents[2] / "docs" / "config.md").read_text()
ROW = re.compile(r"^\| `([^`]+)` \| .* \| ([^|]+) \| [^|]+ \|$")
COMMON = {field.name for field in msgspec.structs.fields(Model)}
ANY_READER = {field.name for field in msgspec.structs.fields(ReaderSettings)}


def rows(title: str) -> dict[str, str]:
    """Defaults by key of the tables under a heading."""
    match = re.search(rf"^##+ {re.escape(title)}(?: \(planned\))?$\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert match, f"no heading {title}"
    return {m[1]: m[2].strip() for line in match[1].splitlines() if (m := ROW.match(line))}


def written(field: msgspec.structs.FieldInfo) -> str:
    """A default as the docs write it."""
    if field.required:
        return "required"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if value is None:
        return "—"
    if value == UNBOUNDED:
        return "`[-inf, inf]`"
    if isinstance(value, Duration) or (isinstance(value, int | float) and type(value) not in (int, float, bool)):
        return f"`{value}`"
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{json.dumps(msgspec.to_builtins(value))}`"


def compact(text: str) -> str:
    """Spaces inside a default do not matter."""
    return text.replace(" ", "")


TABLES = [
    *[(f"Scheduler class `{a}`", SCHEDULERS.settings_type(a), set()) for a in ("periodic", "oneoff", "backtesting")],
    *[(f"Reader class `{a}`", READERS.settings_type(a), set()) for a in ("vm", "local")],
    *[(f"Writer class `{a}`", WRITERS.settings_type(a), set()) for a in ("vm", "local")],
    *[(f"Model class `{a}`", MODELS.settings_type(a), COMMON) for a in MODELS.entries],
    ("Keys of all models", Model, set()),
    ("Queries", QuerySettings, set()),
    ("Settings", ServiceSettings, set()),
    ("Server", ServerSettings, set()),
    ("Pull", PullSettings, set()),
    ("Push", PushSettings, set()),
    ("Model class `auto`", OptimizationParams, set()),
]


@pytest.mark.parametrize(("title", "kind", "elsewhere"), TABLES, ids=[f"{t}-{k.__name__}" for t, k, _ in TABLES])
def test_every_key_is_there_with_its_default(title, kind, elsewhere):
    found = rows(title)
    wanted = {f.encode_name: written(f) for f in msgspec.structs.fields(kind) if f.name not in elsewhere}
    assert {key: compact(found.get(key, "not there")) for key in wanted} == {
        key: compact(text) for key, text in wanted.items()
    }


@pytest.mark.parametrize("table", [SCHEDULERS, READERS, WRITERS, MODELS])
def test_every_class_is_named(table):
    for entry in table.entries.values():
        assert f"`{entry.alias}`" in TEXT
        # Those of one line have their keys there, and no full paths.
        if f"class `{entry.alias}`" in TEXT and entry.alias != "noop":
            for name in (*entry.names, *entry.redirected):
                assert f"`{name}`" in TEXT


@pytest.mark.parametrize("table", [READERS, WRITERS])
def test_keys_of_classes_without_a_table_are_named(table):
    for alias in set(table.entries) - {"vm", "local", "vlogs", "noop"}:
        for field in msgspec.structs.fields(table.settings_type(alias)):
            if field.name not in ANY_READER:
                assert f"`{field.name}" in TEXT


def test_planned_is_said_of_exactly_the_models_that_are():
    for alias in MODELS.entries:
        is_planned = f"Model class `{alias}` (planned)" in TEXT
        assert is_planned == (not MODELS.settings_type(alias).is_available and alias != "noop")


def test_every_flag_is_there():
    for command in cli.cli.commands.values():
        for parameter in command.params:
            for flag in (o for o in parameter.opts if o.startswith("-")):
                assert f"`{flag}`" in TEXT


def test_every_section_of_the_effective_settings_is_there():
    good = Path(__file__).parent / "config" / "newest_good.yaml"
    sections = re.findall(r"^([a-z]+):", effective_yaml(load_config([good], {})), re.MULTILINE)
    assert len(sections) == 8
    for section in sections:
        assert f"| `{section}` |" in TEXT
