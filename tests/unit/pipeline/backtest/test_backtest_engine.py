from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from backtest_worlds import Scripted, bars_of
from test_backtest_identity import needs_numba

from pytest_tradeperf.pipeline.backtest import (
    Breakout,
    Costs,
    FixedShares,
    Fraction,
    MovingAverageCross,
    Stops,
    VolatilityTarget,
    compiled,
    run_backtest,
)
from pytest_tradeperf.pipeline.backtest.signals import BUY
from pytest_tradeperf.pipeline.errors import DataError, EngineError, SettingError, StrategyError
from pytest_tradeperf.pipeline.marketdata import load_bars

BARS = bars_of([10.0, 11.0, 12.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cash": 0.0}, "cash is 0.0: expected a finite number and above 0"),
        ({"cash": float("nan")}, "cash is nan"),
        ({"cash": "lots"}, "cash is 'lots': expected a finite number"),
        ({"fees_bps": float("inf")}, "fees_bps is inf"),
        ({"fees_bps": -1.0}, "fees_bps is -1.0: expected a finite number and 0 or more"),
        ({"fees_bps": 10_000.0}, "would take the whole price"),
        ({"margin": 0.0}, "margin is 0.0"),
        ({"margin": 2.0}, "margin is 2.0: expected a fraction of at most 1"),
        ({"maintenance": 1.0}, "maintenance is 1.0: expected a finite number and 0 or more and below 1"),
        ({"sizing": 3}, "sizing is 3: expected a sizing record"),
        ({"fees_bps": 1.0, "costs": Costs()}, "both set the fee"),
        ({"fill": "yesterday"}, "fill is 'yesterday': expected one of next_open, same_close"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        run_backtest(BARS, Scripted((0, 0, 0)), **options)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros(2, dtype=np.int8), r"shape \(2,\), expected \(3,\)"),
        (np.zeros((3, 1), dtype=np.int8), r"shape \(3, 1\)"),
        (None, r"shape \(\)"),
        (np.zeros(3), "dtype float64"),
        (np.array([0, 7, 0]), "7 at bar 1"),
        (np.array([0, 300, 0]), "codes outside of"),
    ],
)
def test_a_wrong_answer_of_a_strategy_is_refused_by_name(answer: object, message: str) -> None:
    class Odd:
        def signals(self, bars: object) -> object:
            return answer

    with pytest.raises(StrategyError, match=f"Odd.signals answered .*{message}"):
        run_backtest(BARS, Odd())  # type: ignore[arg-type]


def test_a_strategy_that_raises_is_named_with_its_error() -> None:
    class Broken:
        def signals(self, bars: object) -> np.ndarray:
            raise ZeroDivisionError("by nothing")

    with pytest.raises(StrategyError, match=r"Broken\.signals raised ZeroDivisionError on X: by nothing"):
        run_backtest(BARS, Broken())


def test_something_that_is_no_strategy_is_refused() -> None:
    with pytest.raises(StrategyError, match=r"has no method signals\(bars\)"):
        run_backtest(BARS, "ma-cross")  # type: ignore[arg-type]


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(EngineError, match="engine 'warp' does not exist"):
        run_backtest(BARS, Scripted((0, 0, 0)), engine="warp")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "strategy", [MovingAverageCross(), MovingAverageCross(average="ema", side="both"), Breakout()]
)
def test_bundled_strategies_trade_on_real_bars(strategy: MovingAverageCross | Breakout) -> None:
    assert run_backtest(load_bars("GOOG"), strategy).n_trades > 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Costs(slippage_bps=1e5), "would take the whole price"),
        (lambda: Costs(fee_fixed=float("nan")), "fee_fixed is nan"),
        (
            lambda: Costs(fee=3),  # type: ignore[arg-type]
            "fee is 3: expected a function",
        ),
        (lambda: Costs(fee=lambda shares, price: 1.0, fees_bps=1), "give one or the other"),
        (lambda: Fraction(fraction=0.0), "fraction is 0.0"),
        (lambda: FixedShares(shares=-1.0), "shares is -1.0"),
        (lambda: VolatilityTarget(window=1), "window is 1"),
        (lambda: Stops(stop_loss=1.0), "stop_loss is 1.0: expected a finite number and above 0 and below 1"),
        (lambda: Stops(trailing=0.0), "trailing is 0.0"),
    ],
)
def test_records_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make()


def test_a_fast_engine_refuses_by_name_what_it_lacks() -> None:
    with pytest.raises(
        EngineError, match="'lanes' does not support stop_loss, take_profit and trailing: use"
    ):
        run_backtest(BARS, Scripted((0, 0, 0)), stops=Stops(stop_loss=0.1), engine="lanes")
    with pytest.raises(EngineError, match="'compiled' does not support a fee function"):
        run_backtest(BARS, Scripted((0, 0, 0)), costs=Costs(fee=lambda shares, price: 1.0), engine="compiled")


def test_the_default_engine_is_lanes_or_says_why_not() -> None:
    assert run_backtest(BARS, Scripted((0, 0, 0))).engine == "lanes"
    careful = run_backtest(BARS, Scripted((0, 0, 0)), stops=Stops(stop_loss=0.1))
    assert (careful.engine, careful.note) == (
        "reference",
        "reference instead of lanes, which lacks stop_loss, take_profit and trailing",
    )


@needs_numba
def test_the_default_engine_is_compiled_where_that_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled.prepare()
    monkeypatch.undo()  # what the fixture of these tests hides
    result = run_backtest(BARS, Scripted((BUY, 0, 0)), stops=Stops(stop_loss=0.1))
    assert (result.engine, result.note) == ("compiled", "compiled, which is loaded already")
    truth = run_backtest(BARS, Scripted((BUY, 0, 0)), stops=Stops(stop_loss=0.1), engine="reference")
    assert result.digest == truth.digest
    paid = run_backtest(BARS, Scripted((BUY, 0, 0)), costs=Costs(fee=lambda shares, price: 1.0))
    assert (paid.engine, paid.note) == (
        "reference",
        "reference instead of compiled, which lacks a fee function",
    )


def test_a_kernel_still_being_imported_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, compiled.KERNEL, ModuleType(compiled.KERNEL))
    assert not compiled.is_loaded()


@pytest.mark.parametrize("answer", [-1.0, float("nan"), float("inf")])
def test_a_fee_function_that_answers_nonsense_is_refused(answer: float) -> None:
    with pytest.raises(SettingError, match=r"fee\(.*expected a finite number and 0 or more"):
        run_backtest(BARS, Scripted((1, 0, 0)), costs=Costs(fee=lambda shares, price: answer))


def test_bars_of_another_kind_are_refused() -> None:
    with pytest.raises(DataError, match="bars are a list: expected Bars"):
        run_backtest([1.0], Scripted((0,)))  # type: ignore[arg-type]
