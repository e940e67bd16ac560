import asyncio
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from pytest_tradeperf.pipeline import virtual_time
from pytest_tradeperf.pipeline.cycle import Cycle, Ended, summary_lines
from pytest_tradeperf.pipeline.debate.decision import Action, DebateSettings
from pytest_tradeperf.pipeline.debate.panel import Panel
from pytest_tradeperf.pipeline.debate.rules import RuleModel, seeded_seconds
from pytest_tradeperf.pipeline.desk import Drawn, OpenTrade, Parts, Position
from pytest_tradeperf.pipeline.errors import SettingError, StoreError
from pytest_tradeperf.pipeline.llm.errors import RefusedError
from pytest_tradeperf.pipeline.llm.ledger import Ledger
from pytest_tradeperf.pipeline.llm.queue import WorkQueue
from pytest_tradeperf.pipeline.llm.service import AnswerService
from pytest_tradeperf.pipeline.marketdata import Bars, load_bars
from pytest_tradeperf.pipeline.morning import Morning
from pytest_tradeperf.pipeline.morning_report import document_of, to_html, to_markdown, write_report
from pytest_tradeperf.pipeline.research import (
    BundledMarket,
    Heard,
    Loaded,
    Mood,
    News,
    Quality,
    Silence,
    mood_of,
    newest,
    research_ticker,
)

TICKERS = ("AAPL", "GOOG", "IBM", "MSFT", "FB")
AS_OF = datetime(2013, 3, 1, 23, 59, 59, tzinfo=UTC)


class Shelf:
    """A market that has its bars at hand."""

    def __init__(self):
        self.bars = {ticker: load_bars(ticker)[-252:] for ticker in TICKERS}

    async def load(self, tickers, *, seconds):
        return Loaded(bars={t: self.bars[t] for t in tickers})


class Feeds:
    def __init__(self, seconds=0.0, error=None):
        self.seconds, self.error = seconds, error

    async def hear(self, tickers, *, as_of, seconds):
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        news = {t: News(headlines=(f"{t} beats estimates",), sentiment=0.3) for t in tickers}
        return Heard(news=news, statistics={"news": {"symbols_per_minute": 100.0}})


class Charts:
    def __init__(self, seconds=0.0, failing=(), flawed=()):
        self.seconds, self.failing, self.flawed, self.drawn = seconds, failing, flawed, []
        self.prepared = []

    def prepare(self, researched):
        self.prepared += [one.ticker for one in researched]

    async def draw(self, outcome):
        ticker = outcome.decision.ticker
        await asyncio.sleep(self.seconds)
        if ticker in self.failing:
            raise self.failing[ticker]
        self.drawn.append(ticker)
        return Drawn(
            files=(Path(f"price-{ticker}.png"),),
            problems=(f"gauge-{ticker}: no scale",) * (ticker in self.flawed),
        )


class Recorder:
    def __init__(self, error=None):
        self.kept, self.error = {}, error

    def record(self, outcomes):
        if self.error:
            raise self.error
        new = {json.dumps(o.decision.record): o for o in outcomes}
        added = len(new.keys() - self.kept.keys())
        self.kept |= new
        return added

    def open_trades(self):
        if self.error:
            raise self.error
        return [OpenTrade(ticker="IBM", since="2013-02-01", quantity=-10, entry_price=200.0)]


class Sizer:
    def size(self, outcomes, held):
        return {
            o.decision.ticker: Position(
                quantity=10.0, entry_price=o.researched.price, stop_price=1.0, share=0.1, note="even"
            )
            for o in outcomes
            if o.decision.action is Action.BUY
        }


class Refusing:
    def size(self, outcomes, held):
        raise SettingError("no limits are set")


def going(
    kind=Cycle, *, model=None, tickers=TICKERS, cancel_at=None, debate=None, parts=None, workers=8, **settings
):
    """Return (result or None when cancelled, the run, virtual seconds, tasks left)."""

    async def main():
        queue = WorkQueue(workers=workers)
        default = {
            "market": BundledMarket(),
            "feeds": Feeds(),
            "panel": Panel(
                AnswerService(model or RuleModel(), queue), settings=DebateSettings(**(debate or {}))
            ),
            "queue": queue,
            "ledger": Ledger(),
            "as_of": AS_OF,
        }
        run = kind(Parts(**default | (parts or {})), tickers, **settings)
        task = asyncio.create_task(run.run())
        if cancel_at is not None:
            asyncio.get_running_loop().call_later(cancel_at, task.cancel)
        await asyncio.wait({task})
        seconds = asyncio.get_running_loop().time()
        await queue.aclose(drain=False)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        return None if task.cancelled() else task.result(), run, seconds, left

    return virtual_time.run(main())


