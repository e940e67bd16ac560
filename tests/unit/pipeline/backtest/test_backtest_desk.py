from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from backtest_worlds import NAN, Scripted, bars_of
from hypothesis import given, settings
from test_backtest_identity import options, stops, worlds

from pytest_tradeperf.pipeline.backtest import (
    BacktestResult,
    Costs,
    FixedShares,
    MovingAverageCross,
    Settings,
    Stops,
    VolatilityTarget,
    run_backtest,
    run_portfolio,
)
from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, HOLD, SELL
from pytest_tradeperf.pipeline.errors import DataError, SettingError, StrategyError
from pytest_tradeperf.pipeline.marketdata import Bars, load_bars, parse_timeframe, resample


@dataclass
class Script:
    """Calls desk methods bar by bar: {bar: [(method, args, terms)]}."""

    steps: dict[int, list[tuple[str, tuple[Any, ...], dict[str, Any]]]]
    answers: list[Any] = field(default_factory=list)

    def on_bar(self, desk: Any) -> None:
        for method, args, terms in self.steps.get(desk.bar, []):
            self.answers.append(getattr(desk, method)(*args, **terms))


def call(method: str, *args: Any, **terms: Any) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    return method, args, terms


def desk_run(steps: dict[int, list[Any]], bars: Bars | list[Bars], **chosen: Any) -> BacktestResult:
    members = bars if isinstance(bars, list) else [bars]
    return run_portfolio(members, Script(steps), settings=Settings(cash=1000.0, **chosen))


def range_bars(rows: list[tuple[float, float, float, float]]) -> Bars:
    opens, highs, lows, closes = (np.array(column) for column in zip(*rows, strict=True))
    days = (np.datetime64("2024-01-01") + np.arange(len(rows))).astype("datetime64[ns]")
    return Bars(
        symbol="X", timestamps=days, open=opens, high=highs, low=lows, close=closes, volume=np.ones(len(rows))
    )


@settings(max_examples=150, deadline=None)
@given(world=worlds(), chosen=options, stop=stops)
def test_one_symbol_through_the_book_equals_the_reference(
    world: tuple[Bars, np.ndarray], chosen: dict[str, Any], stop: Stops
) -> None:
    bars, codes = world
    strategy = Scripted(tuple(codes[0].tolist()))
    truth = run_backtest(bars, strategy, engine="reference", stops=stop, **chosen)
    book = run_portfolio([bars], strategy, settings=Settings(stops=stop, **chosen))
    np.testing.assert_array_equal(book.equity, truth.equity)
    assert [trade.reason for trade in book.trades if trade.reason != "reversal"] == [
        "signal" if trade.reason == "reversal" else trade.reason for trade in truth.trades
    ]


@pytest.mark.parametrize("side", ["long", "short", "both"])
def test_real_bars_through_the_book_are_bit_identical(side: Any) -> None:
    strategy, bars = MovingAverageCross(side=side), load_bars("GOOG")
    truth = run_backtest(bars, strategy, fees_bps=5, engine="reference")
    book = run_portfolio([bars], strategy, settings=Settings(costs=Costs(fees_bps=5)))
    np.testing.assert_array_equal(book.equity, truth.equity)


BARS = range_bars(
    [(100, 105, 95, 100), (100, 110, 90, 105), (105, 120, 100, 110), (110, 111, 80, 90), (90, 95, 85, 92)]
)


@pytest.mark.parametrize(
    ("terms", "fill"),
    [
        ({}, (1, 100.0)),
        ({"limit": 92.0}, (1, 92.0)),
        ({"limit": 82.0}, (3, 82.0)),
        ({"limit": 101.0}, (1, 100.0)),  # the open is better than the limit
        ({"stop": 115.0}, (2, 115.0)),
        ({"stop": 99.0}, (1, 100.0)),  # opened beyond the stop
        ({"stop": 115.0, "limit": 118.0}, (2, 115.0)),
        ({"stop": 115.0, "limit": 101.0}, (3, 101.0)),  # released on bar 2, limit counts from bar 3
        ({"limit": 50.0}, None),
        ({"limit": 82.0, "expires": 2}, None),
        ({"limit": 82.0, "expires": 3}, (3, 82.0)),
    ],
)
def test_a_buy_order_fills_where_its_terms_say(terms: dict[str, Any], fill: tuple[int, float] | None) -> None:
    trades = desk_run({0: [call("buy", "X", shares=5, **terms)]}, BARS).trades
    assert [(trade.entry_bar, trade.entry_price) for trade in trades] == ([] if fill is None else [fill])


