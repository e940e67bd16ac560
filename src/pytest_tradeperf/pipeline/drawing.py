"""Charts of a decision: the price with its averages and signal, and the gauge of its news."""

import asyncio
import contextlib
from collections.abc import Sequence

from pytest_tradeperf.pipeline.charts import Chart, ChartQueue, GaugeChart, PriceChart, SignalMark
from pytest_tradeperf.pipeline.debate.decision import Action
from pytest_tradeperf.pipeline.desk import Drawn, Outcome
from pytest_tradeperf.pipeline.errors import MissingExtraError
from pytest_tradeperf.pipeline.features import sma
from pytest_tradeperf.pipeline.research import Researched

_BARS = 120
_WINDOWS = (20, 50)


class ChartDrawer:
    """Draws through a chart queue that writes into a folder."""

    def __init__(self, queue: ChartQueue) -> None:
        self._queue = queue

    def prepare(self, researched: Sequence[Researched]) -> None:
        """Draw the gauges: one for each tenth, whoever's it is."""
        for one in researched:
            for chart in gauges_of(one):
                self._queue.submit(chart)

    async def draw(self, outcome: Outcome) -> Drawn:
        """Return the files of one ticker; a chart that failed is a problem beside those that did not."""
        futures = [asyncio.wrap_future(self._queue.submit(chart)) for chart in charts_of(outcome)]
        results = await asyncio.gather(*futures)
        return Drawn(
            files=tuple(result.path for result in results if result.path is not None),
            problems=tuple(f"{result.name}: {result.error}" for result in results if result.error),
        )


def charts_of(outcome: Outcome) -> Sequence[Chart]:
    """Return what there is to draw about one ticker; nothing where neither bars nor mood are known."""
    researched, action = outcome.researched, outcome.decision.action
    charts: list[Chart] = []
    if researched.bars is not None:
        lines = {f"SMA {window}": sma(researched.bars.close, window)[-_BARS:] for window in _WINDOWS}
        bars = researched.bars[-_BARS:]
        last = len(bars) - 1
        marks = (
            (SignalMark(bar=last, side="buy" if action is Action.BUY else "sell"),)
            if action in (Action.BUY, Action.SELL)
            else ()
        )
        charts.append(PriceChart(bars=bars, lines=lines, marks=marks))
    return [*charts, *gauges_of(researched)]


def gauges_of(researched: Researched) -> Sequence[GaugeChart]:
    """Return the gauge of the mood, the same for every ticker of that tenth; none where it is unknown."""
    score = researched.news.sentiment
    return () if score is None else (GaugeChart(score=score),)


def warm_up() -> None:
    """Load what the first chart would load; without it, the charts themselves will say what is missing."""
    from pytest_tradeperf.pipeline.charts.canvas import new_figure

    with contextlib.suppress(MissingExtraError):
        new_figure(8, 8)
