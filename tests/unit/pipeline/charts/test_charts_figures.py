from __future__ import annotations

import io
import math
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_tradeperf.pipeline.charts import GaugeChart, Gauges, PortfolioChart, PriceChart, SignalMark
from pytest_tradeperf.pipeline.charts.gauge import gauge_step, gauge_word
from pytest_tradeperf.pipeline.charts.portfolio import MOST_POINTS
from pytest_tradeperf.pipeline.errors import DataError, MissingExtraError
from pytest_tradeperf.pipeline.features import sma
from pytest_tradeperf.pipeline.marketdata import Bars, load_bars

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytest.importorskip("matplotlib", reason="pip install 'pytest-tradeperf[charts]'")

BARS = load_bars("GOOG")[:120]
GREEN, RED = (0x1B, 0x78, 0x37), (0xB2, 0x18, 0x2B)


def pixels(png: bytes) -> NDArray[np.uint8]:
    """The picture as an array of shape (height, width, 3), read by another library."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB"))


def share(png: bytes, colour: tuple[int, int, int]) -> float:
    return float((pixels(png) == colour).all(axis=2).mean())


def test_a_price_chart_has_its_size_and_its_colours() -> None:
    png = PriceChart(bars=BARS).render()
    assert pixels(png).shape == (500, 900, 3)
    assert share(png, GREEN) > 0.001
    assert share(png, RED) > 0.001


def test_buys_and_sells_are_marked() -> None:
    plain = PriceChart(bars=BARS)
    bought = replace(plain, marks=[SignalMark(bar=60, side="buy")])
    sold = replace(plain, marks=[SignalMark(bar=60, side="sell")])
    assert share(bought.render(), GREEN) > share(plain.render(), GREEN)
    assert share(sold.render(), RED) > share(plain.render(), RED)


def test_lines_are_drawn_and_one_without_values_is_not() -> None:
    plain = PriceChart(bars=BARS)
    drawn = replace(plain, lines={"sma": sma(BARS.close, 20), "too long": sma(BARS.close, 500)})
    assert share(drawn.render(), (0xE0, 0x82, 0x14)) > share(plain.render(), (0xE0, 0x82, 0x14))


def test_the_same_chart_is_the_same_bytes_from_any_thread() -> None:
    chart = PriceChart(bars=BARS[:30])
    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(lambda _: chart.render(), range(6)))) == 1


@pytest.mark.parametrize("n_bars", [1, 2, 301])
def test_few_and_many_bars_are_drawn(n_bars: int) -> None:
    assert pixels(PriceChart(bars=load_bars("IBM")[:n_bars]).render()).std() > 0


def test_missing_bars_and_unknown_volume_leave_a_gap() -> None:
    columns: dict[str, Any] = {
        name: np.array(getattr(BARS, name)) for name in ("open", "high", "low", "close", "volume")
    }
    for column in columns.values():
        column[40:60] = np.nan
    columns["volume"][:] = np.nan
    bars = Bars(symbol="GAP", timestamps=BARS.timestamps, **columns)
    chart = PriceChart(bars=bars, marks=[SignalMark(bar=50, side="buy")])
    assert share(chart.render(), GREEN) > 0.001


@pytest.mark.parametrize(
    "title", ["GOOG $x^", "株式", "a\nb\x00", "<b>&amp;", "x" * 5_000, "_hidden", "\ud800", "🚀 to the moon"]
)
def test_any_text_can_be_a_title_or_a_label(title: str) -> None:
    chart = PriceChart(bars=BARS[:20], title=title, lines={title: BARS[:20].close})
    assert len(chart.render()) > 1_000
    assert len(chart.key()) == 32
    assert len(GaugeChart(score=0.0, title=title).render()) > 1_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"marks": [SignalMark(bar=120, side="buy")]}, "expected buy or sell on bars 0 to 119"),
        ({"marks": [SignalMark(bar=-1, side="buy")]}, "expected buy or sell"),
        ({"marks": [SignalMark(bar=1, side="hold")]}, "expected buy or sell"),  # type: ignore[arg-type]
        ({"lines": {"short": [1.0]}}, r"120 times and line short of shape \(1,\)"),
        ({"lines": {"text": ["a"] * 120}}, "cannot read its data"),
        ({"bars": BARS[:0]}, "expected at least one bar"),
    ],
)
def test_what_cannot_be_drawn_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        replace(PriceChart(bars=BARS), **change).render()


def test_keys_follow_everything_that_is_drawn() -> None:
    chart = PriceChart(bars=BARS, lines={"a": BARS.close}, marks=[SignalMark(bar=1, side="buy")])
    others = [
        replace(chart, bars=BARS[1:]), replace(chart, title="x"), replace(chart, lines={"b": BARS.close}),
        replace(chart, lines={"a": BARS.open}), replace(chart, marks=[SignalMark(bar=1, side="sell")]),
        replace(chart, marks=()),
    ]  # fmt: skip
    keys = {one.key() for one in (chart, *others)}
    assert len(keys) == 7
    assert replace(chart, bars=load_bars("GOOG")[:120]).key() == chart.key()
    assert GaugeChart(score=0.41).key() == GaugeChart(score=0.39).key() != GaugeChart(score=0.31).key()


def test_a_portfolio_curve_shows_gain_and_drawdown() -> None:
    times = np.datetime64("2024-01-01") + np.arange(50)
    up, down = np.linspace(100, 200, 50), np.linspace(200, 100, 50)

    def reddish(equity: NDArray[np.float64]) -> float:
        picture = pixels(PortfolioChart(timestamps=times, equity=equity).render()).astype(int)
        return float((picture[..., 0] > picture[..., 1] + 40).mean())

    assert reddish(up) == 0
    assert reddish(down) > 0.01


def test_a_reference_is_drawn_from_the_same_start() -> None:
    times = np.datetime64("2024-01-01") + np.arange(50)
    chart = PortfolioChart(timestamps=times, equity=np.linspace(100, 200, 50))
    grey = (0x73, 0x73, 0x73)
    assert share(replace(chart, reference=np.linspace(7, 8, 50)).render(), grey) > share(chart.render(), grey)
    assert (
        len({chart.key(), replace(chart, reference=np.ones(50)).key(), replace(chart, title="x").key()}) == 3
    )
    assert len(replace(chart, reference=np.full(50, np.nan)).render()) > 1_000


def test_a_long_curve_is_thinned_and_keeps_its_extremes() -> None:
    from pytest_tradeperf.pipeline.charts.portfolio import _kept

    equity = np.random.default_rng(0).normal(size=100_000)
    equity[12_345], equity[54_321] = -50.0, 50.0
    kept = _kept(equity)
    assert kept.size <= MOST_POINTS + 2
    assert {0, 12_345, 54_321, 99_999} <= set(kept.tolist())


@pytest.mark.parametrize("equity", [[], [math.nan], [1.0, 2.0]])
def test_a_curve_needs_a_value_a_time(equity: list[float]) -> None:
    with pytest.raises(DataError, match="chart of 'Portfolio'"):
        PortfolioChart(timestamps=["2024-01-01"][: len(equity)], equity=equity).render()


def test_equity_of_zero_and_below_is_drawn() -> None:
    times = np.datetime64("2024-01-01") + np.arange(4)
    assert len(PortfolioChart(timestamps=times, equity=[-1.0, 0.0, 5.0, np.inf]).render()) > 1_000


@pytest.mark.parametrize(
    ("score", "step"),
    [(0, 0), (0.04, 0), (0.05, 1), (-0.05, -1), (0.949, 9), (0.95, 10), (1, 10), (-1.0, -10), (-0.0, 0)],
)
def test_a_score_has_the_nearest_tenth(score: float, step: int) -> None:
    assert gauge_step(score) == step


@pytest.mark.parametrize("score", [1.01, -1.01, math.nan, math.inf, None, "good"])
def test_a_score_out_of_range_is_named(score: Any) -> None:
    with pytest.raises(DataError, match="expected a number from -1 to 1"):
        GaugeChart(score=score)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (-1, "very negative"), (-0.6, "very negative"), (-0.5, "negative"), (-0.2, "negative"), (-0.1, "neutral"),
        (0.0, "neutral"), (0.1, "neutral"), (0.2, "positive"), (0.5, "positive"), (0.6, "very positive"), (1, "very positive"),
    ],
)  # fmt: skip
def test_a_border_belongs_to_the_stronger_band(value: float, word: str) -> None:
    assert gauge_word(value) == word


def test_the_needle_points_to_the_score() -> None:
    left, right = (pixels(GaugeChart(score=score).render()) for score in (-1.0, 1.0))
    is_black = [(picture[60:120] == 0).all(axis=2).sum(axis=0) for picture in (left, right)]
    middle = 160
    assert is_black[0][:middle].sum() == 0 or is_black[0][:middle].sum() > is_black[0][middle:].sum()
    dark = [(picture.sum(axis=2) < 60) for picture in (left, right)]
    assert dark[0][:, 30 : middle - 20].sum() > 3 * dark[0][:, middle + 20 : 290].sum()
    assert dark[1][:, middle + 20 : 290].sum() > 3 * dark[1][:, 30 : middle - 20].sum()


def test_prepared_gauges_are_those_drawn_alone() -> None:
    with ThreadPoolExecutor(2) as pool:
        gauges = Gauges.prepared(pool)
    assert len(gauges.by_step) == 21
    assert len(set(gauges.by_step.values())) == 21
    for score in (-1.0, -0.234, 0.0, 0.35, 1.0):
        assert gauges.of(score) == GaugeChart(score=score).render()
    with pytest.raises(DataError):
        gauges.of(1.2)


def test_charts_can_be_sent_to_another_process() -> None:
    chart = PriceChart(bars=BARS, lines={"a": BARS.close}, marks=[SignalMark(bar=1, side="buy")])
    assert pickle.loads(pickle.dumps(chart)).key() == chart.key()


def test_matplotlib_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    times = np.datetime64("2024-01-01") + np.arange(3)
    for chart in (
        PriceChart(bars=BARS),
        GaugeChart(score=0.0),
        PortfolioChart(timestamps=times, equity=[1.0] * 3),
    ):
        with pytest.raises(MissingExtraError, match=r"pip install 'pytest-tradeperf\[charts\]'"):
            chart.render()


def test_importing_charts_loads_neither_matplotlib_nor_numpy_and_drawing_no_pyplot() -> None:
    program = (
        "import sys, pytest_tradeperf.pipeline.charts as charts\n"
        "gauge = charts.GaugeChart(score=0.5)\n"
        "print(sorted({'matplotlib', 'numpy', 'PIL'} & set(sys.modules)))\n"
        "gauge.render()\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[]", "False"]
