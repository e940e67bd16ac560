"""Every fast engine equals the reference to the last bit, on worlds nobody chose."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from backtest_worlds import Scripted
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tradeperf.pipeline.backtest import (
    BacktestResult,
    Costs,
    FixedShares,
    Fraction,
    MovingAverageCross,
    Stops,
    VolatilityTarget,
    run_backtest,
)
from pytest_tradeperf.pipeline.backtest.compiled import rows_compiled
from pytest_tradeperf.pipeline.backtest.lanes import rows_in_lanes
from pytest_tradeperf.pipeline.backtest.plan import plan_of
from pytest_tradeperf.pipeline.backtest.reference import simulate
from pytest_tradeperf.pipeline.backtest.settings import Settings
from pytest_tradeperf.pipeline.backtest.totals import TOTAL_NAMES, rows_of, totals_from_rows, totals_of
from pytest_tradeperf.pipeline.marketdata import Bars, load_bars

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
ENGINES = ["lanes", pytest.param("compiled", marks=needs_numba)]
N_BARS = st.integers(0, 40)


@st.composite
def worlds(draw: st.DrawFn, n_lanes: int = 1) -> tuple[Bars, np.ndarray]:
    """Bars with jumps (splits, crashes), missing bars and zero volume, and random codes for them."""
    n_bars = draw(N_BARS)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    jump = draw(st.sampled_from([0.001, 0.03, 0.5]))
    close = draw(st.sampled_from([0.5, 20.0, 3000.0])) * np.exp(np.cumsum(random.normal(0, jump, n_bars)))
    open_ = close * np.exp(random.normal(0, jump / 2, n_bars))
    reach = np.exp(np.abs(random.normal(0, jump, n_bars)))
    high, low = np.maximum(open_, close) * reach, np.minimum(open_, close) / reach
    missing = random.random(n_bars) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    for column in (open_, high, low, close):
        column[missing] = np.nan
    days = np.datetime64("2020-01-01") + np.arange(n_bars)
    bars = Bars(
        symbol="H",
        timestamps=days.astype("datetime64[ns]"),
        open=open_,
        high=high,
        low=low,
        close=close,
        volume=np.where(random.random(n_bars) < 0.2, 0.0, 100.0),
    )
    often = draw(st.sampled_from([0.05, 0.5, 1.0]))
    codes = np.where(random.random((n_lanes, n_bars)) < often, random.integers(-1, 3, (n_lanes, n_bars)), 0)
    return bars, codes.astype(np.int8)


costs = st.builds(
    Costs,
    fees_bps=st.sampled_from([0.0, 7.0, 300.0]),
    fee_fixed=st.sampled_from([0.0, 1.5, 2000.0]),
    slippage_bps=st.sampled_from([0.0, 3.0]),
    spread_bps=st.sampled_from([0.0, 11.0]),
)
sized = st.sampled_from(
    [
        {"margin": 1.0, "sizing": Fraction()},
        {"margin": 1.0, "sizing": Fraction(fraction=0.37)},
        {"margin": 1.0, "sizing": FixedShares(shares=3.7)},
        {"margin": 1.0, "sizing": VolatilityTarget(window=3)},
        {"margin": 0.4, "sizing": Fraction()},
        {"margin": 0.4, "sizing": Fraction(fraction=1.9)},
        {"margin": 0.3, "sizing": Fraction(fraction=1.0 / 0.3)},
        {"margin": 0.4, "sizing": FixedShares(shares=3.7)},
        {"margin": 0.4, "sizing": VolatilityTarget(annual=0.1, window=3)},
        {"margin": 0.4, "sizing": VolatilityTarget(window=3, cap=2.5)},
    ]
)
fractions = st.none() | st.sampled_from([0.01, 0.1, 0.4])
other_options = st.fixed_dictionaries(
    {
        "cash": st.sampled_from([100.0, 10_000.0]),
        "costs": costs,
        "whole_shares": st.booleans(),
        "fill": st.sampled_from(["next_open", "same_close"]),
        "close_final": st.booleans(),
        "maintenance": st.sampled_from([0.0, 0.3]),
    }
)
options = st.builds(lambda some, more: some | more, other_options, sized)
stops = st.builds(Stops, stop_loss=fractions, take_profit=fractions, trailing=fractions)


def assert_identical(fast: BacktestResult, truth: BacktestResult) -> None:
    np.testing.assert_array_equal(fast.equity, truth.equity)
    assert fast.trades == truth.trades
    assert fast.digest == truth.digest
    expected = totals_of(truth.equity, truth.columns, cash=truth.settings.cash)
    for name in TOTAL_NAMES:
        np.testing.assert_array_equal(getattr(fast.totals, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=200, deadline=None)
@given(world=worlds(), chosen=options)
def test_a_run_is_bit_identical_to_the_reference(
    engine: Any, world: tuple[Bars, np.ndarray], chosen: dict[str, Any]
) -> None:
    bars, codes = world
    strategy = Scripted(tuple(codes[0].tolist()))
    truth = run_backtest(bars, strategy, engine="reference", **chosen)
    assert_identical(run_backtest(bars, strategy, engine=engine, **chosen), truth)


@needs_numba
@settings(max_examples=200, deadline=None)
@given(world=worlds(), chosen=options, stop=stops)
def test_stops_are_bit_identical_when_compiled(
    world: tuple[Bars, np.ndarray], chosen: dict[str, Any], stop: Stops
) -> None:
    bars, codes = world
    strategy = Scripted(tuple(codes[0].tolist()))
    truth = run_backtest(bars, strategy, engine="reference", stops=stop, **chosen)
    assert_identical(run_backtest(bars, strategy, engine="compiled", stops=stop, **chosen), truth)


@pytest.mark.parametrize("many", [rows_in_lanes, pytest.param(rows_compiled, marks=needs_numba)])
@settings(max_examples=100, deadline=None)
@given(world=worlds(n_lanes=7), chosen=options)
def test_totals_of_many_runs_are_those_of_single_runs(
    many: Any, world: tuple[Bars, np.ndarray], chosen: dict[str, Any]
) -> None:
    bars, codes = world
    plan = plan_of(bars, Settings(**chosen))
    together = totals_from_rows(many(plan, codes))
    for lane, row in enumerate(codes):
        alone = totals_of(*simulate(plan, row), cash=plan.settings.cash)
        for name in TOTAL_NAMES:
            np.testing.assert_array_equal(
                getattr(together, name)[lane], getattr(alone, name)[0], err_msg=name
            )


@pytest.mark.parametrize("many", [rows_in_lanes, pytest.param(rows_compiled, marks=needs_numba)])
@pytest.mark.parametrize("n_lanes", [1, 127, 128, 129, 300])
def test_any_number_of_runs_fills_the_lanes(many: Any, n_lanes: int) -> None:
    """Chunks end in their middle, and lanes trade from not at all to on every bar."""
    bars = load_bars("FB")
    random = np.random.default_rng(n_lanes)
    often = np.linspace(0.0, 1.0, n_lanes)[:, np.newaxis]
    shape = (n_lanes, len(bars))
    codes = np.where(random.random(shape) < often, random.integers(-1, 3, shape), 0).astype(np.int8)
    plan = plan_of(bars, Settings(costs=Costs(fees_bps=5.0)))
    expected = [rows_of(totals_of(*simulate(plan, row), cash=10_000.0))[0] for row in codes]
    np.testing.assert_array_equal(many(plan, codes), expected)


@pytest.mark.parametrize("many", [rows_in_lanes, pytest.param(rows_compiled, marks=needs_numba)])
def test_equity_of_exactly_zero_is_no_division_by_zero(many: Any) -> None:
    """Five shares for all the cash, and a fee at the exit that takes what they bring."""
    flat = np.full(6, 1.0)
    days = np.datetime64("2020-01-01") + np.arange(6)
    bars = Bars(
        symbol="Z", timestamps=days.astype("datetime64[ns]"), open=flat, high=flat, low=flat, close=flat, volume=flat
    )  # fmt: skip
    plan = plan_of(bars, Settings(cash=10.0, costs=Costs(fee_fixed=5.0)))
    codes = np.array([[1, 2, 0, 0, 0, 0]], dtype=np.int8)
    alone = rows_of(totals_of(*simulate(plan, codes[0]), cash=10.0))
    assert alone[0, TOTAL_NAMES.index("final_equity")] == 0.0
    np.testing.assert_array_equal(many(plan, codes), alone)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("symbol", ["AAPL", "FB"])
def test_real_bars_are_bit_identical_too(engine: Any, symbol: str) -> None:
    strategy = MovingAverageCross(fast=5, slow=20, side="both")
    truth = run_backtest(load_bars(symbol), strategy, fees_bps=5, engine="reference")
    assert truth.n_trades > 4
    assert_identical(run_backtest(load_bars(symbol), strategy, fees_bps=5, engine=engine), truth)
