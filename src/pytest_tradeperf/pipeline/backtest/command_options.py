"""Options that the commands of this package share. Importing this module loads only click."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

STRATEGIES = ("ma-cross", "breakout")
ENGINES = ("auto", "reference", "lanes", "compiled")
SIDES = ("long", "short", "both")


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says which bars, strategy and settings to run, and how."""
    for option in reversed(
        [
            click.option("--symbol", help="Bundled AAPL, FB, GOOG (default), IBM, MSFT; or a name."),
            click.option(
                "--data", type=click.Path(path_type=Path), help="CSV or Parquet file with the bars."
            ),
            click.option(
                "--timeframe", help="Length of a bar, like 15m, 4h, 1d, 1w; longer than the data's resamples."
            ),
            click.option(
                "--calendar",
                type=click.Choice(["stocks", "continuous"]),
                help="What annualises; else inferred.",
            ),
            click.option(
                "--missing",
                type=click.Choice(["refuse", "drop", "keep"]),
                default="refuse",
                show_default=True,
                help="What to do with rows of --data without prices.",
            ),
            click.option(
                "--max-bars", type=click.IntRange(1), help="Refuse files with more rows (default 5000000)."
            ),
            click.option("--strategy", type=click.Choice(STRATEGIES), default="ma-cross", show_default=True),
            click.option("--side", type=click.Choice(SIDES), default="long", show_default=True),
            click.option(
                "--cash", type=float, default=10_000.0, show_default=True, help="Money at the start."
            ),
            click.option(
                "--fees-bps",
                type=float,
                default=0.0,
                show_default=True,
                help="Commission, 1/100 % of a trade.",
            ),
            click.option(
                "--fee-fixed",
                type=float,
                default=0.0,
                show_default=True,
                help="Commission per fill, in money.",
            ),
            click.option("--slippage-bps", type=float, default=0.0, show_default=True),
            click.option("--spread-bps", type=float, default=0.0, show_default=True),
            click.option(
                "--fraction",
                type=float,
                default=1.0,
                show_default=True,
                help="Share of equity in a position; above 1 needs --margin.",
            ),
            click.option("--whole-shares/--fractional-shares", default=True, show_default=True),
            click.option(
                "--fill",
                type=click.Choice(["next_open", "same_close"]),
                default="next_open",
                show_default=True,
            ),
            click.option(
                "--close-final/--keep-final",
                default=False,
                show_default=True,
                help="Close at the last close?",
            ),
            click.option(
                "--margin", type=float, default=1.0, show_default=True, help="0.5 allows --fraction 2."
            ),
            click.option("--stop-loss", type=float, help="Fraction below the entry price, like 0.05."),
            click.option("--take-profit", type=float, help="Fraction above the entry price."),
            click.option("--trailing", type=float, help="Fraction below the best price since entry."),
            click.option("--engine", type=click.Choice(ENGINES), default="auto", show_default=True),
            click.option(
                "--fast-window/--no-fast-window",
                default=True,
                show_default=True,
                help="Views of the bars instead of copies; the answer is the same.",
            ),
            click.option(
                "--precompute-features/--no-precompute-features",
                default=True,
                show_default=True,
                help="Ask a strategy once, not bar by bar; in a sweep, compute each average once, not once a "
                "combination; the answer is the same.",
            ),
        ]
    ):
        command = option(command)
    return command
