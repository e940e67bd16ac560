"""The command ``tradeperf world``. Importing it loads click only."""

import click

_LONGEST_RUN_S = 1e8


@click.command("world")
@click.option(
    "--port", default=0, show_default=True, type=click.IntRange(0, 65_535), help="0 lets the system choose."
)
@click.option("--seed", default=0, show_default=True, help="Fixes payloads, latencies and faults.")
@click.option(
    "--time-scale",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Multiplies every latency; 0 answers at once.",
)
@click.option(
    "--limits/--no-limits", default=True, show_default=True, help="Enforce the sources' rate limits."
)
@click.option(
    "--faults", default="", metavar="RULES", help="For example 'sec=429:0.1;llm=hang@3;all=500:0.01'."
)
@click.option(
    "--rules", default="", metavar="RULES", help="Other rate limits, for example 'llm=5/1;sec=10/1'."
)
@click.option(
    "--latency", default="", metavar="RANGES", help="Other latencies in seconds: 'llm=2-5;news=0.3'."
)
@click.option(
    "--api-key", envvar="TRADEPERF_WORLD_API_KEY", help="Key the language model asks for; default none."
)
@click.option(
    "--run-for", type=click.FloatRange(min=0), metavar="SECONDS", help="Stop by itself; default on Ctrl-C."
)
def world_command(
    *,
    port: int,
    seed: int,
    time_scale: float,
    limits: bool,
    faults: str,
    rules: str,
    latency: str,
    api_key: str | None,
    run_for: float | None,
) -> None:
    """Serve every live source on loopback: SEC EDGAR, news, StockTwits, CBOE, market data, a language model.

    Prints one JSON line with the base URL of each service, then serves until Ctrl-C. Statistics are at
    /_world/stats, the requests of a service at /_world/log?service=NAME; POST to /_world/faults changes
    the faults.
    """
    import asyncio
    from dataclasses import replace

    from pytest_tradeperf.pipeline.errors import SettingError
    from pytest_tradeperf.pipeline.world.settings import (
        WorldSettings,
        parse_faults,
        parse_latency,
        parse_rules,
    )

    if run_for is not None and not run_for < _LONGEST_RUN_S:
        raise click.UsageError(f"--run-for is {run_for!r}; expected seconds below {_LONGEST_RUN_S:.0f}")
    try:
        lifelike = WorldSettings.lifelike(seed=seed, time_scale=time_scale)
        settings = replace(
            lifelike,
            faults=parse_faults(faults),
            rules={**(lifelike.rules if limits else {}), **parse_rules(rules)},
            latency={**lifelike.latency, **parse_latency(latency)},
            api_key=api_key,
        )
    except SettingError as error:
        raise click.UsageError(str(error)) from error
    try:
        asyncio.run(_serve(settings, port, run_for))
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on port {port}: {error.strerror}; choose another --port"
        ) from error


async def _serve(settings: object, port: int, run_for: float | None) -> None:
    import asyncio

    from pytest_tradeperf.pipeline.world.server import World, ready_line
    from pytest_tradeperf.pipeline.world.settings import WorldSettings

    assert isinstance(settings, WorldSettings)
    async with World(settings, port=port) as world:
        click.echo(ready_line(world))
        await asyncio.sleep(run_for) if run_for is not None else await asyncio.Event().wait()
