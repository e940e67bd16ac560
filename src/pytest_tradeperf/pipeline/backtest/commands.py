"""The commands ``tradeperf backtest`` and ``tradeperf sweep``. Importing this module loads only click."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_tradeperf.pipeline.backtest.command_options import run_options
from pytest_tradeperf.pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_tradeperf.pipeline.backtest.result import BacktestResult
    from pytest_tradeperf.pipeline.marketdata.bars import Bars

# The fastest of a few runs: the first one also imports and warms caches.
COMPARED_RUNS = 5


@click.command()
@run_options
@click.option(
    "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the strategy; repeat."
)
@click.option(
    "--compare-engines", is_flag=True, help="Time all engines and check that results are identical."
)
@click.option("--reference-index", help="Bundled symbol or file for alpha and beta.")
@click.option(
    "--format", "style", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True
)
@click.option("--output", type=click.Path(path_type=Path), help="Write there instead of printing.")
@click.option("--trades", "trades_file", type=click.Path(path_type=Path), help="Write the trades as CSV.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write a chart (PNG, SVG, PDF).")
def backtest(**options: Any) -> None:
    """Run a strategy over bars and print what it would have made."""
    from pytest_tradeperf.pipeline.backtest import printing

    try:
        bars = _bars(options)
        strategy = _strategy_class(options)(**_parameters(options))
        runs = _run_engines(bars, strategy, options)
        result, _ = runs[0]
        fit = None if options["reference_index"] is None else result.fit(_index(options["reference_index"]))
        if options["compare_engines"]:
            identical = len({run.digest for run, _ in runs}) == 1
            printing.write(
                printing.comparison(runs, identical=identical, style=options["style"]), options["output"]
            )
            if not identical:
                raise click.ClickException(
                    "engines disagree: this is a defect, please report it with the command line"
                )
            return
        printing.write(printing.report(result, fit, style=options["style"]), options["output"])
        if options["trades_file"] is not None:
            printing.write(result.trades_frame().to_csv(index=False), options["trades_file"])
        if options["plot"] is not None:
            result.plot(options["plot"])
    except (PipelineError, OSError) as error:
        raise click.ClickException(str(error)) from error


@click.command()
@run_options
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUES",
    help="Values of a parameter: 10, or 5,10,20, or 2:50, or 2:50:4; repeat.",
)
@click.option(
    "--metric", default="sharpe", show_default=True, help="What to rank by; see the table's columns."
)
@click.option("--smallest", is_flag=True, help="Rank the smallest first.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Rows of the table.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option(
    "--memory-limit", type=float, default=128.0, show_default=True, help="Megabytes for work at once."
)
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="Keep finished work there and go on from it."
)
@click.option(
    "--format", "style", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True
)
@click.option("--output", type=click.Path(path_type=Path), help="Write there instead of printing.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write a heat map of the first two parameters.")
@click.option(
    "--result-cache/--no-result-cache",
    "keeps_results",
    default=False,
    show_default=True,
    help="Keep finished sweeps, and answer the same one from there.",
)
@click.option(
    "--result-folder",
    type=click.Path(path_type=Path),
    default=Path(".tradeperf/sweeps"),
    show_default=True,
    help="Where --result-cache keeps them.",
)
@click.option("--progress", is_flag=True, help="Say how far it is, on standard error.")
def sweep(**options: Any) -> None:
    """Run a strategy over a grid of parameters and print the best."""
    from pytest_tradeperf.pipeline.backtest import printing
    from pytest_tradeperf.pipeline.backtest.grid import sweep as run_sweep
    from pytest_tradeperf.pipeline.features.result_cache import ResultCache

    cache = ResultCache(options["result_folder"]) if options["keeps_results"] else None
    try:
        bars = _bars(options)
        kind = _strategy_class(options)
        result = _in_pool(
            options["workers"],
            lambda pool: run_sweep(
                bars,
                kind,
                settings=_settings(options),
                engine=options["engine"],
                executor=pool,
                memory_limit=int(options["memory_limit"] * 1e6),
                checkpoint=options["checkpoint"],
                progress=_say if options["progress"] else None,
                precompute_features=options["precompute_features"],
                fast_window=options["fast_window"],
                result_cache=cache,
                data_file=options["data"],
                **_grid(options),
            ),
        )
        table = printing.ranking(result, options)
        printing.write(table, options["output"])
        if options["plot"] is not None:
            from pytest_tradeperf.pipeline.backtest.plots import sweep_figure

            sweep_figure(result, options["metric"], options["plot"])
        if not result.is_complete:
            raise click.exceptions.Exit(130)
    except (PipelineError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _say(done: int, total: int) -> None:
    click.echo(f"{done} of {total} combinations", err=True)


def _in_pool(n_workers: int, run: Callable[[Any], Any]) -> Any:
    if n_workers == 1:
        return run(None)
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # spawn: a fork of a process with threads (numba, pandas) can hang.
    with ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return run(pool)


def _bars(options: dict[str, Any]) -> Bars:
    from pytest_tradeperf.pipeline.marketdata import (
        Timeframe,
        load_bars,
        parse_timeframe,
        read_bars,
        resample,
    )
    from pytest_tradeperf.pipeline.marketdata.csvfile import MAX_BARS

    if options["data"] is None:
        bars = load_bars(options["symbol"] or "GOOG")
    else:
        limit = options["max_bars"] or MAX_BARS
        bars = read_bars(
            options["data"], symbol=options["symbol"], missing=options["missing"], max_bars=limit
        )
    calendar = options["calendar"] or bars.timeframe.calendar
    if calendar != bars.timeframe.calendar:
        from dataclasses import replace

        bars = replace(bars, timeframe=Timeframe(minutes=bars.timeframe.minutes, calendar=calendar))
    if options["timeframe"] is not None:
        bars = resample(bars, parse_timeframe(options["timeframe"], calendar=calendar))
    return bars


def _index(name: str) -> Bars:
    from pytest_tradeperf.pipeline.marketdata import BUNDLED_SYMBOLS, load_bars, read_bars

    return load_bars(name) if name.upper() in BUNDLED_SYMBOLS else read_bars(name)


def _strategy_class(options: dict[str, Any]) -> Any:
    from pytest_tradeperf.pipeline.backtest import Breakout, MovingAverageCross

    return {"ma-cross": MovingAverageCross, "breakout": Breakout}[options["strategy"]]


def _split(options: dict[str, Any]) -> list[tuple[str, str]]:
    from dataclasses import fields

    known = [item.name for item in fields(_strategy_class(options)) if item.name != "side"]
    pairs = []
    for text in options["params"]:
        name, equals, value = text.partition("=")
        if not equals or name not in known or not value:
            raise click.BadParameter(
                f"{text!r}: expected NAME=VALUE with one of {', '.join(known)}", param_hint="--param"
            )
        pairs.append((name, value))
    return pairs


def _value(name: str, text: str) -> int | str:
    if name == "average":
        return text
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(f"{name}={text!r}: expected a whole number", param_hint="--param") from None


def _parameters(options: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(name, text) for name, text in _split(options)} | {"side": options["side"]}


def _grid(options: dict[str, Any]) -> dict[str, Any]:
    grid: dict[str, list[Any]] = {}
    for name, text in _split(options):
        for part in text.split(","):
            bounds = [_value(name, number) for number in part.split(":")] if name != "average" else [part]
            if len(bounds) > 3 or (len(bounds) == 3 and bounds[2] == 0):  # noqa: PLR2004 - start:end:step
                raise click.BadParameter(
                    f"{name}={part!r}: expected START:END or START:END:STEP", param_hint="--param"
                )
            if len(bounds) == 1:
                grid.setdefault(name, []).append(bounds[0])
            else:
                step = int(bounds[2]) if len(bounds) == 3 else 1  # noqa: PLR2004
                grid.setdefault(name, []).extend(
                    range(int(bounds[0]), int(bounds[1]) + (1 if step > 0 else -1), step)
                )
    if not grid:
        grid = {"fast": list(range(5, 30, 5)), "slow": list(range(30, 110, 10))}
        if options["strategy"] == "breakout":
            grid = {"entry": list(range(10, 60, 10)), "exit": list(range(5, 30, 5))}
    return grid | {"side": [options["side"]]}


def _settings(options: dict[str, Any]) -> Any:
    from pytest_tradeperf.pipeline.backtest import Costs, Fraction, Settings, Stops

    return Settings(
        cash=options["cash"],
        costs=Costs(
            fees_bps=options["fees_bps"],
            fee_fixed=options["fee_fixed"],
            slippage_bps=options["slippage_bps"],
            spread_bps=options["spread_bps"],
        ),
        sizing=Fraction(fraction=options["fraction"]),
        stops=Stops(
            stop_loss=options["stop_loss"], take_profit=options["take_profit"], trailing=options["trailing"]
        ),
        whole_shares=options["whole_shares"],
        fill=options["fill"],
        close_final=options["close_final"],
        margin=options["margin"],
    )


def _run_engines(bars: Bars, strategy: Any, options: dict[str, Any]) -> list[tuple[BacktestResult, float]]:
    """Return results and the seconds each took; one, or one for every engine that supports the settings."""
    import importlib.util
    import time

    from pytest_tradeperf.pipeline.backtest.compiled import prepare
    from pytest_tradeperf.pipeline.backtest.engine import run_with_settings
    from pytest_tradeperf.pipeline.errors import EngineError

    settings = _settings(options)
    names = [options["engine"]]
    if options["compare_engines"]:
        has_numba = importlib.util.find_spec("numba") is not None
        names = ["reference", "lanes", *(["compiled"] if has_numba else [])]
    runs = []
    for name in names:
        if name == "compiled":
            prepare()  # compiling is not part of the comparison
        seconds = math.inf
        try:
            for _ in range(COMPARED_RUNS if options["compare_engines"] else 1):
                start = time.perf_counter()
                result = run_with_settings(
                    bars,
                    strategy,
                    settings,
                    precompute_features=options["precompute_features"],
                    fast_window=options["fast_window"],
                    engine=name,
                )
                seconds = min(seconds, time.perf_counter() - start)
        except EngineError:
            if options["compare_engines"]:
                continue  # an engine that lacks a setting has nothing to compare
            raise
        runs.append((result, seconds))
    return runs
