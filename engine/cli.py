"""Command line to exit code: the original's flags in all their spellings, and our commands.

Imports of anything that computes are inside functions: `engine --help` must answer at once.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine import __version__
from engine.bench.commands import bench
from engine.errors import ConfigError, EngineError
from engine.offline import commands

if TYPE_CHECKING:
    from engine.config.schema import Config

log = logging.getLogger("service")

_DEFAULT_CONFIG = Path("vmanomaly.yaml")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "FATAL", "CRITICAL")
# They write URLs and headers of every request, or every step of a compilation.
_NOISY = ("httpx", "httpcore", "numba", "asyncio")

_VALUED = {
    "license": "--license",
    "licensefile": "--licenseFile",
    "loggerlevel": "--loggerLevel",
    "loglevel": "--loggerLevel",
    "configcheckinterval": "--configCheckInterval",
    "outputspec": "--outputSpec",
    "statedir": "--state-dir",
}
_SWITCHES = {
    "licenseforceoffline": "--license.forceOffline",
    "licenseverifyoffline": "--license.forceOffline",
    "watch": "--watch",
    "dryrun": "--dryRun",
    "strict": "--strict",
    "help": "--help",
    "h": "--help",
}
_TRUTHS = {"true": True, "t": True, "yes": True, "on": True, "1": True}
_TRUTHS |= {"false": False, "f": False, "no": False, "off": False, "0": False}
_FLAG = re.compile(r"(-{0,2})([A-Za-z][A-Za-z._-]*)(?:=(.*))?", re.DOTALL)


def normalise(argv: Sequence[str]) -> list[str]:
    """Arguments as click expects them: the command first, each flag by one spelling, switches without values.

    Flags may have one dash or two, or none where they are written k=v; words may be joined by ``.``, ``-``, ``_`` or
    capitals. Unknown flags stay for the error message.

    Raises
    ------
    click.UsageError : a flag lacks its value, or a switch has one that is neither true nor false.
    """
    rest = list(argv)
    if rest and rest[0] in ("-h", "-help", "--help", "-version", "--version"):
        return ["--version" if "version" in rest[0] else "--help"]
    if rest and rest[0] == "run":
        del rest[0]
    elif rest and rest[0] in cli.commands:
        return rest
    result = ["run"]
    while rest:
        token = rest.pop(0)
        if token == "--":
            return [*result, "--", *rest]
        result += _option(token, rest)
    return result


def _option(token: str, rest: list[str]) -> list[str]:
    """One argument, with the value it takes from the rest."""
    match = _FLAG.fullmatch(token)
    if match is None or (not match[1] and match[3] is None):
        return [token]
    dashes, name, value = match.groups()
    key = re.sub(r"[._-]", "", name).lower()
    if key in _VALUED:
        if value is None:
            if not rest or _is_flag(rest[0]):
                raise click.UsageError(f"{token} needs a value")
            value = rest.pop(0)
        return [f"{_VALUED[key]}={value}"] if value else []
    if key in _SWITCHES:
        if value is None and rest and rest[0].lower() in _TRUTHS:
            value = rest.pop(0)
        if value is not None and value.lower() not in _TRUTHS:
            raise click.UsageError(f"{token}: expected true or false")
        return [_SWITCHES[key]] if value is None or _TRUTHS[value.lower()] else []
    # A file name may hold an equals sign; a single dash would be read as a row of short options.
    return [f"--{token.lstrip('-')}"] if dashes else [token]


def _is_flag(token: str) -> bool:
    match = _FLAG.fullmatch(token)
    if match is None or not match[1]:
        return False
    return re.sub(r"[._-]", "", match[2]).lower() in {**_VALUED, **_SWITCHES}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="engine %(version)s")
def cli() -> None:
    """Find anomalies in metrics: read queries, learn what is normal, write scores back.

    \b
    Try it, nothing else needed:
      engine demo                        two weeks of made-up CPU metrics with incidents, live on :8500
    \b
    Try a model on files of your own, no server needed:
      engine score cpu.csv --model temporal_envelope --output scores.csv
      engine models                      what models there are; `engine models prophet` tells all about one
    \b
    See what this machine can do:
      engine bench --series 10000 --model prophet
    \b
    Run it:
      engine config.yaml                 the same as `engine run config.yaml`
      engine base.yaml overrides/        files and folders merged, later ones win
      engine config.yaml --dryRun        check it, show what would run, start nothing
    \b
    The smallest configuration:
      schedulers: {every_minute: {class: periodic, infer_every: 1m, fit_every: 2h, fit_window: 14d}}
      models:     {zscore: {class: zscore_online, queries: all, schedulers: all}}
      reader:     {datasource_url: "http://victoriametrics:8428", sampling_period: 1m,
                   queries: {cpu: {expr: "rate(node_cpu_seconds_total)"}}}
      writer:     {datasource_url: "http://victoriametrics:8428"}
    \b
    Then alert on anomaly_score > 1. Flags of vmanomaly work with one dash or two and as k=v.
    `engine run --help` lists them, docs/config.md every key of the configuration.
    Exit codes: 0 done or stopped by a signal, 1 configuration or start failed, 2 usage.
    """


@cli.command()
@click.argument("config", nargs=-1, type=click.Path(path_type=Path))
@click.option("--dryRun", "dry_run", is_flag=True, help="Check the configuration, print it with what would run, exit.")
@click.option("--strict", is_flag=True, help="Unknown keys of the configuration are errors, not warnings.")
@click.option("--loggerLevel", "level", default="INFO", show_default=True,
              type=click.Choice(_LEVELS, case_sensitive=False), help="Least level of log lines.")  # fmt: skip
@click.option("--outputSpec", "output_spec", type=click.Path(path_type=Path),
              help="Write the effective configuration to this file, credentials masked.")  # fmt: skip
@click.option("--state-dir", type=click.Path(path_type=Path),
              help="Keep fitted state in this folder and go on from it at the next start.")  # fmt: skip
@click.option("--watch", is_flag=True, help="Reload the configuration when its files change; SIGHUP always does.")
@click.option("--configCheckInterval", "check_interval", default="30s", show_default=True,
              help="How often --watch looks for changes.")  # fmt: skip
@click.option("--licenseFile", "license_file", help="Accepted and ignored.")
@click.option("--license", "license_key", help="Accepted and ignored.")
@click.option("--license.forceOffline", "license_offline", is_flag=True, help="Accepted and ignored.")
@click.pass_context
def run(
    ctx: click.Context,
    config: tuple[Path, ...],
    dry_run: bool,
    strict: bool,
    level: str,
    output_spec: Path | None,
    state_dir: Path | None,
    watch: bool,
    check_interval: str,
    license_file: str | None,
    license_key: str | None,
    license_offline: bool,
) -> int:
    """Run the service until SIGTERM or Ctrl-C.

    CONFIG: files and folders, merged in this order, later ones win; of a folder all .yaml and .yml files directly
    inside. Without any: vmanomaly.yaml in the working directory.

    \b
      engine run config.yaml
      engine run /etc/anomaly/ local.yaml --loggerLevel=DEBUG
      engine run config.yaml --dryRun --strict
    """
    _set_up_logging(level)
    if license_file is not None or license_key is not None or license_offline:
        log.info("Licence flags are ignored: no licence is needed")
    every_s = _interval_s(check_interval)
    if not config and not _DEFAULT_CONFIG.exists():
        raise click.UsageError(f"no CONFIG given, and there is no {_DEFAULT_CONFIG} here", ctx)
    from engine.reload import Reload, log_levels

    paths = config or (_DEFAULT_CONFIG,)
    load = partial(_load, paths, strict=strict, state_dir=state_dir)
    # It looks at the files before they are loaded: a change from then on is one.
    reload = Reload(paths, load, every_s if watch else None)
    loaded = load()
    if output_spec is not None:
        _write_spec(loaded, output_spec)
    if dry_run:
        from engine.config.describe import describe

        click.echo(describe(loaded), nl=False)
        return 0
    log_levels({}, loaded.settings.logger_levels)
    for warning in loaded.warnings:
        logging.getLogger("config").warning("%s", warning)
    from engine import service

    return service.run(loaded, reload)


@cli.command()
@click.option("--once", is_flag=True, help="Stop after the report; exit 1 unless all incidents were found.")
@click.option("--out", default="demo", show_default=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for the data and the report.")  # fmt: skip
@click.option("--port", default=8500, show_default=True, type=click.IntRange(0, 65535), help="Port to serve on.")
def demo(once: bool, out: Path, port: int) -> int:
    """Show the whole service on made-up data: fill a file, find five incidents, write a report, serve live.

    \b
      engine demo
      engine demo --once --out /tmp/demo
    """
    _set_up_logging("WARNING")
    from engine import demo as module

    return module.run(once=once, out=out, port=port)


for command in (commands.score, commands.models, commands.describe, bench):
    cli.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of a command line: 0 done, 1 configuration or start failed, 2 usage."""
    try:
        arguments = normalise(sys.argv[1:] if argv is None else argv)
        if argv is None and arguments[0] == "run":
            # Process 1 of a container has no default: SIGTERM before the service's own handlers would be lost.
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        code = cli.main(arguments, prog_name="engine", standalone_mode=False)
    except click.UsageError as err:
        err.show()
        return 2
    except click.ClickException as err:
        err.show()
        return 1
    except (click.Abort, KeyboardInterrupt):
        return 130
    except ConfigError as err:
        click.echo(f"The configuration has {_count(len(err.problems), 'problem')}:", err=True)
        click.echo("\n".join(f"  {problem}" for problem in err.problems), err=True)
        return 1
    except EngineError as err:
        click.echo(f"Cannot start: {err}", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _set_up_logging(level: str) -> None:
    """Lines on stderr: time, logger, level, message."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _interval_s(text: str) -> float:
    from engine.settings import Duration

    try:
        interval = Duration.parse(text)
    except ValueError as err:
        raise click.UsageError(f"--configCheckInterval: {err}") from err
    if interval <= 0:
        raise click.UsageError(f"--configCheckInterval: {text}, expected a duration above 0")
    return interval.seconds


def _load(paths: Sequence[Path], *, strict: bool, state_dir: Path | None) -> Config:
    from engine.config.schema import load_config

    return load_config(paths, os.environ, strict=strict, state_dir=state_dir)


def _write_spec(config: Config, path: Path) -> None:
    from engine.config.describe import effective_yaml

    try:
        path.write_text(effective_yaml(config), encoding="utf-8")
    except OSError as err:
        raise click.UsageError(f"--outputSpec: {path} cannot be written: {err.strerror}") from err


if __name__ == "__main__":
    sys.exit(main())
