"""One model by its class and arguments, checked as in a configuration's section `models`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from engine.config.check_parts import check_model
from engine.config.classes import MODELS
from engine.config.report import Report
from engine.config.schema import component, settled
from engine.errors import ConfigError
from engine.models.args import CustomFile
from engine.models.base import Model

_PATH = "model"


def make_model(class_name: str, arguments: Mapping[str, Any]) -> tuple[Model, tuple[str, ...]]:
    """The model, and warnings.

    Parameters
    ----------
    class_name : any alias or path of the class.
    arguments : its keys, as YAML gives them.

    Raises
    ------
    ConfigError : with every problem found; unknown arguments are problems, and so is a class that is not available.
    """
    report = Report(strict=True)
    for key in ("class", "queries", "schedulers"):
        if key in arguments:
            report.problem(f"{_PATH}.{key}", f"{arguments[key]}, expected no {key} among a single model's arguments")
    model: Model | None = component({**arguments, "class": class_name}, _PATH, MODELS, report)
    if model is not None:
        model = settled(model, CustomFile())
        check_model(model, _PATH, report)
        if not model.is_available:
            report.problem(f"{_PATH}.class", f"{class_name} is not available yet")
        if model.missing:
            report.problem(_PATH, model.missing)
    if report.problems or model is None:
        raise ConfigError(report.problems)
    entry = MODELS.find(class_name)
    if entry is not None and MODELS.is_redirected(class_name):
        report.warn(f"{_PATH}.class", f"{class_name} is {entry.alias} here")
    return model, report.warnings


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Arguments from `key=value` texts: values are YAML, dots in keys lead into maps.

    Raises
    ------
    ConfigError : a text is not of this form.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names):
            raise ConfigError([f"--set {text}: expected key=value, like z_threshold=3 or args.interval_width=0.9"])
        inner = found
        for name in names[:-1]:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigError([f"--set {text}: {name} is set to a value before, expected a map"])
        try:
            inner[names[-1]] = yaml.safe_load(value)
        except yaml.YAMLError as err:
            raise ConfigError([f"--set {text}: expected a value in YAML: {str(err).splitlines()[0]}"]) from err
    return found
