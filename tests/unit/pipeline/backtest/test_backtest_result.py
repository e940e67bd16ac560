from __future__ import annotations

import math
from pathlib import Path  # noqa: TC003 - pytest reads it

import numpy as np
import pytest
from backtest_worlds import Scripted, bars_of

from pytest_tradeperf.pipeline.backtest import BacktestResult, MovingAverageCross, run_backtest, sweep
from pytest_tradeperf.pipeline.backtest.bootstrap import bootstrap_interval
from pytest_tradeperf.pipeline.backtest.metrics import METRIC_NAMES
from pytest_tradeperf.pipeline.backtest.plots import sweep_figure
from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, HOLD
from pytest_tradeperf.pipeline.errors import DataError, MissingExtraError, SettingError
from pytest_tradeperf.pipeline.marketdata import load_bars


@pytest.fixture(scope="module")
def worked() -> BacktestResult:
    """Three trades on 1000: +100 over 1 bar, -55 over 2 bars, 0 over 1 bar; fees none."""
    opens = [10.0, 10, 11, 10, 10, 9.5, 9.5, 9.5, 9.5]
    codes = (BUY, EXIT, BUY, HOLD, EXIT, BUY, EXIT, HOLD, HOLD)
    return run_backtest(bars_of(opens), Scripted(codes), cash=1000.0)


def test_trade_metrics_of_a_worked_example(worked: BacktestResult) -> None:
    metrics = worked.metrics
    assert [trade.profit for trade in worked.trades] == [100.0, -55.0, 0.0]
    assert (metrics.n_trades, metrics.n_open_trades) == (3, 0)
    assert metrics.win_rate == pytest.approx(1 / 3)
    assert metrics.profit_factor == pytest.approx(100 / 55)
    assert metrics.expectancy == pytest.approx(15.0)
    assert (metrics.average_win, metrics.average_loss) == (100.0, -27.5)
    assert metrics.payoff_ratio == pytest.approx(100 / 27.5)
    assert metrics.kelly == pytest.approx(1 / 3 - (2 / 3) / (100 / 27.5))
    assert metrics.sqn == pytest.approx(math.sqrt(3) * 15.0 / np.std([100, -55, 0], ddof=1))
    assert metrics.best_trade_return == pytest.approx(0.1)
    assert metrics.worst_trade_return == pytest.approx(-0.05)
    assert metrics.average_trade_return == pytest.approx(0.05 / 3)
    assert metrics.average_trade_bars == pytest.approx(4 / 3)
    assert metrics.longest_trade_bars == 2
    assert metrics.exposure == pytest.approx(4 / 9)


def test_curve_metrics_of_a_worked_example(worked: BacktestResult) -> None:
    metrics, equity = worked.metrics, worked.equity
    returns = equity[1:] / equity[:-1] - 1.0
    periods = worked.timeframe.periods_per_year
    assert worked.final_equity == 1045.0
    assert metrics.total_return == pytest.approx(0.045)
    assert metrics.volatility == pytest.approx(returns.std(ddof=1) * math.sqrt(periods))
    assert metrics.cagr == pytest.approx(1.045 ** (periods / 8) - 1)
    assert metrics.sharpe_geometric == pytest.approx(metrics.cagr / metrics.volatility)
    assert metrics.max_drawdown == pytest.approx(1045 / 1100 - 1)
    assert metrics.calmar == pytest.approx(metrics.cagr / (1 - 1045 / 1100))
    assert metrics.recovery_factor == pytest.approx(0.045 / (1 - 1045 / 1100))
    assert metrics.max_drawdown_bars == 4
    assert metrics.best_bar_return == pytest.approx(0.1)
    assert metrics.worst_bar_return == pytest.approx(1045 / 1100 - 1)
    traded = sum(abs(trade.shares) * (trade.entry_price + trade.exit_price) for trade in worked.trades)
    assert metrics.turnover == pytest.approx(traded / 1022.5 * periods / 8)


def test_metrics_without_value_are_nan() -> None:
    metrics = run_backtest(bars_of([10.0, 10, 10]), Scripted((0, 0, 0))).metrics
    for name in (
        "sharpe",
        "sortino",
        "calmar",
        "win_rate",
        "profit_factor",
        "sqn",
        "kelly",
        "best_trade_return",
    ):
        assert math.isnan(getattr(metrics, name)), name
    assert (metrics.max_drawdown, metrics.exposure, metrics.fees_paid) == (0.0, 0.0, 0.0)


def test_positions_returns_and_drawdown_follow_from_the_run(worked: BacktestResult) -> None:
    assert worked.positions[:, 0].tolist() == [0, 100, 0, 110, 110, 0, 110, 0, 0]
    assert worked.returns.shape == (8,)
    assert worked.drawdown.min() == worked.max_drawdown


