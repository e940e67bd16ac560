"""How far a metric could have been off by luck: block bootstrap of the returns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.backtest.settings import checked_number
from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

N_RESAMPLES = 2_000
# Resamples drawn at once: bounds memory at about 8 MB for 1,000 bars.
CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A metric's value and the interval around it, with the confidence level and the block length used."""

    metric: str
    value: float
    low: float
    high: float
    level: float
    block: int


def bootstrap_interval(
    returns: NDArray[np.float64],
    metric: str,
    *,
    periods_per_year: float,
    level: float = 0.95,
    block: int | None = None,
    seed: int = 0,
) -> Interval:
    """Return a percentile interval from a circular block bootstrap (Politis and Romano, 1992).

    Parameters
    ----------
    returns
        Array of shape (n_returns,), bar to bar.
    metric
        ``sharpe``, ``total_return``, ``volatility`` or ``max_drawdown``.
    level
        Confidence level in (0, 1).
    block
        Bars kept together, so that short-term dependence survives; by default the cube root of n, rounded up.

    Raises
    ------
    SettingError
        Unknown metric, level or block out of range, fewer than two returns.
    """
    if metric not in _STATISTICS:
        raise SettingError(f"no bootstrap for {metric!r}: expected one of {', '.join(_STATISTICS)}")
    size = returns.size
    if size < 2:  # noqa: PLR2004 - a deviation needs two
        raise SettingError(f"{size} returns are too few for an interval: expected at least 2")
    level = checked_number("level", level, above=0.0, below=1.0)
    length = math.ceil(size ** (1 / 3)) if block is None else block
    if not 1 <= length <= size:
        raise SettingError(f"block is {block!r}: expected 1 to {size} bars")
    statistic = _STATISTICS[metric]
    generator = np.random.default_rng(seed)
    n_blocks = math.ceil(size / length)
    offsets = np.arange(length)
    drawn = []
    for start in range(0, N_RESAMPLES, CHUNK):
        count = min(CHUNK, N_RESAMPLES - start)
        rows = generator.integers(0, size, size=(count, n_blocks, 1)) + offsets
        sample = returns[(rows % size).reshape(count, -1)[:, :size]]
        drawn.append(statistic(sample, periods_per_year))
    tail = (1.0 - level) / 2.0
    low, high = np.nanquantile(np.concatenate(drawn), [tail, 1.0 - tail])
    value = float(statistic(returns[np.newaxis, :], periods_per_year)[0])
    return Interval(metric=metric, value=value, low=float(low), high=float(high), level=level, block=length)


def _sharpe(sample: NDArray[np.float64], periods: float) -> NDArray[np.float64]:
    deviation = sample.std(axis=1, ddof=1)
    safe = np.where(deviation > 0.0, deviation, np.nan)
    return np.asarray(sample.mean(axis=1) / safe * math.sqrt(periods), dtype=np.float64)


def _volatility(sample: NDArray[np.float64], periods: float) -> NDArray[np.float64]:
    return np.asarray(sample.std(axis=1, ddof=1) * math.sqrt(periods), dtype=np.float64)


def _total_return(sample: NDArray[np.float64], _periods: float) -> NDArray[np.float64]:
    return np.asarray(np.prod(1.0 + sample, axis=1) - 1.0, dtype=np.float64)


def _max_drawdown(sample: NDArray[np.float64], _periods: float) -> NDArray[np.float64]:
    path = np.cumprod(1.0 + sample, axis=1)
    peak = np.maximum(np.maximum.accumulate(path, axis=1), 1.0)
    return np.asarray((path / peak - 1.0).min(axis=1), dtype=np.float64)


_STATISTICS: dict[str, Callable[[NDArray[np.float64], float], NDArray[np.float64]]] = {
    "sharpe": _sharpe,
    "total_return": _total_return,
    "volatility": _volatility,
    "max_drawdown": _max_drawdown,
}
