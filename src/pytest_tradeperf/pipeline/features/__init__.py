"""Features computed from bars: indicators now, each a plain function over arrays."""

from pytest_tradeperf.pipeline.features.indicators import (
    BollingerBands,
    atr,
    bollinger,
    ema,
    highest,
    lowest,
    rsi,
    sma,
    sma_table,
    true_range,
)

__all__ = [
    "BollingerBands",
    "atr",
    "bollinger",
    "ema",
    "highest",
    "lowest",
    "rsi",
    "sma",
    "sma_table",
    "true_range",
]
