"""The command ``tradeperf backtest`` and what it prints. Importing this module loads only click."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pytest_tradeperf.pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.backtest.result import BacktestResult

STRATEGIES = ("ma-cross", "breakout")


@click.command()
@click.option(
    "--symbol", default="GOOG", show_default=True, help="A bundled symbol: AAPL, FB, GOOG, IBM or MSFT."
)
@click.option("--strategy", type=click.Choice(STRATEGIES), default="ma-cross", show_default=True)
@click.option("--cash", type=float, default=10_000.0, show_default=True, help="Money at the start.")
@click.option(
    "--fees-bps", type=float, default=0.0, show_default=True, help="Commission, in 1/100 % of the trade."
)
def backtest(symbol: str, strategy: str, cash: float, fees_bps: float) -> None:
    """Run a strategy over daily bars and print what it would have made."""
    from pytest_tradeperf.pipeline.backtest import Breakout, MovingAverageCross, run_backtest
    from pytest_tradeperf.pipeline.marketdata import load_bars

    try:
        rule = MovingAverageCross() if strategy == "ma-cross" else Breakout()
        result = run_backtest(load_bars(symbol), rule, cash=cash, fees_bps=fees_bps)
    except PipelineError as error:
        raise click.ClickException(str(error)) from error
    _print_table(result)


def _print_table(result: BacktestResult) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result.symbol}, {result.strategy}", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_row("final equity", f"{result.final_equity:,.2f}")
    table.add_row("total return", f"{result.total_return:.2%}")
    table.add_row("Sharpe (arithmetic)", f"{result.sharpe:.3f}")
    table.add_row("max drawdown", f"{result.max_drawdown:.2%}")
    table.add_row("trades", str(result.n_trades))
    Console().print(table)
