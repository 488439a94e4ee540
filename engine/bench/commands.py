"""The command as click sees it. What computes is imported inside: help must answer at once."""

from __future__ import annotations

from pathlib import Path

import click

from engine.errors import ConfigError, EngineError

__all__ = ["bench"]


@click.command()
@click.option("--model", "models", multiple=True, default=("zscore_online",), show_default=True, metavar="CLASS",
              help="Class of the model, several times for several; `engine models`.")  # fmt: skip
@click.option("--series", type=click.IntRange(min=1), metavar="N", help="Series of the made-up answers.  [1000]")
@click.option("--points", default=4032, show_default=True, type=click.IntRange(min=2), metavar="N",
              help="Points of each series in the fit window.")  # fmt: skip
@click.option("--step", default="5m", show_default=True, metavar="D", help="Between two points.")
@click.option("--threads", default=0, type=click.IntRange(min=0), help="Compute threads; 0 is one for each CPU.")
@click.option("--datasource", metavar="URL", help="Read from this database, not from the stand-in.")
@click.option("--query", metavar="Q", help="What to read from it.")
@click.option("--write", is_flag=True, help="Also write the results to it, under new names of their own.")
@click.option("--cold", is_flag=True, help="Also measure a start without compiled kernels; takes up to a minute.")
@click.option("--json", "as_json", is_flag=True, help="Print all that was measured as JSON.")
@click.option("--compare", type=click.Path(path_type=Path), metavar="OLD.json",
              help="Show ratios to an older result of --json with the same settings.")  # fmt: skip
def bench(**options: object) -> int:
    """Measure what this machine does in a second: each stage, and the whole way from answer to import.

    Without --datasource nothing else is needed: a stand-in for the database answers and takes the results. With it
    the database is only read, unless --write says otherwise. Exit codes: 0 done, 1 failed, 2 usage.

    \b
      engine bench
      engine bench --model prophet --model temporal_envelope --series 10000 --points 2016 --json > old.json
      engine bench --datasource http://127.0.0.1:8428 --query 'rate(http_requests_total)' --step 1m
      engine bench --compare old.json
    """
    from engine.bench.command import Options, run

    try:
        return run(Options(**options))  # type: ignore[arg-type]  # click has checked them
    except ConfigError as err:
        raise click.ClickException("\n  ".join(["the settings do not go together:", *err.problems])) from err
    except EngineError as err:
        raise click.ClickException(str(err)) from err
