"""The classes that configurations may name, section by section; those of models are in `engine.models.registry`."""

from __future__ import annotations

from engine.models.registry import MODELS, ClassEntry, ClassTable

__all__ = ["MODELS", "READERS", "SCHEDULERS", "WRITERS", "ClassEntry", "ClassTable"]

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

SCHEDULERS = ClassTable(_SCHEDULERS, "periodic")
READERS = ClassTable(_READERS, "vm")
WRITERS = ClassTable(_WRITERS, "vm")
