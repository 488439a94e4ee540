"""The commands as click sees them. Imports of anything that computes are inside functions: help must answer at once."""

from __future__ import annotations

from pathlib import Path

import click

from engine.errors import ConfigError, EngineError

__all__ = ["describe", "models", "score"]


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--model", "class_name", required=True, metavar="CLASS", help="Class of the model; `engine models`.")
@click.option("--set", "arguments", multiple=True, metavar="KEY=VALUE",
              help="An argument of the model, as in a configuration: in YAML, dots lead into maps.")  # fmt: skip
@click.option("--fit-window", metavar="D", help="Fit on this much of each series' beginning, like 7d.")
@click.option("--fit-rows", type=click.IntRange(min=0), metavar="N", help="Fit on each series' first N rows.")
@click.option("--fit-fraction", type=click.FloatRange(0, 1), metavar="F",
              help="Fit on this share of each series' rows. The default is 0.15.")  # fmt: skip
@click.option("--fit-every", metavar="D", help="Refit so often, on as much as the first fit had. Default: 1d for "
              "classes that do not learn between fits, never for others; 0 is never.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), metavar="OUT",
              help="Write a row for each input row: .csv, .csv.gz, .parquet, or - for standard output.")  # fmt: skip
@click.option("--labels", metavar="COLUMN|FILE", help="Measure against labelled anomalies: a column of 0 and 1, or a "
              "file of timestamps with one, or of spans (start, end).")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.option("--html", type=click.Path(path_type=Path), metavar="OUT", help="Write a report with charts.")
@click.option("--time", default="", metavar="COLUMN", help="Column of times, where its name does not tell.")
@click.option("--value", default="", metavar="COLUMN", help="Column of values of the long form.")
@click.option("--ignore", multiple=True, metavar="COLUMN", help="Leave this column out.")
@click.option("--tz", default="UTC", show_default=True, help="Time zone of the model's calendar.")
@click.option("--threads", default=0, type=click.IntRange(min=0), help="Compute threads; 0 is one for each CPU.")
def score(files: tuple[str, ...], **options: object) -> int:
    """Score files with a model, no server needed.

    FILE: CSV or Parquet, also gzipped; a folder is the files in it; - is standard input. Several are one batch.
    Times are Unix (s, ms, us, ns) or ISO 8601, without a zone UTC. With a column `value` it is the long form, further
    columns are labels that tell series apart; without one it is the wide form, each further column a series.

    The head of each series is fitted (15 % by default), then points are scored one by one, each from what came before
    it. Rows of the head have no score. Exit codes: 0 done, 1 a file or argument is wrong, 2 usage.

    \b
      engine score cpu.csv --model temporal_envelope
      engine score cpu.csv --model zscore_online --set z_threshold=3 --fit-window 7d --output scores.csv
      engine score train/*.csv.gz --model mad_online --labels label --fit-fraction 0.1
      zcat dump.csv.gz | engine score - --model prophet --set args.interval_width=0.98 --output scores.parquet
      engine score cpu.csv --model std --set period=288 --labels incidents.csv --html report.html
    """
    from engine.offline.score_command import Options, run

    try:
        return run(Options(files=files, **options))  # type: ignore[arg-type]  # click has checked them
    except ConfigError as err:
        raise click.ClickException("\n  ".join(["the model's arguments:", *err.problems])) from err
    except EngineError as err:
        raise click.ClickException(str(err)) from err


@click.command()
@click.argument("name", required=False, metavar="[CLASS]")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def models(name: str | None, as_json: bool) -> int:
    """List the classes of models, or tell all about one: arguments, defaults, bounds, outputs, when it is right.

    CLASS: any name that a configuration may use, like zscore or model.zscore.ZscoreModel.

    \b
      engine models
      engine models prophet
    """
    from msgspec import json

    from engine.config.classes import MODELS
    from engine.offline import catalog

    if name is None:
        click.echo(json.format(json.encode(catalog.overview())).decode() if as_json else catalog.overview_text())
        return 0
    entry = MODELS.find(name)
    if entry is None:
        raise click.ClickException(f"{name} is no class of models: {MODELS.expected(name)}")
    click.echo(json.format(json.encode(catalog.details(entry))).decode() if as_json else catalog.details_text(entry))
    return 0


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE...]")
@click.option("--config", type=click.Path(path_type=Path), metavar="C",
              help="Read through this configuration's reader, instead of files.")  # fmt: skip
@click.option("--query", metavar="Q", help="Alias of the query: the fit window of its scheduler is described.")
@click.option("--json", "as_json", is_flag=True, help="Print all that was found as JSON.")
@click.option("--time", default="", metavar="COLUMN", help="Column of times, where its name does not tell.")
@click.option("--value", default="", metavar="COLUMN", help="Column of values of the long form.")
@click.option("--ignore", multiple=True, metavar="COLUMN", help="Leave this column out.")
@click.option("--tz", default="UTC", show_default=True, help="Time zone of the rhythm.")
@click.option("--threads", default=0, type=click.IntRange(min=0), help="Compute threads; 0 is one for each CPU.")
def describe(files: tuple[str, ...], **options: object) -> int:
    """Tell what series are like: points, gaps, seasons, trend, level shifts, and which model suits, with the reason.

    FILE: as of `engine score`. Exit codes: 0 done, 1 a file or configuration is wrong, 2 usage.

    \b
      engine describe cpu.csv
      engine describe train/*.csv.gz --ignore label --json
      engine describe --config config.yaml --query cpu
    """
    from engine.offline.describe_command import Options, run

    try:
        return run(Options(files=files, **options))  # type: ignore[arg-type]  # click has checked them
    except ConfigError:
        raise
    except EngineError as err:
        raise click.ClickException(str(err)) from err