def test_frames_carry_time_equity_and_trades(worked: BacktestResult) -> None:
    frame, trades = worked.to_frame(), worked.trades_frame()
    assert frame.columns.tolist() == ["equity", "drawdown", "position_X"]
    assert str(frame.index[0])[:10] == "2024-01-01"
    assert trades["profit"].tolist() == [100.0, -55.0, 0.0]


def test_the_digest_changes_with_one_trade(worked: BacktestResult) -> None:
    other = run_backtest(bars_of([10.0, 10, 11]), Scripted((BUY, EXIT, HOLD)), cash=1000.0)
    same = run_backtest(bars_of([10.0, 10, 11]), Scripted((BUY, EXIT, HOLD)), cash=1000.0)
    assert other.digest == same.digest != worked.digest


def test_the_record_has_all_metrics_and_nothing_that_json_lacks(worked: BacktestResult) -> None:
    record = worked.as_record()
    assert set(METRIC_NAMES) <= set(record)
    assert all(
        value is None or not isinstance(value, float) or math.isfinite(value) for value in record.values()
    )


def test_alpha_and_beta_of_the_index_itself_are_zero_and_one() -> None:
    bars = load_bars("FB")
    codes = (BUY, *(HOLD,) * (len(bars) - 1))
    result = run_backtest(bars, Scripted(codes), whole_shares=False, fill="same_close")
    fit = result.fit(bars)
    assert fit.beta == pytest.approx(1.0)
    assert fit.alpha == pytest.approx(0.0, abs=1e-9)
    assert fit.correlation == pytest.approx(1.0)


def test_an_index_that_shares_no_bars_or_never_moves_is_refused(worked: BacktestResult) -> None:
    with pytest.raises(DataError, match="index FB shares 0 bars with the run"):
        worked.fit(load_bars("FB"))
    with pytest.raises(DataError, match="index X never moves"):
        worked.fit(bars_of([10.0] * 9))


def test_a_bootstrap_interval_surrounds_its_value_and_is_reproducible() -> None:
    result = run_backtest(load_bars("GOOG"), MovingAverageCross())
    first, again = result.interval("sharpe", seed=3), result.interval("sharpe", seed=3)
    assert first == again
    assert first.low < result.sharpe < first.high
    assert result.interval("sharpe", level=0.5).low > first.low


@pytest.mark.parametrize("metric", ["sharpe", "total_return", "volatility", "max_drawdown"])
def test_every_bootstrap_metric_equals_the_runs(metric: str) -> None:
    result = run_backtest(load_bars("FB"), MovingAverageCross())
    assert result.interval(metric).value == pytest.approx(getattr(result.metrics, metric), rel=1e-9)


def test_bootstrap_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(60):
        sample = random.normal(0.001, 0.01, 120)
        interval = bootstrap_interval(sample, "sharpe", periods_per_year=252.0, level=0.9)
        hits += interval.low <= 0.1 * math.sqrt(252.0) <= interval.high
    assert 44 <= hits <= 60  # 90 % of 60 is 54, binomial sd 2.3; blocks and few returns cost some coverage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "luck"}, "no bootstrap for 'luck'"),
        ({"level": 1.0}, "level is 1.0"),
        ({"block": 0}, "block is 0: expected 1 to 5"),
        ({"returns": np.zeros(1)}, "1 returns are too few"),
    ],
)
def test_bootstraps_that_cannot_be_are_refused(arguments: dict[str, object], message: str) -> None:
    options = {"returns": np.zeros(5), "metric": "sharpe", "periods_per_year": 252.0} | arguments
    with pytest.raises(SettingError, match=message):
        bootstrap_interval(**options)  # type: ignore[arg-type]


def test_plots_are_written_as_images(tmp_path: Path, worked: BacktestResult) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    worked.plot(tmp_path / "run.png")
    swept = sweep(load_bars("FB"), MovingAverageCross, fast=[3, 5], slow=[10, 20])
    sweep_figure(swept, "sharpe", tmp_path / "map.svg")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "map.svg").read_text()


def test_plots_without_matplotlib_name_the_extra(
    worked: BacktestResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pytest-tradeperf\[charts\]"):
        worked.plot()


def test_the_compiled_engine_without_numba_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pytest_tradeperf.pipeline.backtest.kernel_many", None)
    monkeypatch.delattr("pytest_tradeperf.pipeline.backtest.kernel_many", raising=False)
    with pytest.raises(MissingExtraError, match=r"pytest-tradeperf\[compiled\]"):
        run_backtest(bars_of([10.0, 11.0]), Scripted((0, 0)), engine="compiled")
