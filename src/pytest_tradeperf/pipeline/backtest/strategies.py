"""The strategies that come with the engine, and what any strategy must be able to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, HOLD, SELL, Side, codes_for, cross_signals
from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.features.indicators import checked_window, ema, highest, lowest, sma

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.crosses import Crosses
    from pytest_tradeperf.pipeline.marketdata.bars import Bars

AverageKind = Literal["sma", "ema"]


@runtime_checkable
class Strategy(Protocol):
    """Anything that answers one code a bar, each from that bar and earlier ones alone."""

    def signals(self, bars: Bars) -> NDArray[np.int8]:
        """Return HOLD, BUY, SELL or EXIT for every bar, decided on its close; int8, shape (n_bars,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingAverageCross:
    """Follow the fast average of the close over or under the slow one.

    Acts on two consecutive bars (at or below, then above), from the first pair of bars on which both averages
    exist. ``side="both"`` reverses from long to short; ``"long"`` and ``"short"`` leave the market instead.

    Raises
    ------
    SettingError
        A window below 1, fast not below slow, an unknown side or average.
    """

    fast: int = 10
    slow: int = 30
    average: AverageKind = "sma"
    side: Side = "long"

    def __post_init__(self) -> None:
        if checked_window(self.fast) >= checked_window(self.slow):
            raise SettingError(
                f"fast={self.fast} is not below slow={self.slow}: the fast window must be the shorter one"
            )
        if self.average not in get_args(AverageKind):
            raise SettingError(
                f"average is {self.average!r}: expected one of {', '.join(get_args(AverageKind))}"
            )
        codes_for(self.side)

    def signals(self, bars: Bars) -> NDArray[np.int8]:
        """Return the crosses as codes."""
        average = sma if self.average == "sma" else ema
        return cross_signals(average(bars.close, self.fast), average(bars.close, self.slow), self.side)

    @classmethod
    def signal_batch(
        cls, bars: Bars, columns: Mapping[str, Sequence[object]], *, fast_window: bool
    ) -> Crosses | None:
        """Return the codes of many parameter sets at once, of those that are valid; None if it cannot.

        Parameters
        ----------
        columns
            Values by parameter name, one a set; parameters left out have their defaults.
        fast_window
            See :class:`~pytest_tradeperf.pipeline.features.precomputed.Features`.
        """
        from pytest_tradeperf.pipeline.backtest.crosses import Crosses
        from pytest_tradeperf.pipeline.features.precomputed import Features

        base = MovingAverageCross()
        n_sets = len(next(iter(columns.values())))
        averages = set(columns.get("average", (base.average,)))
        sides = set(columns.get("side", (base.side,)))
        windows = [np.asarray(columns.get(name, [getattr(base, name)] * n_sets)) for name in ("fast", "slow")]
        is_known = set(columns) <= {"fast", "slow", "average", "side"} and len(averages) == len(sides) == 1
        # A class made from this one may give other signals.
        if (
            cls is not MovingAverageCross
            or not is_known
            or any(column.dtype.kind != "i" for column in windows)
        ):
            return None
        places = np.flatnonzero((windows[0] >= 1) & (windows[0] < windows[1]))
        fast, slow = (column[places] for column in windows)
        try:
            checked = MovingAverageCross(average=averages.pop(), side=sides.pop())  # type: ignore[arg-type]
        except SettingError:
            return None
        needed = np.union1d(fast, slow).tolist() if checked.average == "sma" else []
        features = Features.of(bars, sma_windows=needed, fast_window=fast_window)
        return Crosses.of(features, fast, slow, average=checked.average, side=checked.side, places=places)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakout:
    """Enter on a close beyond the extreme of ``entry`` bars before it; leave beyond that of ``exit`` bars.

    The channel rule of Richard Donchian: long above the highest high of the last ``entry`` bars (this one not
    counted), out below the lowest low of the last ``exit`` bars; the mirror image for shorts. ``side="both"``
    is always in the market once the first channel broke: it reverses on the other entry and has no use for
    ``exit``.

    Raises
    ------
    SettingError
        A window below 1 or an unknown side.
    """

    entry: int = 20
    exit: int = 10
    side: Side = "long"

    def __post_init__(self) -> None:
        checked_window(self.entry)
        checked_window(self.exit)
        codes_for(self.side)

    def signals(self, bars: Bars) -> NDArray[np.int8]:
        """Return entries and exits as codes."""
        codes = np.full(len(bars), HOLD, dtype=np.int8)
        today, acting = bars.close[1:], codes[1:]
        if self.side == "long":
            acting[today < lowest(bars.low, self.exit)[:-1]] = EXIT
        if self.side == "short":
            acting[today > highest(bars.high, self.exit)[:-1]] = EXIT
        if self.side != "short":
            acting[today > highest(bars.high, self.entry)[:-1]] = BUY
        if self.side != "long":
            acting[today < lowest(bars.low, self.entry)[:-1]] = SELL
        return codes
