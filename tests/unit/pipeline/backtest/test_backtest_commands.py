from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from test_backtest_identity import needs_numba

from pytest_tradeperf.pipeline.backtest import Costs, MovingAverageCross, Stops, run_backtest
from pytest_tradeperf.pipeline.backtest.commands import backtest, sweep
from pytest_tradeperf.pipeline.backtest.metrics import METRIC_NAMES
from pytest_tradeperf.pipeline.features import precomputed
from pytest_tradeperf.pipeline.marketdata import frame_from_bars, load_bars

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tradeperf.pipeline.marketdata import Bars


def run(*arguments: str, command: Any = backtest) -> Result:
    return CliRunner().invoke(command, list(arguments))


def record(*arguments: str) -> dict[str, Any]:
    answer = run(*arguments, "--format", "json")
    assert answer.exit_code == 0, answer.output
    parsed: dict[str, Any] = json.loads(answer.output)
    return parsed


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "fb.csv"
    frame_from_bars(load_bars("FB")).to_csv(path)
    return str(path)


def test_the_table_names_every_figure_with_its_unit() -> None:
    answer = run("--symbol", "GOOG", "--strategy", "ma-cross")
    assert answer.exit_code == 0, answer.output
    result = run_backtest(load_bars("GOOG"), MovingAverageCross())
    lines = {line[:22].strip(): line[22:].strip() for line in answer.output.splitlines()}
    assert lines["final equity"] == f"{result.final_equity:,.2f}"
    assert lines["total return"] == f"{result.total_return:.2%}"
    assert lines["Sharpe (arithmetic)"] == f"{result.sharpe:.4f}"
    assert lines["max drawdown"] == f"{result.max_drawdown:.2%}"
    assert lines["n trades"] == str(result.n_trades)


def test_json_has_every_metric_under_its_field_name(file: str) -> None:
    answer = record(
        "--data", file, "--strategy", "ma-cross", "--param", "fast=10", "--param", "slow=30",
        "--side", "both", "--cash", "10000", "--fees-bps", "0",
    )  # fmt: skip
    result = run_backtest(load_bars("FB"), MovingAverageCross(fast=10, slow=30, side="both"))
    assert set(METRIC_NAMES) <= set(answer)
    for name in METRIC_NAMES:
        assert answer[name] == getattr(result.metrics, name), name
    assert isinstance(answer["n_trades"], int)


def test_json_writes_null_where_a_metric_has_no_value(file: str) -> None:
    answer = record("--data", file, "--cash", "1")  # buys no share
    assert (answer["n_trades"], answer["sharpe"], answer["win_rate"]) == (0, None, None)


def test_every_cost_and_stop_option_reaches_the_run(file: str) -> None:
    answer = record(
        "--data", file, "--fees-bps", "5", "--fee-fixed", "1", "--slippage-bps", "3", "--spread-bps", "2",
        "--stop-loss", "0.05", "--take-profit", "0.2", "--trailing", "0.1", "--fractional-shares", "--close-final",
    )  # fmt: skip
    result = run_backtest(
        load_bars("FB"),
        MovingAverageCross(),
        costs=Costs(fees_bps=5, fee_fixed=1, slippage_bps=3, spread_bps=2),
        stops=Stops(stop_loss=0.05, take_profit=0.2, trailing=0.1),
        whole_shares=False,
        close_final=True,
    )
    assert answer["final_equity"] == result.final_equity
    assert answer["engine"] == "reference"


@pytest.mark.parametrize(
    "flags",
    [["--no-precompute-features"], ["--no-precompute-features", "--no-fast-window"], ["--no-fast-window"]],
)
def test_switching_fast_machinery_off_does_not_move_the_answer(file: str, flags: list[str]) -> None:
    assert record("--data", file, *flags)["digest"] == record("--data", file)["digest"]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Bars]:
    """The bars of every call of the strategy."""
    seen: list[Bars] = []
    original = MovingAverageCross.signals

    def signals(self: MovingAverageCross, bars: Bars) -> Any:
        seen.append(bars)
        return original(self, bars)

    monkeypatch.setattr(MovingAverageCross, "signals", signals)
    return seen