def test_a_cycle_goes_through_its_stages_in_order_and_decides_every_ticker():
    lines = []
    result, _, _, left = going(progress=lines.append)
    assert [s.path for s in result.stages] == [
        "feeds",
        "classify",
        "debate",
        "decide",
        "charts",
        "alerts",
        "save",
    ]
    assert [o.decision.ticker for o in result.outcomes] == list(TICKERS)
    assert result.ended is Ended.DONE
    assert not left
    assert any("(5 of 5)" in line for line in lines)
    assert lines[-1].startswith("save ")


def test_alerts_are_the_strongest_trades_first():
    result, *_ = going(max_alerts=2)
    convictions = [abs(a.conviction) for a in result.alerts]
    trades = sorted(
        (abs(o.decision.conviction) for o in result.outcomes if o.decision.action in ("buy", "sell")),
        reverse=True,
    )
    assert convictions == trades[:2]
    assert going(max_alerts=0)[0].alerts == ()


def test_the_same_input_gives_the_same_decisions_in_any_timing():
    records = {
        json.dumps(
            [
                o.decision.record
                for o in going(model=RuleModel(seeded_seconds(seed, 0.0, 2.0)), batch=3)[0].outcomes
            ]
        )
        for seed in range(5)
    }
    assert len(records) == 1


def test_votes_begin_batch_by_batch_as_bars_come_and_are_the_same_in_any_order():
    class Arriving(Shelf):
        def __init__(self, seconds):
            super().__init__()
            self.waits = seconds

        async def load(self, tickers, *, seconds):
            await asyncio.sleep(max(self.waits[t] for t in tickers))
            return await super().load(tickers, seconds=seconds)

    class Listening(RuleModel):
        def __init__(self):
            super().__init__(lambda request: 1.0)
            self.asked = {}

        async def complete(self, request):
            self.asked[request.label] = asyncio.get_running_loop().time()
            return await super().complete(request)

    runs = []
    for waits in ((0.0, 0.0, 1.5, 1.5, 0.5), (1.0, 0.0, 0.0, 0.5, 0.2)):
        model, market = Listening(), Arriving(dict(zip(TICKERS, waits, strict=True)))
        result, *_ = going(model=model, parts={"market": market, "feeds": Feeds(2.0)}, batch=2)
        trend = {name: at for name, at in model.asked.items() if name.endswith("sheet/trend")}
        assert sorted(trend.values()) == sorted({max(waits[:2]), max(waits[2:4]), waits[4]})
        runs.append((sorted(trend), [outcome.decision.record for outcome in result.outcomes]))
    assert runs[0] == runs[1]


def test_feeds_and_their_guard_woken_together_lose_nothing():
    class Punctual(Feeds):
        async def hear(self, tickers, *, as_of, seconds):
            await asyncio.sleep(seconds)  # all its time, as a busy machine would make of a little less
            return await super().hear(tickers, as_of=as_of, seconds=seconds)

    result, *_ = going(parts={"feeds": Punctual()}, seconds=5.0, feeds_seconds=2.0)
    assert result.degraded == ()
    assert all(one.news.headlines for one in result.researched)


def test_the_deadline_ends_a_cycle_whatever_hangs():
    class Hanging:
        async def load(self, tickers, *, seconds):
            await asyncio.sleep(math.inf)

        async def hear(self, tickers, *, as_of, seconds):
            await asyncio.sleep(math.inf)

        async def complete(self, request):
            await asyncio.sleep(math.inf)

        def prepare(self, researched):
            pass

        async def draw(self, outcome):
            await asyncio.sleep(math.inf)

    stuck = Hanging()
    for parts, model in (
        ({"market": stuck}, None),
        ({"feeds": stuck}, None),
        ({}, stuck),
        ({"charts": stuck}, None),
        ({"market": stuck, "feeds": stuck, "charts": stuck}, stuck),
    ):
        result, _, seconds, left = going(parts=parts, model=model, seconds=5.0, feeds_seconds=2.0)
        assert seconds <= 5.0
        assert result.degraded
        assert not left
        assert len(result.outcomes) == 5


