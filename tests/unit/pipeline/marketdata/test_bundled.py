from __future__ import annotations

import importlib.resources

import numpy as np
import pytest

from pytest_tradeperf.pipeline.errors import DataError
from pytest_tradeperf.pipeline.marketdata import BUNDLED_SYMBOLS, load_bars


@pytest.mark.parametrize(
    ("symbol", "n_bars"), [("AAPL", 3270), ("FB", 196), ("GOOG", 2148), ("IBM", 3270), ("MSFT", 3270)]
)
def test_every_bundled_symbol_loads_as_daily_stock_bars(symbol: str, n_bars: int) -> None:
    bars = load_bars(symbol.lower())
    assert (bars.symbol, len(bars), str(bars.timeframe)) == (symbol, n_bars, "1d stocks")
    assert str(bars.timestamps[-1])[:10] == "2013-03-01"


def test_close_is_the_adjusted_close_of_the_source() -> None:
    # First and last adjusted close of AAPL in the source file.
    close = load_bars("AAPL").close
    assert close[0] == pytest.approx(4.186662803811, abs=5e-7)
    assert close[-1] == pytest.approx(56.137353095488, abs=5e-7)


def test_a_real_crash_is_kept_and_splits_are_gone() -> None:
    bars = load_bars("AAPL")
    change = bars.close[1:] / bars.close[:-1] - 1.0
    assert str(bars.timestamps[1 + int(change.argmin())])[:10] == "2000-09-29"
    assert change.min() == pytest.approx(-0.519, abs=1e-3)
    assert np.sort(change)[1] > -0.25  # the splits of 2000 and 2005 would be -50 %


def test_an_unknown_symbol_names_those_that_exist() -> None:
    with pytest.raises(DataError, match="'TSLA': expected one of AAPL, FB, GOOG, IBM, MSFT"):
        load_bars("TSLA")
    assert len(BUNDLED_SYMBOLS) == 5


def test_the_bundled_data_stays_below_400_kb() -> None:
    folder = importlib.resources.files("pytest_tradeperf.pipeline.marketdata") / "data"
    assert sum(len(item.read_bytes()) for item in folder.iterdir()) < 400_000
