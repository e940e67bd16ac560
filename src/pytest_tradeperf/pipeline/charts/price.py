"""Prices with indicators and the bars on which somebody bought or sold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_tradeperf.pipeline.charts.canvas import (
    DOWN,
    LINE,
    MUTED,
    UP,
    checked_series,
    drawable,
    label_dates,
    new_figure,
    set_legend,
    set_title,
    to_png,
)
from pytest_tradeperf.pipeline.charts.keys import chart_key
from pytest_tradeperf.pipeline.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from pytest_tradeperf.pipeline.marketdata import Bars

WIDTH_PX, HEIGHT_PX = 900, 500
# More candles than this are thinner than a pixel: the closes are drawn as a line.
MOST_CANDLES: Final = 300
LINE_COLOURS: Final = ("#e08214", "#8073ac", "#4d9221", "#d6604d")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalMark:
    """A bar on which something was bought or sold.

    Attributes
    ----------
    bar
        Place in the bars drawn.
    side
        ``"buy"`` or ``"sell"``.
    """

    bar: int
    side: Literal["buy", "sell"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriceChart:
    """Candles (a line where there are too many), volume, indicator lines and signals of one symbol.

    Attributes
    ----------
    bars
        At least one bar that is not missing.
    lines
        Indicators by name, each of shape (n_bars,); NaN is left out.
    marks
        Signals.
    title
        Instead of the symbol.
    """

    bars: Bars
    lines: Mapping[str, ArrayLike] = field(default_factory=dict)
    marks: Sequence[SignalMark] = ()
    title: str = ""

    @property
    def name(self) -> str:
        """What the chart is called in results and file names."""
        return f"price-{self.bars.symbol}"

    def key(self) -> str:
        """Return a digest of all that is drawn."""
        bars = self.bars
        columns = (bars.timestamps, bars.open, bars.high, bars.low, bars.close, bars.volume)
        marks = [(mark.bar, mark.side) for mark in self.marks]
        return chart_key(
            "price", (bars.symbol, self.title, tuple(self.lines), marks), columns, *self.lines.values()
        )

    def render(self) -> bytes:
        """Return the picture as PNG.

        Raises
        ------
        DataError
            Nothing to draw, a line of another length, a mark beyond the bars.
        """
        bars, symbol = self.bars, self.bars.symbol
        prices = {"close": bars.close, "open": bars.open, "high": bars.high, "low": bars.low}
        lines = {f"line {name}": values for name, values in self.lines.items()}
        times, columns = checked_series(symbol, bars.timestamps, **prices, **lines)
        for mark in self.marks:
            if mark.side not in {"buy", "sell"} or not 0 <= mark.bar < times.size:
                raise DataError(
                    f"chart of {symbol!r} has {mark!r}: expected buy or sell on bars 0 to {times.size - 1}"
                )
        figure = new_figure(WIDTH_PX, HEIGHT_PX)
        grid = figure.add_gridspec(
            2, 1, height_ratios=(4, 1), hspace=0.05, left=0.07, right=0.98, top=0.93, bottom=0.08
        )
        axes = figure.add_subplot(grid[0])
        volume_axes = figure.add_subplot(grid[1])
        if times.size > MOST_CANDLES:
            axes.plot(columns["close"], color=LINE, linewidth=1.0)
        else:
            _draw_candles(axes, columns)
        for place, name in enumerate(self.lines):
            colour = LINE_COLOURS[place % len(LINE_COLOURS)]
            label = drawable(name).lstrip("_") or "line"
            axes.plot(columns[f"line {name}"], color=colour, linewidth=1.0, label=label)
        if self.lines:
            set_legend(axes)
        _draw_marks(axes, columns, self.marks)
        set_title(axes, self.title or symbol)
        axes.grid(visible=True, color="#e5e5e5", linewidth=0.5)
        axes.set_xlim(-1, times.size)
        axes.tick_params(labelbottom=False, labelsize=8)
        _draw_volume(volume_axes, bars.volume)
        label_dates(volume_axes, times)
        return to_png(figure)


def _draw_candles(axes: Any, columns: Mapping[str, NDArray[np.float64]]) -> None:
    """Draw all wicks and bodies as two collections: one artist a candle would take ten times as long."""
    import numpy as np
    from matplotlib.collections import LineCollection

    places = np.flatnonzero(np.isfinite(columns["close"]))
    colours = [UP if rose else DOWN for rose in (columns["close"] >= columns["open"])[places].tolist()]
    width = 0.7 * (WIDTH_PX * 0.91) * 72 / 100 / max(columns["close"].size + 1, 20)
    for low, high, thickness in (("low", "high", min(1.0, width)), ("open", "close", width)):
        ends = np.stack([columns[low][places], columns[high][places]], axis=1)
        segments = np.stack([np.repeat(places[:, None], 2, axis=1), ends], axis=2)
        axes.add_collection(
            LineCollection(list(segments), colors=colours, linewidths=thickness, capstyle="butt")
        )
    axes.autoscale_view()


def _draw_marks(axes: Any, columns: Mapping[str, NDArray[np.float64]], marks: Sequence[SignalMark]) -> None:
    import numpy as np

    span = max(float(np.nanmax(columns["high"] - columns["low"])), 1e-9)
    for side, shape, colour, column, sign in (
        ("buy", "^", UP, "low", -1.0),
        ("sell", "v", DOWN, "high", 1.0),
    ):
        bars = [mark.bar for mark in marks if mark.side == side]
        if bars:
            axes.plot(
                bars,
                columns[column][bars] + sign * 0.4 * span,
                shape,
                color=colour,
                markersize=8,
                linestyle="none",
            )


def _draw_volume(axes: Any, volume: NDArray[np.float64]) -> None:
    import numpy as np

    if np.isfinite(volume).any():
        axes.fill_between(np.arange(volume.size), np.nan_to_num(volume), step="mid", color=MUTED, linewidth=0)
    axes.set_yticks([])
    axes.set_ylabel("volume", fontsize=8)
