"""The equity curve of a portfolio, its drawdown, and what it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_tradeperf.pipeline.charts.canvas import (
    DOWN,
    LINE,
    MUTED,
    checked_series,
    label_dates,
    new_figure,
    set_legend,
    set_title,
    to_png,
)
from pytest_tradeperf.pipeline.charts.keys import chart_key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

WIDTH_PX, HEIGHT_PX = 900, 450
# More points than pixels tell nothing: a longer curve is thinned to the lowest and highest of each part.
MOST_POINTS: Final = 4_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PortfolioChart:
    """Equity above, drawdown below.

    Attributes
    ----------
    timestamps, equity
        Shape (n_bars,), at least one bar.
    reference
        Equity of the reference index, scaled here to start with the portfolio; None for none.
    title
        Above the curve.
    """

    timestamps: ArrayLike
    equity: ArrayLike
    reference: ArrayLike | None = None
    title: str = "Portfolio"

    @property
    def name(self) -> str:
        """What the chart is called in results and file names."""
        return f"portfolio-{self.title}"

    def key(self) -> str:
        """Return a digest of all that is drawn."""
        arrays = (self.timestamps, self.equity) if self.reference is None else (
            self.timestamps, self.equity, self.reference
        )  # fmt: skip
        return chart_key("portfolio", self.title, *arrays)

    def render(self) -> bytes:
        """Return the picture as PNG; DataError where there is nothing to draw."""
        import numpy as np

        extra = {} if self.reference is None else {"reference": self.reference}
        times, columns = checked_series(self.title, self.timestamps, equity=self.equity, **extra)
        peak = np.fmax.accumulate(columns["equity"])
        drawdown = np.divide(columns["equity"], peak, out=np.ones_like(peak), where=peak > 0) - 1.0
        kept = _kept(columns["equity"])
        figure = new_figure(WIDTH_PX, HEIGHT_PX)
        grid = figure.add_gridspec(
            2, 1, height_ratios=(3, 1), hspace=0.05, left=0.09, right=0.98, top=0.92, bottom=0.09
        )
        axes, below = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
        places = np.arange(kept.size)
        axes.plot(places, columns["equity"][kept], color=LINE, linewidth=1.2, label="portfolio")
        if "reference" in columns:
            first = np.flatnonzero(np.isfinite(columns["reference"]) & np.isfinite(columns["equity"]))[:1]
            scale = (columns["equity"][first] / columns["reference"][first]) if first.size else np.ones(1)
            axes.plot(
                places,
                columns["reference"][kept] * scale,
                color=MUTED,
                linewidth=1.0,
                label="reference index",
            )
            set_legend(axes)
        set_title(axes, self.title)
        axes.grid(visible=True, color="#e5e5e5", linewidth=0.5)
        axes.tick_params(labelbottom=False, labelsize=8)
        axes.set_xlim(-1, kept.size)
        below.fill_between(places, 100.0 * np.nan_to_num(drawdown[kept]), color=DOWN, alpha=0.5, linewidth=0)
        below.set_ylabel("drawdown, %", fontsize=8)
        below.tick_params(labelsize=8)
        label_dates(below, times[kept])
        return to_png(figure)


def _kept(equity: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the places that are drawn, ascending: all, or both ends and the extremes of each part."""
    import numpy as np

    if equity.size <= MOST_POINTS:
        return np.arange(equity.size)
    edges = np.linspace(0, equity.size, MOST_POINTS // 2 + 1).astype(np.int64)
    low, high = np.where(np.isnan(equity), np.inf, equity), np.where(np.isnan(equity), -np.inf, equity)
    places = [0, equity.size - 1]
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        places += [start + int(low[start:stop].argmin()), start + int(high[start:stop].argmax())]
    return np.unique(places)