@pytest.mark.parametrize(
    ("terms", "exit_bar", "price"),
    [
        ({}, 2, 105.0),
        ({"limit": 118.0}, 2, 118.0),
        ({"stop": 95.0}, 3, 95.0),
        ({"trailing": 0.1}, 3, 108.0),  # 10 % below the 120 of bar 2
        ({"shares": 2.0}, 2, 105.0),
    ],
)
def test_a_position_is_closed_where_the_order_says(
    terms: dict[str, Any], exit_bar: int, price: float
) -> None:
    result = desk_run({0: [call("buy", "X", shares=5)], 1: [call("close", "X", **terms)]}, BARS)
    assert result.trades[0].exit_bar == exit_bar
    assert result.trades[0].exit_price == pytest.approx(price)
    assert result.trades[0].shares == terms.get("shares", 5.0)


def test_a_partial_close_splits_the_trade_and_its_fees() -> None:
    result = desk_run(
        {0: [call("buy", "X", shares=4)], 1: [call("sell", "X", shares=1)], 2: [call("close", "X")]},
        BARS,
        costs=Costs(fee_fixed=8.0),
    )
    assert [(trade.shares, trade.fees) for trade in result.trades] == [(1.0, 10.0), (3.0, 14.0)]


def test_adding_to_a_position_averages_its_price() -> None:
    result = desk_run({0: [call("buy", "X", shares=2)], 1: [call("buy", "X", shares=2)]}, BARS)
    assert (result.trades[0].shares, result.trades[0].entry_price) == (4.0, 102.5)


def test_an_order_can_be_withdrawn_once() -> None:
    script = Script({0: [call("buy", "X", shares=1, limit=50.0)], 1: [call("cancel", 1), call("cancel", 1)]})
    run_portfolio([BARS], script)
    assert script.answers == [1, True, False]


def test_shares_beyond_the_buying_power_are_not_bought() -> None:
    assert desk_run({0: [call("buy", "X", shares=11)]}, BARS).trades == ()
    assert desk_run({0: [call("buy", "X", shares=11)]}, BARS, margin=0.5).trades[0].shares == 11.0


def test_margin_lets_a_fraction_and_a_weight_pass_equity() -> None:
    for order in (call("buy", "X", fraction=2.0), call("target", "X", 2.0)):
        assert desk_run({0: [order]}, BARS, margin=0.5).trades[0].shares == 20.0


def test_an_order_for_part_of_a_share_is_rounded_down_where_shares_are_whole() -> None:
    steps = {0: [call("buy", "X", shares=2.9), call("buy", "X", shares=0.9)]}
    assert [trade.shares for trade in desk_run(steps, BARS).trades] == [2.0]
    (trade,) = desk_run(steps, BARS, whole_shares=False).trades
    assert trade.shares == pytest.approx(3.8)


@pytest.mark.parametrize("margin", [1.0, 0.5])
def test_what_several_symbols_want_together_ends_at_what_equity_carries(margin: float) -> None:
    result = desk_run({0: [call("buy", name, fraction=1.0 / margin) for name in "AB"]}, two(), margin=margin)
    assert result.positions[1].tolist() == [100.0 / margin, 0.0]


def test_what_the_desk_shows_ends_at_its_bar() -> None:
    seen = []

    class Look:
        def on_bar(self, desk: Any) -> None:
            seen.append(
                (
                    desk.bar,
                    str(desk.time)[:10],
                    len(desk.history("X")),
                    desk.cash,
                    desk.equity,
                    desk.position("X"),
                )
            )

    run_portfolio([BARS], Look())
    assert seen[1] == (1, "2024-01-02", 2, 10_000.0, 10_000.0, 0.0)
    assert [row[2] for row in seen] == [1, 2, 3, 4, 5]


def two() -> list[Bars]:
    return [bars_of([10.0, 10, 10, 10], symbol="A"), bars_of([20.0, 20, NAN, 40], symbol="B")]


def test_one_cash_book_serves_all_symbols() -> None:
    result = desk_run({0: [call("buy", "A", fraction=0.5), call("buy", "B", fraction=1.0)]}, two())
    assert {trade.symbol: trade.shares for trade in result.trades} == {"A": 50.0, "B": 25.0}
    assert result.equity.tolist() == [1000.0, 1000.0, 1000.0, 1500.0]  # the missing bar keeps the last close
    assert result.positions[:, 1].tolist() == [0.0, 25.0, 25.0, 25.0]