def test_failing_feeds_market_and_store_are_named_and_the_cycle_goes_on():
    class NoMarket:
        async def load(self, tickers, *, seconds):
            raise StoreError("bars are gone")

    result, *_ = going(
        parts={"feeds": Feeds(error=OSError("no route")), "recorder": Recorder(StoreError("disk full"))}
    )
    assert {"feeds: no route", "store: disk full"} <= set(result.degraded)
    assert len(result.outcomes) == 5
    result, *_ = going(parts={"market": NoMarket()})
    assert "bars: bars are gone" in result.degraded
    assert {o.decision.action for o in result.outcomes} == {Action.ABSTAIN}
    assert result.ledger.calls == 0


def test_a_chart_that_fails_or_is_late_leaves_the_rest():
    debate = {"margin": 0.0, "min_agreement": 0.0, "ambiguous_low": 0.5, "ambiguous_high": 0.5}
    charts = Charts(failing={"IBM": ZeroDivisionError("no scale")}, flawed={"FB"})
    result, *_ = going(parts={"charts": charts}, debate=debate)
    assert charts.prepared == list(TICKERS)
    assert "chart IBM: no scale" in result.degraded
    assert "chart gauge-FB: no scale" in result.degraded
    assert set(result.charts) == {"AAPL", "GOOG", "MSFT", "FB"}
    result, _, seconds, left = going(parts={"charts": Charts(seconds=100)}, debate=debate, seconds=10.0)
    assert seconds == pytest.approx(9.0)
    assert result.charts == {}
    assert sum("not within" in line for line in result.degraded) == 5
    assert not left


def test_positions_come_from_the_sizer_and_its_refusal_is_named():
    result, *_ = going(parts={"sizer": Sizer()})
    sized = {o.decision.ticker for o in result.outcomes if o.position}
    assert sized == {o.decision.ticker for o in result.outcomes if o.decision.action is Action.BUY} != set()
    assert "10 shares at" in next(a.text for a in result.alerts if a.action == "buy")
    assert "sizing: no limits are set" in going(parts={"sizer": Refusing()})[0].degraded


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0, 3.0, 4.5, 7.0, 11.0])
@pytest.mark.parametrize("kind", [Cycle, Morning])
def test_cancelling_at_any_moment_saves_what_was_reached_and_leaves_nothing(at, kind, tmp_path):
    recorder = Recorder()
    more = {"output": tmp_path} if kind is Cycle else {}
    result, run, seconds, left = going(
        kind,
        model=RuleModel(seeded_seconds(2, 0.5, 1.5)),
        parts={"feeds": Feeds(1.0), "recorder": recorder, "charts": Charts(0.5)},
        cancel_at=at,
        workers=3,
        **more,
    )
    assert result is None
    assert seconds == at
    assert not left
    partial = run.result() if kind is Cycle else run.report()
    assert len(recorder.kept) == len(partial.outcomes) == partial.stored
    assert partial.ledger.reserved_tokens == 0
    if kind is Cycle:
        saved = json.loads((tmp_path / "cycle.json").read_text())
        assert saved["ended"] == "interrupted"
        assert [one["ticker"] for one in saved["researched"]] == (list(TICKERS) if at > 1 else [])
        assert partial.ended is Ended.INTERRUPTED
    else:
        assert not partial.is_complete


def test_the_written_json_is_the_result(tmp_path):
    result, *_ = going(output=tmp_path, parts={"sizer": Sizer(), "recorder": Recorder()})
    written = json.loads((tmp_path / "cycle.json").read_text())
    assert written["decisions"][0]["action"] == result.outcomes[0].decision.action.value
    assert written["stored"] == 5
    assert written["researched"][0]["headlines"] == ["AAPL beats estimates"]
    assert written["ledger"]["calls_saved"] == result.calls_saved
    assert [p.name for p in tmp_path.iterdir()] == ["cycle.json"]


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    result, *_ = going(output=tmp_path / "file")
    assert any(line.startswith("output: cannot write") for line in result.degraded)


def test_the_summary_shows_stages_counts_machine_and_what_is_degraded():
    result, *_ = going(model=RuleModel(seeded_seconds(1, 0.1, 0.2)), tickers=(*TICKERS, "NONE"))
    text = "\n".join(summary_lines(result))
    for part in (
        "done: 6 of 6 tickers as of 2013-03-01",
        "debate",
        "from cache or shared",
        "memory ",
        "news: symbols",
    ):
        assert part in text
    assert "bars NONE: not bundled" in text
    assert "NONE research: no bars" in text


