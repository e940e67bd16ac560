"""Small worlds for the engine's tests: bars from a few numbers, and a strategy that says what it is told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_tradeperf.pipeline.marketdata import Bars

NAN = float("nan")


def bars_of(
    opens: list[float], closes: list[float] | None = None, *, symbol: str = "X", spread: float = 0.0
) -> Bars:
    """Return daily bars whose high and low are the extremes of open and close, widened by ``spread``."""
    close = np.array(opens if closes is None else closes, dtype=float)
    start = np.array(opens, dtype=float)
    days = np.datetime64("2024-01-01") + np.arange(start.size)
    return Bars(
        symbol=symbol,
        timestamps=days.astype("datetime64[ns]"),
        open=start,
        high=np.maximum(start, close) + spread,
        low=np.minimum(start, close) - spread,
        close=close,
        volume=np.where(np.isnan(start), NAN, 100.0),
    )


@dataclass(frozen=True)
class Scripted:
    """Answers the codes it was given."""

    codes: tuple[int, ...]

    def signals(self, bars: Bars) -> np.ndarray:
        return np.array(self.codes, dtype=np.int8)
