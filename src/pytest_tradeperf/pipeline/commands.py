"""The commands ``tradeperf cycle`` and ``tradeperf morning``. Importing this module loads only click."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pytest_tradeperf.pipeline.config import Resolved, resolve
from pytest_tradeperf.pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

INTERRUPTED = 130
"""What a shell expects of a command that Ctrl-C ended: 128 + SIGINT."""
MORNING_SECONDS = 290.0


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that both have."""
    options = [
        click.option("--tickers", help="What to look at, separated by commas."),
        click.option(
            "--config", "file", help="TOML file with settings; default tradeperf.toml if it is there."
        ),
        click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="Any setting; repeatable."),
        click.option("--llm-url", help="OpenAI-compatible endpoint up to /v1, or 'world'; default: rules."),
        click.option("--llm-model", help="Model name the endpoint knows."),
        click.option("--source", help="Where feeds come from: world, live or off."),
        click.option("--output", help="Folder for charts, reports and the store."),
        click.option("--show-config", is_flag=True, help="Print every setting with its origin, and stop."),
        click.option("--quiet", is_flag=True, help="No progress."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command("cycle")
@_shared
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
def cycle(style: str, **options: Any) -> None:
    """Run one cycle: feeds, classify, debate, decide, charts, alerts.

    Ctrl-C ends it within a second; what was reached is stored and shown.
    """
    settings = _resolved(options)
    if settings is None:
        return
    import json
    from pathlib import Path

    from pytest_tradeperf.pipeline.cycle import Cycle, summary_lines
    from pytest_tradeperf.pipeline.wiring import opened

    config = settings.config
    running: list[Cycle] = []

    async def main(listen: Callable[[], None]) -> None:
        async with opened(config) as parts:
            listen()
            running.append(
                Cycle(
                    parts,
                    config.tickers,
                    seconds=config.cycle_seconds,
                    feeds_seconds=config.feeds_seconds,
                    batch=config.llm_batch,
                    max_alerts=config.max_alerts,
                    output=Path(config.output),
                    progress=_progress(options),
                )
            )
            await running[0].run()

    was_interrupted = _run(main)
    if running:
        result = running[0].result()
        lines = [json.dumps(result.as_json(), indent=1)] if style == "json" else summary_lines(result)
        click.echo("\n".join(lines))
    if was_interrupted:
        _leave()


@click.command("morning")
@_shared
def morning(**options: Any) -> None:
    """Write the morning report: research, validation, decisions, sizes, tracking; Markdown and HTML."""
    settings = _resolved(options)
    if settings is None:
        return
    from pathlib import Path

    from pytest_tradeperf.pipeline.morning import Morning
    from pytest_tradeperf.pipeline.morning_report import write_report
    from pytest_tradeperf.pipeline.wiring import opened

    config = settings.config
    running: list[Morning] = []

    async def main(listen: Callable[[], None]) -> None:
        async with opened(config) as parts:
            listen()
            running.append(
                Morning(
                    parts,
                    config.tickers,
                    seconds=MORNING_SECONDS,
                    feeds_seconds=config.feeds_timeout,
                    batch=1,
                    progress=_progress(options),
                )
            )
            await running[0].run()

    was_interrupted = _run(main)
    if running:
        try:
            files = write_report(running[0].report(), Path(config.output))
        except OSError as error:
            raise click.ClickException(
                f"cannot write the report to {config.output!r}: {error.strerror}"
            ) from error
        click.echo("\n".join([*running[0].report().headline_lines(), *map(str, files)]))
    if was_interrupted:
        _leave()


def _leave() -> NoReturn:
    """End the process as interrupted, at once: everything is saved, closed and shown.

    The interpreter's own tidying would take half a second, and longer while a thread still loads matplotlib.
    """
    import os
    import sys

    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(INTERRUPTED)


def _resolved(options: dict[str, Any]) -> Resolved | None:
    """Return the configuration, or None after printing it was all that was asked for."""
    import os

    given = {
        name: options[name]
        for name in ("tickers", "llm_url", "llm_model", "source", "output")
        if options[name] is not None
    }
    for pair in options["pairs"]:
        name, equals, value = pair.partition("=")
        if not equals:
            # no more than a name: what follows may be a key
            start = re.match(r"[\w-]*", pair)
            raise click.UsageError(f"--set {start and start[0]!r} has no '=': write --set NAME=VALUE")
        given[name.strip().replace("-", "_")] = value
    try:
        settings = resolve(environment=os.environ, options=given, file=options["file"])
    except PipelineError as error:
        raise click.UsageError(str(error)) from error
    if options["show_config"]:
        click.echo(settings.as_toml())
        return None
    return settings


def _progress(options: dict[str, Any]) -> Callable[[str], object] | None:
    return None if options["quiet"] else lambda line: click.echo(line, err=True)


def _run(main: Callable[[Callable[[], None]], Coroutine[Any, Any, None]]) -> bool:
    """Run to the end, or to Ctrl-C or SIGTERM; return whether it was the latter. Errors are one line.

    From the moment ``main`` calls what it is given, a signal cancels it, so that it can save what it has.
    Before, Ctrl-C breaks into whatever is being loaded: a loop would hear it only when that is done.
    """
    import asyncio
    import contextlib
    import logging
    import signal

    # retries are counted and shown as what they lead to; without a handler each would be a bare line here
    logging.getLogger("stamina").addHandler(logging.NullHandler())

    async def supervised() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop() -> None:
            for number in numbers:
                loop.remove_signal_handler(number)  # a second Ctrl-C does not wait for the saving
            task.cancel()

        def listen() -> None:
            with contextlib.suppress(NotImplementedError):  # Windows has none, but KeyboardInterrupt
                for number in numbers:
                    loop.add_signal_handler(number, stop)

        numbers = (signal.SIGINT, signal.SIGTERM)
        with contextlib.suppress(ValueError):  # only the main thread hears signals
            signal.signal(signal.SIGINT, signal.default_int_handler)
        await main(listen)

    try:
        asyncio.run(supervised())
    except (KeyboardInterrupt, asyncio.CancelledError):
        return True
    except (PipelineError, OSError) as error:
        raise click.ClickException(str(error)) from error
    return False
