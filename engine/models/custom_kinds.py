"""Which of the kinds of custom models a configured one is: its operator's class says."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.models.args import CustomFile
from engine.models.base import Model
from engine.models.custom import Custom, OnlineCustom, RollingCustom
from engine.models.custom_base import OnlineModel, RollingModel
from engine.models.custom_groups import MultivariateCustom, OnlineMultivariateCustom
from engine.models.custom_load import load_class


def settle(model: Model, default: CustomFile) -> Model:
    """A custom model as what its class is, from the default file where it names none; others as they are."""
    if not isinstance(model, Custom):
        return model
    found = model if model.custom.path else msgspec.structs.replace(model, custom=default)
    if found.file is None or found.check():
        return found
    return _kind_of(load_class(found.file))(**{name: getattr(found, name) for name in found.__struct_fields__})


def _kind_of(theirs: type[Any]) -> type[Custom]:
    is_online = issubclass(theirs, OnlineModel)
    if theirs.is_multivariate:
        return OnlineMultivariateCustom if is_online else MultivariateCustom
    if issubclass(theirs, RollingModel):
        return RollingCustom
    return OnlineCustom if is_online else Custom
