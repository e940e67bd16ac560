from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner

from pytest_tradeperf.pipeline.backtest.commands import backtest


def test_the_table_names_every_headline_figure() -> None:
    answer = CliRunner().invoke(backtest, ["--symbol", "GOOG", "--strategy", "ma-cross"])
    assert answer.exit_code == 0, answer.output
    for word in ("GOOG", "final equity", "total return", "Sharpe", "max drawdown", "trades"):
        assert word in answer.output


def test_an_unknown_symbol_is_one_line_without_traceback() -> None:
    answer = CliRunner().invoke(backtest, ["--symbol", "TSLA"])
    assert answer.exit_code == 1
    assert answer.output.startswith("Error: no bundled bars for 'TSLA'")
    assert "Traceback" not in answer.output


def test_importing_the_commands_loads_nothing_heavy() -> None:
    code = (
        "import sys, pytest_tradeperf.pipeline.backtest.commands as c\n"
        "print(sorted({'numpy', 'pandas', 'numba', 'matplotlib', 'rich', 'sqlalchemy'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