@pytest.mark.parametrize(
    ("flags", "is_stepwise", "is_view"),
    [
        ([], False, True),
        (["--no-fast-window"], False, False),
        (["--no-precompute-features"], True, True),
        (["--no-precompute-features", "--no-fast-window"], True, False),
    ],
)
def test_flags_of_a_backtest_switch_what_the_strategy_is_given(
    given: list[Bars], monkeypatch: pytest.MonkeyPatch, flags: list[str], is_stepwise: bool, is_view: bool
) -> None:
    bars = load_bars("FB")
    monkeypatch.setattr("pytest_tradeperf.pipeline.marketdata.load_bars", lambda symbol: bars)
    assert record("--symbol", "FB", *flags)["n_bars"] == len(bars)
    assert len(given) == (len(bars) if is_stepwise else 1)
    assert {np.shares_memory(some.close, bars.close) for some in given} == {is_view}


def test_flags_of_a_sweep_switch_a_path_and_do_not_move_the_answer(
    given: list[Bars], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    for name in ("sma_table", "sma_of_windows"):
        original = getattr(precomputed, name)

        def spied(*arguments: Any, name: str = name, original: Any = original) -> Any:
            taken.append(name)
            return original(*arguments)

        monkeypatch.setattr(precomputed, name, spied)
    grid = ["--symbol", "FB", "--param", "fast=3:5", "--param", "slow=10,20", "--format", "csv"]
    answers, paths = [], []
    for flags in (
        [],
        ["--no-fast-window"],
        ["--no-precompute-features"],
        ["--no-precompute-features", "--no-fast-window"],
    ):
        taken.clear()
        given.clear()
        answers.append(run(*grid, *flags, command=sweep).output)
        paths.append((*dict.fromkeys(taken), len(given)))
    assert paths == [("sma_table", 0), ("sma_of_windows", 0), (6,), (6,)]
    assert answers[0].count("\n") == 7
    assert len(set(answers)) == 1


def test_a_sweep_can_be_kept_and_read_again(tmp_path: Path) -> None:
    arguments = ["--symbol", "FB", "--result-folder", str(tmp_path / "kept")]
    fresh = run(*arguments, command=sweep).output
    assert not (tmp_path / "kept").exists()
    outputs = [run(*arguments, "--result-cache", command=sweep).output for _ in range(2)]
    assert outputs == [fresh, fresh + "read from the result cache\n"]


@pytest.mark.parametrize("engine", ["reference", "lanes", pytest.param("compiled", marks=needs_numba)])
def test_every_engine_can_be_asked_for(file: str, engine: str) -> None:
    answer = record("--data", file, "--engine", engine)
    assert (answer["engine"], answer["digest"]) == (engine, record("--data", file)["digest"])


def test_compare_engines_prints_times_and_that_results_are_identical(file: str) -> None:
    answer = run("--data", file, "--compare-engines")
    assert answer.exit_code == 0, answer.output
    assert "results identical: yes" in answer.output
    assert {"engine", "reference", "lanes"} <= {line.split(" ")[0] for line in answer.output.splitlines()}
    assert (
        json.loads(run("--data", file, "--compare-engines", "--format", "json").output)["identical"] is True
    )


def test_a_longer_timeframe_resamples_and_annualises(file: str) -> None:
    answer = record("--data", file, "--timeframe", "1w", "--param", "slow=20")
    assert (answer["timeframe"], answer["periods_per_year"], answer["n_bars"]) == ("1w stocks", 52.0, 42)


def test_a_calendar_can_be_said(file: str) -> None:
    assert record("--data", file, "--calendar", "continuous")["periods_per_year"] == 365.0


def test_alpha_and_beta_need_an_index() -> None:
    answer = record("--symbol", "GOOG", "--reference-index", "GOOG")
    assert 0.0 < answer["beta"] < 1.0
    assert "beta" not in record("--symbol", "GOOG")


def test_csv_trades_and_output_files_are_written(file: str, tmp_path: Path) -> None:
    out, trades = tmp_path / "out.csv", tmp_path / "trades.csv"
    answer = run("--data", file, "--format", "csv", "--output", str(out), "--trades", str(trades))
    assert (answer.exit_code, answer.output) == (0, "")
    table = dict(csv.reader(io.StringIO(out.read_text())))
    result = run_backtest(load_bars("FB"), MovingAverageCross())
    assert float(table["final_equity"]) == result.final_equity
    assert len(trades.read_text().splitlines()) == 1 + len(result.trades)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--symbol", "TSLA"], 1, "no bundled bars for 'TSLA'"),
        (["--cash", "0"], 1, "cash is 0.0: expected a finite number and above 0"),
        (["--fees-bps", "inf"], 1, "fees_bps is inf"),
        (["--data", "nowhere.csv"], 1, "no file 'nowhere.csv'"),
        (["--param", "fast"], 2, "'fast': expected NAME=VALUE with one of fast, slow, average"),
        (["--param", "speed=3"], 2, "expected NAME=VALUE with one of fast"),
        (["--param", "fast=3.5"], 2, "fast='3.5': expected a whole number"),
        (["--param", "fast=50"], 1, "fast=50 is not below slow=30"),
        (["--param", "average=hull"], 1, "average is 'hull'"),
        (["--timeframe", "soon"], 1, "timeframe 'soon' cannot be read"),
        (["--timeframe", "1h"], 1, "cannot become 1h"),
        (["--engine", "lanes", "--stop-loss", "0.1"], 1, "engine 'lanes' does not support"),
        (["--output", "/nowhere/x"], 1, "No such file"),
    ],
)
def test_wrong_input_is_one_clear_line(arguments: list[str], exit_code: int, message: str) -> None:
    answer = run(*arguments)
    assert answer.exit_code == exit_code
    assert message in answer.output
    assert "Traceback" not in answer.output


