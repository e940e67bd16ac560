from __future__ import annotations

import numpy as np
import pytest

from pytest_tradeperf.pipeline.backtest import MovingAverageCross, sweep, walk_forward
from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.marketdata import load_bars

BARS = load_bars("GOOG")[:700]


def test_each_window_trades_the_best_of_the_bars_before_it() -> None:
    result = walk_forward(
        BARS,
        MovingAverageCross,
        train_bars=300,
        test_bars=100,
        metric="total_return",
        fast=[3, 6],
        slow=[12, 24],
    )
    assert [window.test for window in result.windows] == [(300, 400), (400, 500), (500, 600), (600, 700)]
    for window in result.windows:
        trained = sweep(BARS[slice(*window.train)], MovingAverageCross, fast=[3, 6], slow=[12, 24])
        assert window.parameters == trained.best("total_return")


def test_equity_goes_on_from_window_to_window() -> None:
    result = walk_forward(
        BARS,
        MovingAverageCross,
        train_bars=300,
        test_bars=100,
        metric="total_return",
        fast=[3],
        slow=[12, 24],
    )
    assert result.equity.size == 400
    ends = [window.result.final_equity for window in result.windows]
    starts = [window.result.settings.cash for window in result.windows]
    assert starts[1:] == ends[:-1]
    assert result.metrics.final_equity == ends[-1]
    assert result.metrics.n_trades == sum(window.result.n_trades for window in result.windows)


def test_the_future_does_not_change_earlier_windows() -> None:
    options = {
        "train_bars": 300,
        "test_bars": 100,
        "metric": "total_return",
        "fast": [3, 6],
        "slow": [12, 24],
    }
    whole = walk_forward(BARS, MovingAverageCross, **options)  # type: ignore[arg-type]
    short = walk_forward(BARS[:500], MovingAverageCross, **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(short.equity, whole.equity[:200])


@pytest.mark.parametrize(("train", "test"), [(1, 10), (10, 0), (600, 101)])
def test_stretches_that_do_not_fit_are_refused(train: int, test: int) -> None:
    with pytest.raises(SettingError, match="do not fit"):
        walk_forward(BARS, MovingAverageCross, train_bars=train, test_bars=test, fast=[3])
