"""The command ``tradeperf``: a list of commands, each loaded only when it is called."""

from importlib import import_module
from typing import Final

import click

from pytest_tradeperf import __version__
from pytest_tradeperf.errors import TradeperfError

COMMANDS: Final = {
    "explain": (
        "pytest_tradeperf.commands.explain:explain",
        "Say what was compared for a test, and why that verdict.",
    ),
    "backtest": ("pytest_tradeperf.pipeline.backtest.commands:backtest", "Run one strategy over one symbol."),
    "cycle": ("pytest_tradeperf.pipeline.commands:cycle", "Run one pass of the whole pipeline."),
    "feeds": (
        "pytest_tradeperf.pipeline.altdata.commands:feeds_command",
        "Fetch the alternative data of some tickers.",
    ),
    "imports": (
        "pytest_tradeperf.commands.imports:imports",
        "What importing a package costs, module by module.",
    ),
    "morning": ("pytest_tradeperf.pipeline.commands:morning", "Write the morning report."),
    "sweep": ("pytest_tradeperf.pipeline.backtest.commands:sweep", "Try a grid of strategy parameters."),
    "world": ("pytest_tradeperf.pipeline.world.commands:world_command", "Serve all sources on this machine."),
}
"""Name: (where the click command is, what it does). The texts stand here so that --help loads nothing."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, sorted."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command called ``cmd_name``."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tradeperf")
def tradeperf() -> None:
    """Measure, compare and explore; the gate itself is `pytest --perf-gate`."""


def main() -> None:
    """Run the command line; an error of ours is one line and exit code 2."""
    try:
        tradeperf(prog_name="tradeperf")
    except TradeperfError as error:
        click.echo(f"tradeperf: {error}", err=True)
        raise SystemExit(2) from error