def test_a_checkpoint_is_not_believed_under_another_calendar(tmp_path: Path) -> None:
    arguments = ("--symbol", "FB", "--param", "fast=3,4", "--checkpoint", str(tmp_path / "c.npz"))
    assert run(*arguments, command=sweep).exit_code == 0
    other = run(*arguments, "--calendar", "continuous", command=sweep)
    assert other.exit_code == 1
    assert "belongs to a sweep of other bars, timeframe" in other.output


def test_a_sweep_ranks_combinations() -> None:
    answer = run(
        "--symbol",
        "FB",
        "--param",
        "fast=3:5",
        "--param",
        "slow=10,20",
        "--metric",
        "total_return",
        "--top",
        "2",
        command=sweep,
    )
    assert answer.exit_code == 0, answer.output
    lines = answer.output.splitlines()
    assert lines[0].split() == ["fast", "slow", "side", "total_return", "sharpe", "max_drawdown", "n_trades"]
    assert lines[3] == "6 of 6 combinations on lanes"


def test_a_sweep_as_csv_and_json_has_all_rows_and_metrics() -> None:
    rows = list(
        csv.DictReader(
            io.StringIO(
                run("--symbol", "FB", "--param", "fast=3,40", "--format", "csv", command=sweep).output
            )
        )
    )
    assert len(rows) == 2
    assert rows[1]["error"].startswith("SettingError")
    answer = json.loads(
        run("--symbol", "FB", "--param", "fast=3,40", "--format", "json", command=sweep).output
    )
    assert answer[1]["sharpe"] is None
    assert set(METRIC_NAMES) <= set(answer[0])


def test_a_sweep_in_processes_gives_the_same_rows() -> None:
    arguments = ["--symbol", "FB", "--param", "fast=3:6", "--param", "slow=10:12", "--format", "csv"]
    assert run(*arguments, "--workers", "2", command=sweep).output == run(*arguments, command=sweep).output


@pytest.mark.parametrize("text", ["fast=1:2:3:4", "fast=1:5:0", "fast=a:b"])
def test_wrong_ranges_are_one_clear_line(text: str) -> None:
    answer = run("--symbol", "FB", "--param", text, command=sweep)
    assert answer.exit_code == 2
    assert "Error: Invalid value for --param" in answer.output


def test_importing_the_commands_loads_nothing_heavy() -> None:
    code = (
        "import sys, pytest_tradeperf.pipeline.backtest.commands as c\n"
        "print(sorted({'numpy', 'pandas', 'numba', 'matplotlib', 'rich', 'sqlalchemy'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
