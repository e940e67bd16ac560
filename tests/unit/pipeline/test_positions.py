import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pytest_tradeperf.pipeline.adapters import StoreRecorder
from pytest_tradeperf.pipeline.charts import ChartQueue
from pytest_tradeperf.pipeline.debate.decision import Action, Arm, Decision, StopReason
from pytest_tradeperf.pipeline.desk import OpenTrade, Outcome
from pytest_tradeperf.pipeline.drawing import ChartDrawer, charts_of
from pytest_tradeperf.pipeline.marketdata import load_bars
from pytest_tradeperf.pipeline.positions import RiskSizer
from pytest_tradeperf.pipeline.research import News, research_ticker
from pytest_tradeperf.pipeline.risk import Limits
from pytest_tradeperf.pipeline.store import SignalStore, StoreUnavailableError

AS_OF = datetime(2013, 3, 1, 23, 59, 59, tzinfo=UTC)
LOOSE = Limits(max_position=1.0, max_sector=1.0, max_gross=10.0, max_net=10.0, max_short=10.0)


def outcome(ticker, probability, *, bars=True, sentiment=0.2, as_of=AS_OF):
    researched = research_ticker(
        ticker, load_bars(ticker) if bars else None, News(sentiment=sentiment), as_of
    )
    action = (
        Action.ABSTAIN
        if probability is None
        else Action.BUY
        if probability > 0.5
        else Action.SELL
        if probability < 0.5
        else Action.HOLD
    )
    decision = Decision(
        ticker=ticker,
        as_of=as_of.date().isoformat(),
        action=action,
        probability=probability,
        stop_reason=StopReason.CONSENSUS,
        arm=Arm.DEBATE,
        is_contested=False,
        vote_probability=probability,
        agreement=1.0,
        votes=(),
    )
    return Outcome(researched=researched, decision=decision)


def test_full_conviction_risks_the_budget_at_the_stop_and_less_risks_less():
    sizer = RiskSizer(100_000, limits=LOOSE, risk=0.01)
    full = sizer.size([outcome("IBM", 0.75)], [])["IBM"]
    half = sizer.size([outcome("IBM", 0.625)], [])["IBM"]
    assert full.quantity * (full.entry_price - full.stop_price) == pytest.approx(1000, rel=0.01)
    assert half.quantity == pytest.approx(full.quantity / 2, abs=1)
    assert full.entry_price == load_bars("IBM").close[-1]
    assert full.share == pytest.approx(full.quantity * full.entry_price / 100_000)


def test_a_sell_is_short_with_its_stop_above():
    position = RiskSizer(100_000, limits=LOOSE).size([outcome("IBM", 0.3)], [])["IBM"]
    assert position.quantity < 0
    assert position.stop_price > position.entry_price


def test_hold_abstain_and_unknown_prices_get_nothing():
    outcomes = [outcome("IBM", 0.5), outcome("AAPL", None), outcome("MSFT", 0.9, bars=False)]
    assert RiskSizer(100_000).size(outcomes, []) == {}


def test_limits_cut_and_say_which_and_the_strongest_comes_first():
    limits = Limits(max_position=0.5, max_gross=0.5, max_net=0.5, max_loss_at_stop=1.0)
    sized = RiskSizer(100_000, limits=limits, risk=0.05).size([outcome("IBM", 0.6), outcome("MSFT", 0.9)], [])
    assert set(sized) == {"MSFT"}
    assert "max_" in sized["MSFT"].note
    assert sized["MSFT"].share <= 0.5


def test_what_is_held_already_is_kept_and_the_other_way_is_turned():
    held = [OpenTrade(ticker="IBM", since="2013-01-02", quantity=50, entry_price=190.0)]
    sizer = RiskSizer(100_000, limits=LOOSE)
    kept = sizer.size([outcome("IBM", 0.9)], held)["IBM"]
    assert (kept.quantity, kept.note) == (50, "held already")
    assert sizer.size([outcome("IBM", 0.1)], held)["IBM"].quantity < 0


# -- the store


def stored(store):
    return [
        (d.symbol, d.action, d.quantity, d.is_open) for d in sorted(store.decisions(), key=lambda d: d.as_of)
    ]


