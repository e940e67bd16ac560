"""Indicators over real bars: several callables in one test, each under its own name."""

import pytest

from pytest_tradeperf.pipeline.features import atr, bollinger, ema, rsi, sma
from pytest_tradeperf.pipeline.marketdata import load_bars


@pytest.mark.perf_budget(threshold="5%", limits={"sma.wall": "5 ms", "rsi.wall": "50 ms"})
def test_indicators(perf, goog):
    perf.digest("sma", perf.named("sma")(sma, goog.close, 20))
    perf.digest("ema", perf.named("ema")(ema, goog.close, 20))
    perf.digest("rsi", perf.named("rsi")(rsi, goog.close, 14))
    perf.digest("atr", perf.named("atr")(atr, goog.high, goog.low, goog.close, 14))
    perf.digest("bollinger", perf.named("bollinger")(bollinger, goog.close, 20))


@pytest.mark.perf_budget(wall="1 s", threshold="5%")
def test_loading_bars(perf):
    bars = perf(load_bars, "GOOG")
    perf.record("bars", len(bars), better="same")
    perf.digest("close", bars.close)
