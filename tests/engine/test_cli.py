"""Flags in every spelling, exit codes, what goes to which stream, and how little the help imports."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from engine import __version__, cli
from engine.cli import main, normalise
from tests.e2e.stack import until

CONFIG = """
schedulers: {s: {infer_every: 1m, fit_window: 1d}}
models: {m: {class: zscore_online, queries: all, schedulers: all}}
reader: {datasource_url: 'http://me:hunter22@vm:8428', sampling_period: 1m, queries: {q: {expr: up}}}
writer: {datasource_url: 'http://vm:8428'}
"""


@pytest.fixture(autouse=True)
def _logging_as_before():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("reader.vm", "model", "reload", "service"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def served(monkeypatch):
    """Configurations that the service was started with, instead of running them."""
    import engine

    started = []
    fake = type(sys)("engine.service")
    fake.run = lambda config, _reload: started.append(config) or 0
    monkeypatch.setitem(sys.modules, "engine.service", fake)
    monkeypatch.setattr(engine, "service", fake, raising=False)
    return started


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["c.yaml"], ["run", "c.yaml"]),
        (["run", "c.yaml"], ["run", "c.yaml"]),
        ([], ["run"]),
        (["-h"], ["--help"]),
        (["--help"], ["--help"]),
        (["c.yaml", "-h"], ["run", "c.yaml", "--help"]),
        (["--version"], ["--version"]),
        (["demo", "--once"], ["demo", "--once"]),
        # The guide's, the operator's and the chart's ways to call it.
        (["/config.yaml", "--license-file=/license.txt"], ["run", "/config.yaml", "--licenseFile=/license.txt"]),
        (
            ["--licenseFile=/l", "--loggerLevel=INFO", "--license.forceOffline", "--watch", "/etc/c.yaml"],
            ["run", "--licenseFile=/l", "--loggerLevel=INFO", "--license.forceOffline", "--watch", "/etc/c.yaml"],
        ),
        (["-licenseFile", "/l", "c"], ["run", "--licenseFile=/l", "c"]),
        (["--license", "abc=", "c"], ["run", "--license=abc=", "c"]),
        (["--license-verify-offline", "true", "c"], ["run", "--license.forceOffline", "c"]),
        (["--license-verify-offline", "false", "c"], ["run", "c"]),
        *[
            ([f"{dashes}{name}=DEBUG", "c"], ["run", "--loggerLevel=DEBUG", "c"])
            for dashes in ("", "-", "--")
            for name in ("loggerLevel", "log-level", "log_level")
        ],
        *[
            ([f"{dashes}{name}", "10s"], ["run", "--configCheckInterval=10s"])
            for dashes in ("-", "--")
            for name in ("configCheckInterval", "config.check.interval", "config-check-interval",
                         "config_check_interval")
        ],
        (["dryRun=1"], ["run", "--dryRun"]),
        (["-dryRun", "true", "c"], ["run", "--dryRun", "c"]),
        (["--dryRun", "false"], ["run"]),
        (["--dryRun", "0", "c"], ["run", "c"]),
        (["-dryRun=True"], ["run", "--dryRun"]),
        (["c", "--dryRun"], ["run", "c", "--dryRun"]),
        (["--outputSpec=/o.yaml"], ["run", "--outputSpec=/o.yaml"]),
        (["--state-dir", "/s", "--strict"], ["run", "--state-dir=/s", "--strict"]),
        (["--loggerLevel="], ["run"]),
        (["a=b.yaml", "./watch=1/c.yaml"], ["run", "a=b.yaml", "./watch=1/c.yaml"]),
        (["-nonsense", "--wat"], ["run", "--nonsense", "--wat"]),
        (["--", "-c.yaml"], ["run", "--", "-c.yaml"]),
    ],
)  # fmt: skip
def test_flags_have_one_spelling_afterwards(argv, expected):
    assert normalise(argv) == expected


@pytest.mark.parametrize("argv", [["--licenseFile"], ["--licenseFile", "--watch"], ["--dryRun=perhaps"]])
def test_flags_without_what_they_need_are_usage_errors(argv):
    with pytest.raises(click.UsageError):
        normalise(argv)
    assert main(argv) == 2


def test_arguments_are_not_changed():
    argv = ["run", "--licenseFile", "/l"]
    normalise(argv)
    assert argv == ["run", "--licenseFile", "/l"]


def test_dry_run_prints_and_starts_nothing(config, served, capsys):
    assert main([config, "--dryRun"]) == 0
    captured = capsys.readouterr()
    assert served == []
    assert "model m (zscore_online) on q" in captured.out
    assert "hunter22" not in captured.out + captured.err


def test_a_good_config_reaches_the_service(config, served, caplog):
    assert main([config]) == 0
    assert list(served[0].queries) == ["q"]


def test_the_default_is_vmanomaly_yaml_here(config, served, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2
    assert "vmanomaly.yaml" in capsys.readouterr().err
    os.rename(config, tmp_path / "vmanomaly.yaml")
    assert main([]) == 0
    assert len(served) == 1


def test_problems_are_lines_on_stderr_and_exit_1(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(CONFIG.replace("1m", "often") + "server: {port: x}\n")
    assert main([str(path)]) == 1
    err = capsys.readouterr().err
    assert "The configuration has 3 problems:" in err
    assert '  server.port: "x", expected a whole number' in err
    assert "Traceback" not in err


@pytest.mark.parametrize("licence", ["/nonexistent/licence.txt", "/"])
def test_licence_flags_are_one_info_line(config, served, licence, capsys):
    assert main([config, f"--license-file={licence}", "--license.forceOffline"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "icence" in line]
    assert len(lines) == 1
    assert " - service - INFO - " in lines[0]


@pytest.mark.parametrize("interval", ["0", "-5s", "soon"])
def test_an_interval_that_is_none_is_told(config, served, capsys, interval):
    assert main([config, "--watch", f"-configCheckInterval={interval}"]) == 2
    assert "--configCheckInterval: " in capsys.readouterr().err
    assert not served


def test_trap_37_a_file_that_changes_while_it_is_loaded_has_changed(config, monkeypatch):
    import engine.service
    from engine.metrics import Metrics

    given = []
    monkeypatch.setattr(engine.service, "run", lambda running, reload: given.append((running, reload)) or 0)
    load = cli._load

    def load_while_it_changes(*args, **keys):
        loaded = load(*args, **keys)
        if not given:
            Path(config).write_text(CONFIG.replace("zscore_online", "mad_online"))
        return loaded

    monkeypatch.setattr(cli, "_load", load_while_it_changes)
    assert main([config, "--watch", "-configCheckInterval=100ms"]) == 0
    ((running, reload),) = given
    found = []
    reload.start(running, Metrics())
    until(lambda: reload.serve(found.append) or found, 20, "the change is seen")
    assert type(found[0].models["m"]).__name__ != type(running.models["m"]).__name__


@pytest.mark.parametrize("flag", ["--state-dir=/tmp/state", "-stateDir=/tmp/state"])
def test_state_dir_says_where_state_is_and_turns_it_on(config, served, flag):
    assert main([config, flag]) == 0
    assert served[0].state_dir == Path("/tmp/state")
    assert served[0].settings.restore_state


def test_strict_makes_unknown_keys_problems(tmp_path, served, capsys):
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG + "sever: {port: 1}\n")
    assert main([str(path)]) == 0
    assert main([str(path), "--strict"]) == 1
    assert "sever: unknown key; did you mean server?" in capsys.readouterr().err


def test_output_spec_is_the_effective_config(config, served, tmp_path):
    spec = tmp_path / "spec.yaml"
    assert main([config, "--dryRun", f"--outputSpec={spec}"]) == 0
    text = spec.read_text()
    assert "infer_every: 1m" in text
    assert "hunter22" not in text
    assert main([config, "--dryRun", "--outputSpec=/nonexistent/x.yaml"]) == 2


@pytest.mark.parametrize("argv", [["--nonsense"], ["-nonsense"], ["--loggerLevel=LOUD"], ["--configCheckInterval=x"]])
def test_usage_errors_exit_2(config, argv, capsys):
    assert main([config, *argv]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_start_error_is_one_line_and_exit_1(config, served, capsys, monkeypatch):
    from engine.errors import StartError

    def fail(*_):
        raise StartError("port 8500 is in use")

    monkeypatch.setattr(sys.modules["engine.service"], "run", fail)
    assert main([config]) == 1
    assert "Cannot start: port 8500 is in use" in capsys.readouterr().err


def test_log_lines_and_levels(config, served, tmp_path, capsys):
    extra = tmp_path / "levels.yaml"
    extra.write_text("settings: {logger_levels: {reader.vm: debug, model: Error}}\n")
    assert main([config, str(extra), "--loggerLevel=warning"]) == 0
    assert logging.getLogger("reader.vm").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("reader").isEnabledFor(logging.INFO)
    assert not logging.getLogger("model.zscore").isEnabledFor(logging.WARNING)
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
    logging.getLogger("reader.vm").debug("hello")
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(" - reader.vm - DEBUG - hello")
    assert line[4] == "-"
    assert line[23:26] == " - "


def test_roots_that_vmanomaly_documents_are_levels_of_ours(config, served, tmp_path):
    extra = tmp_path / "levels.yaml"
    extra.write_text("settings: {logger_levels: {vmanomaly: debug, util.files: error, service: warning}}\n")
    assert main([config, str(extra)]) == 0
    assert logging.getLogger("reload").level == logging.ERROR
    assert logging.getLogger("service").level == logging.WARNING  # by its own name
    extra.write_text("settings: {logger_levels: {vmanomaly: debug}}\n")
    assert main([config, str(extra)]) == 0
    assert logging.getLogger("service").level == logging.DEBUG


def test_fatal_is_a_level(config, served):
    assert main([config, "--loggerLevel=FATAL"]) == 0
    assert logging.getLogger().level == logging.CRITICAL


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["run", "-h"], ["demo", "--help"], ["--version"]])
def test_help_is_there(argv, capsys):
    assert main(argv) == 0
    assert capsys.readouterr().out


def test_help_teaches(capsys):
    main(["--help"])
    out = capsys.readouterr().out
    for part in ("engine demo", "engine config.yaml", "--dryRun", "datasource_url", "anomaly_score > 1", "Exit codes"):
        assert part in out


def test_version_is_ours(capsys):
    main(["--version"])
    assert capsys.readouterr().out.split() == ["engine", __version__]


def test_help_imports_no_numbers():
    code = (
        "import sys; from engine.cli import main; assert main(['--help']) == 0;"
        "heavy = {'numpy', 'numba', 'httpx', 'yaml', 'starlette'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_demo_gets_its_options(monkeypatch, tmp_path):
    calls = []
    fake = type(sys)("engine.demo")
    fake.run = lambda **options: calls.append(options) or 0
    import engine

    monkeypatch.setitem(sys.modules, "engine.demo", fake)
    monkeypatch.setattr(engine, "demo", fake, raising=False)
    assert main(["demo", "--once", "--out", str(tmp_path), "--port", "0"]) == 0
    assert calls == [{"once": True, "out": tmp_path, "port": 0}]


@pytest.mark.parametrize("name", sorted(cli.cli.commands))
def test_every_command_keeps_its_own_flags(name):
    assert normalise([name, "--some-flag", "x=1"])[0] == name


def test_commands_but_run_are_left_to_click():
    assert normalise(["score", "a.csv", "--set", "x=1", "-h"]) == ["score", "a.csv", "--set", "x=1", "-h"]
