"""The command ``tradeperf feeds``. Importing it loads click only."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.altdata.collect import Collection
    from pytest_tradeperf.pipeline.altdata.settings import FeedSettings


@click.command("feeds")
@click.argument("tickers", nargs=-1, required=True)
@click.option(
    "--live", is_flag=True, help="Ask the real sources (TRADEPERF_* variables say where); default loopback."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the loopback world.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="For all sources."
)
@click.option(
    "--items", default=3, show_default=True, type=click.IntRange(0), help="Items shown for each ticker."
)
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
def feeds_command(
    *, tickers: tuple[str, ...], live: bool, seed: int, timeout: float | None, items: int, style: str
) -> None:
    """Show filings, headlines, messages and options activity about TICKERS, and how the sources did."""
    import asyncio
    import os
    from dataclasses import replace

    from pytest_tradeperf.pipeline.altdata.settings import FeedSettings
    from pytest_tradeperf.pipeline.errors import PipelineError

    try:
        settings = FeedSettings.from_environment(os.environ) if live else None
        if settings is not None and timeout is not None:
            settings = replace(settings, timeout_s=timeout)
        found = asyncio.run(_collect(settings, tickers, seed, timeout))
    except PipelineError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        raise click.ClickException("stopped before the sources answered") from None
    click.echo(_as_json(found) if style == "json" else _as_table(found, tickers, items))


async def _collect(
    settings: "FeedSettings | None", tickers: Sequence[str], seed: int, timeout_s: float | None
) -> "Collection":
    from pytest_tradeperf.pipeline.altdata.collect import collect_from
    from pytest_tradeperf.pipeline.altdata.settings import FeedSettings

    if settings is not None:
        return await collect_from(settings, tickers)
    from pytest_tradeperf.pipeline.world.server import World
    from pytest_tradeperf.pipeline.world.settings import WorldSettings

    async with World(WorldSettings(seed=seed)) as world:
        loopback = FeedSettings.for_world(world.url)
        if timeout_s is not None:
            loopback = FeedSettings.for_world(world.url, timeout_s=timeout_s)
        return await collect_from(loopback, tickers)


def _as_table(found: "Collection", tickers: Sequence[str], items: int) -> str:
    lines = [f"{'source':<11}{'symbols/min':>12}{'requests':>10}{'upstream':>10}{'cached':>8}{'errors':>8}"]
    for name, report in found.reports.items():
        counts = report.statistics
        lines.append(
            f"{name:<11}{report.symbols_per_minute:>12.0f}{counts.requests:>10}{counts.upstream:>10}"
            f"{counts.cache_hit_rate:>8.0%}{report.error_rate:>8.0%}"
        )
    for ticker in dict.fromkeys(ticker.strip().upper() for ticker in tickers):
        score = found.sentiment(ticker)
        lines += [
            "",
            f"{ticker}  sentiment {score:+.2f}" if score is not None else f"{ticker!r:.40}  no sentiment",
        ]
        for item in found.items(ticker)[:items]:
            lines.append(f"  {item.available_at:%Y-%m-%d %H:%M} UTC  {item.source:<10} {item.text}")
    if found.degraded:
        lines += ["", "degraded:", *(f"  {line}" for line in found.degraded)]
    return "\n".join(lines)


def _as_json(found: "Collection") -> str:
    import json
    from dataclasses import asdict

    value = asdict(found)
    for name, report in found.reports.items():
        value["reports"][name]["symbols_per_minute"] = report.symbols_per_minute
        value["reports"][name]["error_rate"] = report.error_rate
    return json.dumps(value, default=str, ensure_ascii=False, indent=2)
