"""Documented model classes that load and are checked, but cannot run yet: their settings only."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from engine.models.base import Model


class PlannedModel(Model, frozen=True, kw_only=True):
    """Base of models without an implementation."""

    fit_by: ClassVar[Literal["time", "rows"]] = "time"
    is_available: ClassVar[bool] = False


class NoopModel(PlannedModel, frozen=True, kw_only=True, tag_field="class", tag="noop"):
    """``class: noop``: models nothing."""


class PeerOutlier(PlannedModel, frozen=True, kw_only=True, tag_field="class", tag="peer_outlier"):
    """``class: peer_outlier``: each series against its peers; undocumented."""

    is_online: ClassVar[bool] = True

    min_peer_count: Annotated[int, Meta(ge=3)] = 3
    epsilon_quantile: Annotated[float, Meta(gt=0, lt=1)] = 0.75
    tolerance: Annotated[float, Meta(gt=0)] = 1.0
    decay: Annotated[float, Meta(gt=0, le=1)] = 1.0
    min_n_samples_seen: Annotated[int, Meta(ge=1)] | None = None

    def check(self) -> list[str]:
        """Problems that single fields cannot show, each as key, value, what was expected."""
        if self.args:
            return [f"args: {sorted(self.args)}, expected none: this class has no inner library"]
        return []
