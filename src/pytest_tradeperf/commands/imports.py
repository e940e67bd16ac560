"""``tradeperf imports PACKAGE``: what importing a package and each of its modules costs."""

import json
import sys
from pathlib import Path

import click

from pytest_tradeperf.errors import UnitError
from pytest_tradeperf.measures.imports import import_report
from pytest_tradeperf.report.imports import import_json, import_lines
from pytest_tradeperf.units import parse_duration_ns


@click.command()
@click.argument("package")
@click.option(
    "--repeats", default=3, type=click.IntRange(1, 100), show_default=True, help="Runs of PACKAGE itself."
)
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes at a time (default: one a CPU).")
@click.option("--only", is_flag=True, help="PACKAGE itself, without the modules below it.")
@click.option("--forbid", multiple=True, metavar="MODULE", help="Fail when MODULE is imported; repeatable.")
@click.option("--timeout", default="120 s", show_default=True, help="Time one import may take.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def imports(
    package: str,
    repeats: int,
    jobs: int | None,
    *,
    only: bool,
    forbid: tuple[str, ...],
    timeout: str,
    as_json: bool,
) -> None:
    """Import PACKAGE and every module below it, each in a fresh interpreter.

    Shows time, retained memory and module count of each, failures with their exception, the share that
    libraries of others take, and imports worth making later. Exit code 1 when a module cannot be imported
    or a forbidden one is.
    """
    try:
        timeout_s = parse_duration_ns(timeout) / 1e9
    except UnitError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from error
    place = [str(Path.cwd()), *sys.path]  # a package in the working folder is found, as python -m does
    report = import_report(
        package, submodules=not only, repeats=repeats, jobs=jobs, path=place, timeout_s=timeout_s
    )
    wrong = list(dict.fromkeys(line for module in report.all for line in module.forbidden(forbid)))
    if as_json:
        click.echo(json.dumps({**import_json(report), "forbidden": wrong}, indent=1))
    else:
        for line in (*import_lines(report), *(f"FORBIDDEN {line}" for line in wrong)):
            click.echo(line)
    if report.failures or wrong:
        raise SystemExit(1)
