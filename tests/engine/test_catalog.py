"""`engine models`: all classes, all their arguments, by all their names."""

from __future__ import annotations

import json

import msgspec
import pytest

from engine.cli import main
from engine.config.classes import MODELS
from engine.models.base import Model
from engine.settings import decode_hook


def shown(capsys, *arguments: str):
    assert main(["models", *arguments]) == 0
    return capsys.readouterr().out


def test_every_class_is_listed_with_what_it_is_for(capsys):
    text = shown(capsys)
    for alias, entry in MODELS.entries.items():
        assert f"\n{alias} " in text
        assert entry.use


@pytest.mark.parametrize("alias", list(MODELS.entries))
def test_a_class_is_told_in_full(alias, capsys):
    kind: type[Model] = MODELS.settings_type(alias)
    found = json.loads(shown(capsys, alias, "--json"))
    arguments = {a["name"]: a for a in found["arguments"]}
    text = shown(capsys, alias)
    for field in msgspec.structs.fields(kind):
        own = [name for name in arguments if name == field.encode_name or name.startswith(f"{field.encode_name}.")]
        assert own, field.name
        assert all(f"  {name} " in text for name in own)
        if own == [field.encode_name] and field.default is not msgspec.NODEFAULT:
            default = arguments[own[0]]["default"]
            assert msgspec.convert(default, field.type, dec_hook=decode_hook) == field.default
    assert {a["name"] for a in found["arguments"] if a["is_common"]} <= set(Model.__struct_fields__)
    assert all(name in text for name in (*MODELS.entries[alias].names, *kind.default_series))


def needs(alias: str) -> list[str]:
    """Arguments that a class cannot be made without."""
    return [field.name for field in msgspec.structs.fields(MODELS.settings_type(alias)) if field.required]


@pytest.mark.parametrize("alias", [alias for alias in MODELS.entries if alias != "custom" and not needs(alias)])
def test_arguments_of_an_inner_library_are_those_that_are_honoured(alias, capsys):
    check = getattr(MODELS.settings_type(alias)(args={"nonsense": 1}), "check", list)
    honoured = [problem.partition("expected some of ")[2] for problem in check() if "is not honoured" in problem]
    found = json.loads(shown(capsys, alias, "--json"))["arguments"]
    names = {a["name"].removeprefix("args.") for a in found if a["name"].startswith("args.")}
    assert names == set(", ".join(honoured).split(", ")) - {""}


def test_any_name_of_a_class_will_do(capsys):
    assert shown(capsys, "Model.Zscore.ZscoreModel") == shown(capsys, "zscore_online")


def test_bounds_and_defaults_are_those_that_check_configurations(capsys):
    found = json.loads(shown(capsys, "zscore", "--json"))
    decay = next(a for a in found["arguments"] if a["name"] == "decay")
    assert decay["default"] == 1.0
    assert decay["expects"] == "a number > 0 and <= 1"


def test_a_name_of_no_class_gets_the_nearest_one(capsys):
    assert main(["models", "protet"]) == 1
    assert "did you mean prophet?" in capsys.readouterr().err
