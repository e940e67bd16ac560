import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from pytest_tradeperf import __version__, cli
from pytest_tradeperf.errors import TradeperfError


def test_help_lists_every_command_without_loading_it() -> None:
    code = (
        "import sys\nfrom pytest_tradeperf.cli import tradeperf\n"
        "tradeperf(['--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'pandas', 'sqlalchemy', 'jinja2', 'pytest', 'pytest_tradeperf.pipeline'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    assert all(name in done.stdout for name in cli.COMMANDS)


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(cli.tradeperf, ["--version"]).output == f"tradeperf, version {__version__}\n"


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_help_of_its_own(name: str) -> None:
    result = CliRunner().invoke(cli.tradeperf, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: tradeperf {name}")


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli.tradeperf, ["frobnicate"])
    assert result.exit_code == 2
    assert "No such command 'frobnicate'" in result.output


def test_an_error_of_ours_is_one_line_and_exit_code_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def broken() -> None:
        raise TradeperfError("no such file: name another")

    monkeypatch.setattr(cli, "tradeperf", lambda **_: broken([], standalone_mode=False))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "tradeperf: no such file: name another\n"
