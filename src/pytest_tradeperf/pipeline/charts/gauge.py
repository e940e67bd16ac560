"""A half-round gauge of sentiment from -1 to 1, one picture for every tenth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from pytest_tradeperf.pipeline.charts.canvas import DOWN, MUTED, UP, new_figure, set_title, to_png
from pytest_tradeperf.pipeline.charts.keys import chart_key
from pytest_tradeperf.pipeline.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

WIDTH_PX, HEIGHT_PX = 320, 200
STEPS: Final = 10
BANDS: Final = (
    (-1.0, -0.6, DOWN, "very negative"),
    (-0.6, -0.2, "#ef8a62", "negative"),
    (-0.2, 0.2, "#d9d9d9", "neutral"),
    (0.2, 0.6, "#7fbf7b", "positive"),
    (0.6, 1.0, UP, "very positive"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GaugeChart:
    """One gauge.

    Attributes
    ----------
    score
        From -1 to 1; the needle points to the nearest tenth.
    title
        Above the gauge, such as a symbol.
    """

    score: float
    title: str = ""

    def __post_init__(self) -> None:
        gauge_step(self.score)

    @property
    def name(self) -> str:
        """What the chart is called in results and file names."""
        return f"gauge-{self.title}" if self.title else "gauge"

    def key(self) -> str:
        """Return a digest of all that is drawn."""
        return chart_key("gauge", (gauge_step(self.score), self.title))

    def render(self) -> bytes:
        """Return the picture as PNG."""
        figure = new_figure(WIDTH_PX, HEIGHT_PX)
        from matplotlib.patches import Wedge  # after the line that says which extra is missing

        value = gauge_step(self.score) / STEPS
        axes = figure.add_axes((0.02, 0.02, 0.96, 0.84))
        axes.set_xlim(-1.1, 1.1)
        axes.set_ylim(-0.32, 1.08)
        axes.set_aspect("equal")
        axes.axis("off")
        for low, high, colour, _ in BANDS:
            axes.add_patch(Wedge((0, 0), 1.0, _degrees(high), _degrees(low), width=0.3, facecolor=colour))
        angle = math.radians(_degrees(value))
        axes.plot([0, 0.9 * math.cos(angle)], [0, 0.9 * math.sin(angle)], color="black", linewidth=2.5)
        axes.plot([0], [0], "o", color="black", markersize=7)
        axes.text(
            0,
            -0.16,
            f"{value:+.1f} {gauge_word(value)}",
            ha="center",
            va="center",
            fontsize=11,
            color="black",
        )
        for text, place, side in (("-1", -0.85, "center"), ("+1", 0.85, "center")):
            axes.text(place, -0.1, text, ha=side, va="center", fontsize=8, color=MUTED)
        if self.title:
            set_title(axes, self.title)
        return to_png(figure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """All 21 gauges without a title, drawn beforehand: a lookup then costs well under a microsecond.

    Attributes
    ----------
    by_step
        PNG by tenth, -10 to 10.
    """

    by_step: Mapping[int, bytes]

    @classmethod
    def prepared(cls, executor: Executor | None = None) -> Self:
        """Return the gauges, drawn here or by an executor's workers."""
        steps = range(-STEPS, STEPS + 1)
        pictures = map(_rendered, steps) if executor is None else executor.map(_rendered, steps)
        return cls(by_step=dict(zip(steps, pictures, strict=True)))

    def of(self, score: float) -> bytes:
        """Return the gauge nearest to a score in -1..1."""
        return self.by_step[gauge_step(score)]


def gauge_step(score: float) -> int:
    """Return the nearest tenth as a whole number, halves away from zero.

    Raises
    ------
    DataError
        The score is not a number from -1 to 1.

    Examples
    --------
    >>> gauge_step(0.25), gauge_step(-0.25), gauge_step(0.04)
    (3, -3, 0)
    """
    try:
        is_good = -1.0 <= score <= 1.0
    except TypeError:
        is_good = False
    if not is_good:
        raise DataError(f"sentiment score is {score!r}: expected a number from -1 to 1")
    return int(math.copysign(math.floor(abs(score) * STEPS + 0.5), score))


def gauge_word(value: float) -> str:
    """Return the word of the band that a value lies in; a border belongs to the stronger band."""
    for low, high, _, word in BANDS if value >= 0 else reversed(BANDS):
        if low < value < high or math.isclose(value, low if value > 0 else high):
            return word
    return BANDS[-1 if value > 0 else 0][3]


def _degrees(value: float) -> float:
    return 90.0 * (1.0 - value)


def _rendered(step: int) -> bytes:
    return GaugeChart(score=step / STEPS).render()
