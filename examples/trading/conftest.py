"""Real bars, loaded once for the whole suite."""

import pytest

from pytest_tradeperf.pipeline.marketdata import Bars, load_bars

SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")


@pytest.fixture(scope="session")
def goog() -> Bars:
    return load_bars("GOOG")


@pytest.fixture(scope="session")
def all_bars() -> dict[str, Bars]:
    return {symbol: load_bars(symbol) for symbol in SYMBOLS}