def test_many_degraded_lines_are_cut():
    result, *_ = going(tickers=tuple(f"X{n}" for n in range(30)))
    assert "more in cycle.json" in summary_lines(result)[-1]


def test_two_hundred_cycles_leave_nothing_behind():
    import gc

    async def main():
        async with WorkQueue(cache_size=64) as queue:
            panel = Panel(AnswerService(RuleModel(), queue))
            market = Shelf()
            sizes = []
            for n in range(200):
                parts = Parts(
                    market=market, feeds=Silence(), panel=panel, queue=queue, ledger=Ledger(), as_of=AS_OF
                )
                await Cycle(parts, TICKERS[:2], batch=2).run()
                if n in (99, 199):
                    gc.collect()
                    sizes.append(len(gc.get_objects()))
            return sizes, asyncio.all_tasks() - {asyncio.current_task()}

    (first, last), left = virtual_time.run(main())
    assert last - first < 200  # far below one object a cycle and ticker
    assert not left


def test_votes_that_need_no_news_are_asked_while_the_feeds_still_talk():
    seconds = {"trend": 3.0, "reversion": 3.0, "volatility": 3.0, "sentiment": 1.0}
    model = RuleModel(lambda request: seconds[request.label.rsplit("/", 1)[1]])
    debate = {"arm": "vote"}
    result, _, took, _ = going(model=model, batch=5, parts={"feeds": Feeds(2.0)}, debate=debate)
    assert took == 3.0  # not 2 + 3
    late, _, took, _ = going(model=model, batch=1, parts={"feeds": Feeds(2.0)}, debate=debate, workers=20)
    assert took > 4.0
    assert [o.decision.votes for o in result.outcomes] == [o.decision.votes for o in late.outcomes]
    assert result.ledger.calls == sum(o.decision.calls for o in result.outcomes) == 4


# -- research


def bars_of(closes, start="2013-01-01"):
    closes = np.asarray(closes, float)
    stamps = np.datetime64(start) + np.arange(closes.size)
    return Bars(
        symbol="X", timestamps=stamps, open=closes, high=closes, low=closes, close=closes, volume=closes
    )


def test_checks_name_what_is_wrong_with_the_data():
    steady = np.full(100, 50.0)
    until = datetime(2013, 4, 11, tzinfo=UTC)
    assert research_ticker("X", bars_of(steady), None, until).quality is Quality.GOOD
    assert research_ticker("X", None, None, until).quality is Quality.UNUSABLE
    assert "only 1 usable bars" in research_ticker("X", bars_of([1.0]), None, until).checks
    assert (
        "only 30 usable bars"
        in research_ticker("X", bars_of(steady[:30]), None, datetime(2013, 1, 31, tzinfo=UTC)).checks
    )
    assert (
        "last bar is 30 days old"
        in research_ticker("X", bars_of(steady), None, datetime(2013, 5, 10, tzinfo=UTC)).checks
    )
    split = research_ticker("X", bars_of([*steady, *steady / 2]), None, datetime(2013, 7, 19, tzinfo=UTC))
    assert split.quality is Quality.SUSPECT or "50% in one bar" not in str(split.checks)
    holes = steady.copy()
    holes[-5:-2] = np.nan
    assert "3 of the last 61 bars are missing" in research_ticker("X", bars_of(holes), None, until).checks
    fall = np.append(steady, 25.0)
    assert (
        "a move of 50% in one bar: a split not adjusted for?"
        in research_ticker("X", bars_of(fall), None, until).checks
    )


def test_missing_sources_are_checks_and_sentiment_is_a_fact():
    found = research_ticker(
        "IBM", load_bars("IBM"), News(sentiment=0.4, facts={"put_call": 1.5}, missing=("sec",)), AS_OF
    )
    assert found.checks == ("no answer from sec",)
    assert found.evidence.facts["sentiment"] == 0.4
    assert found.evidence.facts["put_call"] == 1.5
    assert found.mood is Mood.POSITIVE
    assert found.price == load_bars("IBM").close[-1]


@pytest.mark.parametrize(
    ("score", "mood"),
    [
        (None, Mood.UNKNOWN),
        (math.nan, Mood.UNKNOWN),
        (0.15, Mood.NEUTRAL),
        (-0.16, Mood.NEGATIVE),
        (1.0, Mood.POSITIVE),
    ],
)
def test_moods(score, mood):
    assert mood_of(score) is mood