def test_ragged_histories_are_aligned_by_time() -> None:
    early, late = load_bars("GOOG")[:300], load_bars("GOOG")[100:400]
    late = Bars(
        **{name: getattr(late, name) for name in ("timestamps", "open", "high", "low", "close", "volume")},
        symbol="L",
    )
    result = run_portfolio([early, late], MovingAverageCross(fast=3, slow=9))
    assert result.equity.size == 400
    assert {trade.symbol for trade in result.trades} == {"GOOG", "L"}
    assert min(trade.entry_bar for trade in result.trades if trade.symbol == "L") > 100


class Weights:
    def __init__(self, table: list[list[float]]) -> None:
        self.table = table

    def weights(self, panel: Any) -> np.ndarray:
        return np.array(self.table)


def test_target_weights_are_moved_to_at_the_next_open() -> None:
    result = run_portfolio(
        two(), Weights([[0.5, 0.5], [NAN, NAN], [1.0, 0.0], [NAN, NAN]]), settings=Settings(cash=1000.0)
    )
    # at bar 3 B is sold at 40, but A was sized by the equity of that open
    assert result.positions.tolist() == [[0, 0], [50, 25], [50, 25], [150, 0]]


def gapped() -> Bars:
    return bars_of([10.0, NAN, 10, 10], symbol="A")


@pytest.mark.parametrize("weights", [(0.4, 0.4), (0.9, 0.4), (-0.5, 0.4)])
def test_a_target_replaces_one_that_still_waits(weights: tuple[float, float]) -> None:
    """Over a missing bar, by orders as by weights."""
    steps = {bar: [call("target", "A", weight)] for bar, weight in enumerate(weights)}
    table = [[weight] for weight in (*weights, NAN, NAN)]
    by_orders = desk_run(steps, gapped())
    by_weights = run_portfolio([gapped()], Weights(table), settings=Settings(cash=1000.0))
    assert by_orders.positions[:, 0].tolist() == by_weights.positions[:, 0].tolist() == [0, 0, 40, 40]


def test_a_target_leaves_other_orders_alone() -> None:
    first = [call("target", "B", 0.2), call("buy", "A", shares=5), call("buy", "A", shares=1, limit=9.0)]
    script = Script({0: [*first, call("target", "A", 0.9)], 1: [call("target", "A", 0.1), call("cancel", 3)]})
    result = run_portfolio(
        [gapped(), bars_of([10.0, NAN, 10, 10], symbol="B")], script, settings=Settings(cash=1000.0)
    )
    assert result.changes == ((2, 1, 20.0), (2, 0, 5.0), (2, 0, 5.0))
    assert script.answers[-1] is True


@pytest.mark.parametrize("weight", [0.5, -0.2])
@pytest.mark.parametrize(
    "other", [call("close", "X"), call("buy", "X", shares=1), call("sell", "X", shares=2)]
)
def test_a_target_is_reached_whatever_fills_before_it(other: Any, weight: float) -> None:
    steps = {0: [call("target", "X", 0.4)], 1: [other, call("target", "X", weight)]}
    result = desk_run(steps, bars_of([100.0, 100, 100, 100]))
    assert result.positions[:, 0].tolist() == [0.0, 4.0, weight * 10, weight * 10]


def test_a_target_that_cannot_be_leaves_the_waiting_one() -> None:
    class Hasty:
        def on_bar(self, desk: Any) -> None:
            if desk.bar == 0:
                desk.target("A", 0.4)
            if desk.bar == 1:
                with pytest.raises(SettingError):
                    desk.target("A", float("nan"))

    result = run_portfolio([gapped()], Hasty(), settings=Settings(cash=1000.0))
    assert result.positions[-1].tolist() == [40.0]