def test_decisions_are_stored_once_and_trades_open_once_and_close_when_turned():
    sizer = RiskSizer(100_000, limits=LOOSE)

    def sized(probability, day):
        found = outcome("IBM", probability, as_of=datetime(2013, 3, day, tzinfo=UTC))
        return replace(found, position=sizer.size([found], [])["IBM"])

    with SignalStore("sqlite://") as store:
        recorder = StoreRecorder(store)
        first = sized(0.75, 1)
        assert (recorder.record([first]), recorder.record([first])) == (1, 0)
        assert [t.quantity for t in recorder.open_trades()] == [first.position.quantity]
        recorder.record([sized(0.7, 2)])
        assert len(recorder.open_trades()) == 1
        recorder.record([sized(0.2, 3)])
        (trade,) = recorder.open_trades()
        assert trade.quantity < 0
        assert trade.since == "2013-03-03"
        assert [row[3] for row in stored(store)] == [False, False, True]
        assert [row[1] for row in stored(store)] == ["buy", "buy", "sell"]
        kept = store.decisions()[0]
        assert kept.details["stop_reason"] == "consensus"


def bought(day):
    found = outcome("IBM", 0.75, as_of=datetime(2013, 3, day, tzinfo=UTC))
    sized = RiskSizer(100_000, limits=LOOSE).size([found], [])["IBM"]
    return replace(found, position=sized)


def test_the_same_opinion_every_day_is_one_open_trade():
    with SignalStore("sqlite://") as store:
        for day in (1, 2, 3):
            StoreRecorder(store).record([bought(day)])
        assert len(store.decisions()) == 3
        assert [trade.as_of.day for trade in store.open_trades()] == [1]


def test_an_opinion_without_a_size_opens_no_trade():
    with SignalStore("sqlite://") as store:
        assert StoreRecorder(store).record([outcome("IBM", 0.75)]) == 1
        assert store.open_trades() == []


def test_a_desk_whose_store_is_no_database_keeps_its_decisions(tmp_path):
    file = tmp_path / "decisions.db"
    file.write_bytes(b"not the bytes you are looking for" * 100)
    with SignalStore(f"sqlite:///{file}") as store:
        with pytest.raises(StoreUnavailableError, match="not a database") as caught:
            StoreRecorder(store).record([bought(1)])
        assert caught.value.kept_in is not None
        file.unlink()
        assert store.flush_outbox() == 1
        assert len(store.open_trades()) == 1


def test_an_abstention_is_stored_as_one():
    with SignalStore("sqlite://") as store:
        assert StoreRecorder(store).record([outcome("IBM", None)]) == 1
        (row,) = store.decisions()
        assert (row.action, row.probability, row.source) == ("abstain", None, "debate")


def test_the_probability_stored_is_that_of_the_direction_taken():
    with SignalStore("sqlite://") as store:
        StoreRecorder(store).record([outcome("IBM", 0.2)])
        (row,) = store.decisions()
        assert row.probability == pytest.approx(0.8)
        assert row.conviction == pytest.approx(-0.6)


# -- charts


def test_a_ticker_is_drawn_with_its_price_signal_and_mood(tmp_path):
    async def main():
        with ChartQueue(workers=1, folder=tmp_path) as queue:
            return await ChartDrawer(queue).draw(outcome("IBM", 0.8))

    drawn = asyncio.run(main())
    assert drawn.problems == ()
    assert [path.name.rsplit("-", 1)[0] for path in drawn.files] == ["price-IBM", "gauge"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn.files)


def test_gauges_are_drawn_beforehand_one_for_each_tenth(tmp_path):
    outcomes = [outcome(ticker, 0.8, sentiment=mood) for ticker, mood in (("IBM", 0.31), ("GOOG", 0.29))]

    async def main():
        with ChartQueue(workers=1, folder=tmp_path) as queue:
            drawer = ChartDrawer(queue)
            drawer.prepare([one.researched for one in outcomes])
            return [await drawer.draw(one) for one in outcomes], queue.counts()

    (first, second), counts = asyncio.run(main())
    assert first.files[1] == second.files[1]
    assert counts.drawn == 3  # two prices and one gauge


def test_what_is_unknown_is_not_drawn_and_a_failure_names_its_chart(tmp_path):
    assert charts_of(outcome("IBM", None, bars=False, sentiment=None)) == []
    (gauge,) = charts_of(outcome("IBM", None, bars=False))
    assert gauge.name == "gauge"
    (tmp_path / "file").write_text("")

    async def main():
        with ChartQueue(workers=1, folder=tmp_path / "file") as queue:
            return await ChartDrawer(queue).draw(outcome("IBM", 0.5, sentiment=None))

    drawn = asyncio.run(main())
    assert drawn.files == ()
    assert drawn.problems[0].startswith("price-IBM: drawn but not written")