def test_the_bundled_market_can_stop_at_a_moment():
    until = datetime(2010, 6, 30, 21, tzinfo=UTC)
    loaded = virtual_time.run(BundledMarket(until).load(["IBM", "ZZZ"], seconds=1))
    assert str(loaded.bars["IBM"].timestamps[-1])[:10] == "2010-06-30"
    assert loaded.degraded == ("bars ZZZ: not bundled",)
    before_close = until - timedelta(hours=2)
    loaded_before = virtual_time.run(BundledMarket(before_close).load(["IBM"], seconds=1))
    assert str(loaded_before.bars["IBM"].timestamps[-1])[:10] == "2010-06-29"
    assert newest(loaded, lambda: AS_OF) == datetime(2010, 6, 30, 23, 59, 59, tzinfo=UTC)
    assert newest(Loaded(bars={}), lambda: AS_OF) == AS_OF


# -- morning


def morning(**more):
    parts = {"sizer": Sizer(), "recorder": Recorder(), "charts": Charts()}
    return going(Morning, parts=parts | more.pop("parts", {}), **more)[0]


def test_a_morning_researches_validates_decides_sizes_tracks_and_stores():
    report = morning()
    assert [s.path for s in report.stages] == [
        "tracking",
        "research",
        "validation",
        "decision",
        "sizing",
        "charts",
        "save",
    ]
    assert report.is_complete
    assert report.stored == 5
    (tracked,) = report.tracked
    assert tracked.gain == pytest.approx(-(load_bars("IBM").close[-1] / 200 - 1))
    assert report.headline_lines()[0].startswith("morning of 2013-03-01 done: 5 of 5 tickers")


def test_a_morning_of_fifteen_tickers_with_a_slow_model_is_under_five_minutes():
    names = [f"{t}.{n}" for t in TICKERS for n in "ABC"]

    class Renamed:
        async def load(self, tickers, *, seconds):
            return Loaded(
                bars={
                    t: load_bars(t.split(".")[0])[: 900 + 60 * "ABC".index(t[-1])]
                    if t[:2] != "FB"
                    else load_bars("FB")
                    for t in tickers
                }
            )

    report = going(
        Morning,
        tickers=names,
        model=RuleModel(seeded_seconds(9, 2.0, 5.0)),
        parts={"market": Renamed(), "feeds": Feeds(2.0)},
        debate={"ambiguous_low": 0.0, "ambiguous_high": 1.0},
    )[0]
    assert len(report.outcomes) == 15
    assert all(o.decision.turns for o in report.outcomes)
    assert report.wall_seconds < 300
    assert max(o.decision.wall_seconds for o in report.outcomes) < 28


def test_both_writers_say_the_same_and_escape_strangers_words(tmp_path):
    class Hostile(Feeds):
        async def hear(self, tickers, *, as_of, seconds):
            text = "<script>alert(1)</script> | [x](javascript:y) `rm` *b* \x1b[31m"
            return Heard(news={t: News(headlines=(text,)) for t in tickers})

    report = morning(parts={"feeds": Hostile()})
    markdown, html = write_report(report, tmp_path)
    text, page = markdown.read_text(), html.read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\\<script\\>alert(1)\\</script\\> \\| \\[x\\](javascript:y) \\`rm\\` \\*b\\*" in text
    assert "\x1b" not in text + page
    for part in (
        "Decisions",
        "Validation",
        "Sizing",
        "Tracking",
        "Degraded",
        "Where the time went",
        "price-AAPL.png",
    ):
        assert part in text
        assert part in page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["morning.html", "morning.md"]


def test_an_empty_report_still_has_every_heading(tmp_path):
    report = going(Morning, tickers=("ZZZ",))[0]
    document = document_of(report, tmp_path)
    text, page = to_markdown(document), to_html(document)
    for part in ("no positions", "no open trades", "no bars", "abstain"):
        assert part in text
        assert part in page


def test_a_store_that_is_away_is_named_in_the_morning():
    report = morning(parts={"recorder": Recorder(StoreError("locked"))})
    assert report.degraded.count("store: locked") == 1
    assert report.tracked == ()


def test_a_refused_model_gives_a_report_of_abstentions():
    class Refused:
        async def complete(self, request):
            raise RefusedError("wrong key")

    report = morning(model=Refused())
    assert {o.decision.action for o in report.outcomes} == {Action.ABSTAIN}
    assert "AAPL vote/trend: refused" in report.degraded