def test_short_weights_sell() -> None:
    result = run_portfolio(
        two(), Weights([[-0.5, 0.5], [NAN, NAN], [NAN, NAN], [NAN, NAN]]), settings=Settings(cash=1000.0)
    )
    assert result.positions[1].tolist() == [-50.0, 25.0]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[0.5, 0.5]], r"shape \(1, 2\), expected \(4, 2\)"),
        (
            [[NAN, NAN], [0.9, -0.9], [NAN, NAN], [NAN, NAN]],
            "bar 1 add up to 1.8 without sign, expected at most 1",
        ),
        ([[np.inf, 0], [0, 0], [0, 0], [0, 0]], "bar 0 add up to inf"),
    ],
)
def test_weights_that_cannot_be_are_refused(table: list[list[float]], message: str) -> None:
    with pytest.raises(StrategyError, match=f"Weights.weights .*{message}"):
        run_portfolio(two(), Weights(table))


def test_a_ruined_account_is_liquidated_with_a_margin_trade() -> None:
    result = desk_run({0: [call("sell", "X", shares=10)]}, bars_of([100.0, 100, 210, 220, 220]))
    assert [(trade.exit_bar, trade.reason) for trade in result.trades] == [(3, "margin")]


def test_fixed_shares_size_signals_of_many_symbols() -> None:
    scripted = Scripted((BUY, HOLD, EXIT, HOLD))
    result = run_portfolio(two(), scripted, settings=Settings(cash=1000.0, sizing=FixedShares(shares=3)))
    assert sorted((trade.symbol, trade.shares) for trade in result.trades) == [("A", 3.0), ("B", 3.0)]


def test_a_volatility_target_is_shared_by_many_symbols() -> None:
    bars, codes = load_bars("GOOG")[:40], [HOLD] * 40
    codes[30] = BUY
    twin = Bars(
        **{name: getattr(bars, name) for name in ("timestamps", "open", "high", "low", "close", "volume")},
        symbol="TWIN",
    )
    chosen = Settings(sizing=VolatilityTarget(annual=0.1), whole_shares=False)
    (alone,) = run_portfolio([bars], Scripted(tuple(codes)), settings=chosen).trades
    both = run_portfolio([bars, twin], Scripted(tuple(codes)), settings=chosen).trades
    assert [trade.shares for trade in both] == pytest.approx([alone.shares / 2.0] * 2)


def test_reversing_signals_go_from_long_to_short() -> None:
    result = run_portfolio(
        [bars_of([10.0, 10, 10, 10])], Scripted((BUY, SELL, HOLD, HOLD)), settings=Settings(cash=100.0)
    )
    assert result.positions[:, 0].tolist() == [0.0, 10.0, -10.0, -10.0]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (call("buy", "Y", shares=1), "symbol 'Y' is not on the desk: expected one of X"),
        (call("buy", "X"), "an order has one size, got 0"),
        (call("buy", "X", shares=1, fraction=0.5), "an order has one size, got 2"),
        (call("buy", "X", shares=-1), "shares is -1"),
        (call("buy", "X", shares=1, limit=0.0), "limit is 0.0"),
        (call("buy", "X", shares=1, stop=NAN), "stop is nan"),
        (call("buy", "X", shares=1, trailing=1.5), "trailing is 1.5"),
        (call("buy", "X", shares=1, trailing=0.1, limit=3.0), "neither limit nor stop"),
        (call("buy", "X", shares=1, expires=0), "expires is 0"),
        (call("buy", "X", shares=1, colour="red"), "no such term"),
        (call("target", "X", float("inf")), "weight is inf"),
        (call("target", "X", -1.1), r"weight is -1\.1: expected at most 1 times equity"),
        (call("buy", "X", fraction=3.0), r"fraction is 3\.0: expected at most 1 times equity"),
    ],
)
def test_orders_that_cannot_be_are_refused(steps: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        desk_run({0: [steps]}, BARS)


def test_a_strategy_that_raises_is_named_with_its_bar() -> None:
    class Broken:
        def on_bar(self, desk: Any) -> None:
            if desk.bar == 2:
                raise KeyError("gone")

    with pytest.raises(StrategyError, match="Broken raised KeyError at bar 2: 'gone'"):
        run_portfolio([BARS], Broken())


@pytest.mark.parametrize(
    ("bars", "message"),
    [
        ([], "no bars were given"),
        ([BARS, BARS], "symbol 'X' was given twice"),
        (
            [load_bars("FB"), resample(load_bars("IBM"), parse_timeframe("1w"))],
            "timeframes differ .*FB is 1d stocks",
        ),
    ],
)
def test_bars_that_do_not_go_together_are_refused(bars: list[Bars], message: str) -> None:
    with pytest.raises(DataError, match=message):
        run_portfolio(bars, MovingAverageCross())
