"""The classes that configurations may name: short alias, all full paths of all releases, and where our type is."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple


class ClassEntry(NamedTuple):
    """One class: its canonical alias, the settings type as module:name, and the other names it goes by.

    `redirected` are names of older classes that now mean this one; they load with a warning.
    """

    alias: str
    type_path: str
    names: tuple[str, ...] = ()
    redirected: tuple[str, ...] = ()


_PLANNED = "engine.models.planned"
_SCHEDULER, _READER, _WRITER = "engine.scheduler.settings", "engine.reader.settings", "engine.writer.settings"

_SCHEDULERS = (
    ClassEntry("periodic", f"{_SCHEDULER}:PeriodicSettings", ("scheduler.periodic.PeriodicScheduler",)),
    ClassEntry("oneoff", f"{_SCHEDULER}:OneoffSettings", ("scheduler.oneoff.OneoffScheduler",)),
    ClassEntry("backtesting", f"{_SCHEDULER}:BacktestingSettings", ("scheduler.backtesting.BacktestingScheduler",)),
    ClassEntry("noop", f"{_SCHEDULER}:NoopSchedulerSettings", ("scheduler.noop.NoOpScheduler",)),
)

_READERS = (
    ClassEntry("vm", f"{_READER}:VmReaderSettings", ("reader.vm.VmReader",)),
    ClassEntry("local", f"{_READER}:LocalReaderSettings"),
    ClassEntry("vlogs", f"{_READER}:VlogsReaderSettings", ("reader.vlogs.VLogsReader",)),
    ClassEntry("noop", f"{_READER}:NoopReaderSettings", ("reader.noop.NoOpReader",)),
    ClassEntry("synthetic_vm", f"{_READER}:SyntheticReaderSettings", ("reader.synthetic.SyntheticVmReader",)),
    ClassEntry("csv", f"{_READER}:CsvReaderSettings", ("reader.csv.CsvReader",)),
    ClassEntry("ndjson", f"{_READER}:NdjsonReaderSettings", ("reader.ndjson.NdjsonReader",)),
    ClassEntry("query_range", f"{_READER}:QueryRangeReaderSettings", ("reader.query_range.QueryRangeReader",)),
)

_WRITERS = (
    ClassEntry("vm", f"{_WRITER}:VmWriterSettings", ("writer.vm.VmWriter",)),
    ClassEntry("local", f"{_WRITER}:LocalWriterSettings"),
    ClassEntry("noop", f"{_WRITER}:NoopWriterSettings", ("writer.noop.NoOpWriter",)),
    ClassEntry("csv", f"{_WRITER}:CsvWriterSettings", ("writer.csv.CsvWriter",)),
    ClassEntry("ndjson", f"{_WRITER}:NdjsonWriterSettings", ("writer.ndjson.NdjsonWriter",)),
)

_MODELS = (
    ClassEntry(
        "zscore_online",
        "engine.models.zscore:OnlineZscore",
        ("model.online.OnlineZscoreModel",),
        ("zscore", "model.zscore.ZscoreModel"),
    ),
    ClassEntry(
        "mad_online",
        "engine.models.mad:OnlineMad",
        ("model.online.OnlineMADModel",),
        ("mad", "model.mad.MADModel"),
    ),
    ClassEntry("quantile_online", f"{_PLANNED}:OnlineQuantile", ("model.online.OnlineQuantileModel",)),
    ClassEntry(
        "rolling_quantile",
        "engine.models.rolling_quantile:RollingQuantile",
        ("model.online.RollingQuantileModel",),
        ("model.rolling_quantile.RollingQuantileModel",),
    ),
    ClassEntry("std", "engine.models.stl:SeasonalTrend", ("model.online.StdModel",), ("model.std.StdModel",)),
    ClassEntry("temporal_envelope", f"{_PLANNED}:TemporalEnvelope", ("model.online.TemporalEnvelopeModel",)),
    ClassEntry(
        "temporal_envelope_multivariate",
        f"{_PLANNED}:TemporalEnvelopeMultivariate",
        ("model.online.TemporalEnvelopeMultivariateModel",),
    ),
    ClassEntry("peer_outlier", f"{_PLANNED}:PeerOutlier", ("model.online.PeerOutlierModel",)),
    ClassEntry("prophet", "engine.models.prophet:Prophet", ("model.prophet.ProphetModel",)),
    ClassEntry("holtwinters", "engine.models.holtwinters:HoltWinters", ("model.holtwinters.HoltWinters",)),
    ClassEntry(
        "isolation_forest_univariate",
        f"{_PLANNED}:IsolationForest",
        ("isolation_forest", "model.isolation_forest.IsolationForestModel"),
    ),
    ClassEntry(
        "isolation_forest_multivariate",
        f"{_PLANNED}:IsolationForestMultivariate",
        ("model.isolation_forest.IsolationForestMultivariateModel",),
    ),
    ClassEntry("auto", f"{_PLANNED}:AutoTuned", ("model.auto.AutoTunedModel",)),
    ClassEntry("custom", f"{_PLANNED}:Custom", ("model.custom.CustomModel",), ("model.model.CustomModel",)),
    ClassEntry("arima", f"{_PLANNED}:Arima", (), ("model.arima.ArimaModel",)),
    ClassEntry("noop", f"{_PLANNED}:NoopModel", ("model.noop.NoOpModel",)),
)


class ClassTable:
    """The classes of one section; names are found without regard to case, as the docs themselves vary in it."""

    def __init__(self, entries: tuple[ClassEntry, ...], default: str | None) -> None:
        self.default = default
        self.entries: Mapping[str, ClassEntry] = {entry.alias: entry for entry in entries}
        self._by_name = {n.lower(): e for e in entries for n in (e.alias, *e.names, *e.redirected)}
        self._redirected = {n.lower() for e in entries for n in e.redirected}

    def find(self, name: object) -> ClassEntry | None:
        """The entry that a configured class name means."""
        return self._by_name.get(name.strip().lower()) if isinstance(name, str) else None

    def is_redirected(self, name: str) -> bool:
        """Whether the name is one of an older class that another one has replaced."""
        return name.strip().lower() in self._redirected

    def settings_type(self, alias: str) -> type[Any]:
        """The settings type of a canonical alias; its module is imported here and not before."""
        module, _, name = self.entries[alias].type_path.partition(":")
        found: type[Any] = getattr(importlib.import_module(module), name)
        return found

    def expected(self, name: object) -> str:
        """What could have been meant, for an error text."""
        near = difflib.get_close_matches(str(name).lower(), self._by_name, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"expected one of {', '.join(self.entries)}{hint}"


SCHEDULERS = ClassTable(_SCHEDULERS, "periodic")
READERS = ClassTable(_READERS, "vm")
WRITERS = ClassTable(_WRITERS, "vm")
MODELS = ClassTable(_MODELS, None)
