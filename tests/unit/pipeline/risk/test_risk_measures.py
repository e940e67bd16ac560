from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from pytest_tradeperf.pipeline import risk
from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.risk import Portfolio, Position


def test_exposure_by_hand() -> None:
    positions = (
        Position(symbol="A", quantity=30, price=10, sector="tech"),
        Position(symbol="B", quantity=-10, price=10, sector="tech"),
        Position(symbol="C", quantity=10, price=10),
    )
    seen = risk.exposure(Portfolio(cash=700, positions=positions))
    assert (seen.equity, seen.gross, seen.net, seen.long, seen.short) == (1_000, 0.5, 0.3, 0.4, 0.1)
    assert seen.by_symbol == {"A": 0.3, "B": -0.1, "C": 0.1}
    assert seen.by_sector == {"tech": 0.4}


def test_exposure_without_equity_is_unknown() -> None:
    assert math.isnan(risk.exposure(Portfolio(cash=-1.0)).gross)
    assert math.isnan(risk.stressed(Portfolio(cash=0.0), {}))


def test_a_shock_moves_what_is_held() -> None:
    positions = (Position(symbol="A", quantity=50, price=10), Position(symbol="B", quantity=-20, price=10))
    portfolio = Portfolio(cash=700, positions=positions)
    assert risk.stressed(portfolio, {"A": -0.5}) == pytest.approx(-0.25)
    assert risk.stressed(portfolio, {"B": -1.0}, others=0.1) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("sized", "quantity"),
    [
        (lambda: risk.size_by_fraction(10_000, 50.0, 0.1), 20.0),
        (lambda: risk.size_by_fraction(-5.0, 50.0, 0.1), 0.0),
        (lambda: risk.size_by_stop(10_000, 50.0, 55.0, 0.01), 20.0),
        (lambda: risk.size_by_volatility(10_000, 50.0, 0.4, 0.1), 50.0),
        (lambda: risk.kelly_fraction(0.6, 1.0, 1.0), 0.2),
        (lambda: risk.kelly_fraction(0.6, 1.0), 0.1),
        (lambda: risk.kelly_fraction(0.4, 1.0), 0.0),
        (lambda: risk.kelly_fraction(0.5, 2.0, 1.0), 0.25),
    ],
)
def test_sizes_by_hand(sized: Any, quantity: float) -> None:
    assert sized() == pytest.approx(quantity)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: risk.size_by_fraction(1, 0, 0.1), "price is 0"),
        (lambda: risk.size_by_fraction(1, 1, 1.1), "fraction is 1.1"),
        (lambda: risk.size_by_stop(1, 1, 1), "the price itself"),
        (lambda: risk.size_by_stop(1, 1, 2, math.nan), "risk is nan"),
        (lambda: risk.size_by_volatility(1, 1, 0), "volatility is 0"),
        (lambda: risk.kelly_fraction(1.5, 1), "win_rate is 1.5"),
        (lambda: risk.kelly_fraction(0.5, -1), "payoff is -1"),
        (lambda: risk.stressed(Portfolio(cash=1), {"A": -1.5}), "shock of A is -1.5"),
        (lambda: risk.stressed(Portfolio(cash=1), {}, others=math.inf), "shock of others is inf"),
        (lambda: risk.value_at_risk([0.1], 1.0), "level is 1.0"),
        (lambda: risk.annual_volatility([0.1], 0), "periods_per_year is 0"),
    ],
)
def test_arguments_out_of_range_are_named(call: Any, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        call()


def test_kelly_grows_fastest() -> None:
    best = risk.kelly_fraction(0.55, 1.5, 1.0)

    def growth(fraction: float) -> float:
        return 0.55 * math.log(1 + 1.5 * fraction) + 0.45 * math.log(1 - fraction)

    assert growth(best) > growth(best + 0.01)
    assert growth(best) > growth(best - 0.01)


def test_value_at_risk_of_a_hundred_losses() -> None:
    returns = -np.arange(1, 101) / 1_000
    assert risk.value_at_risk(returns, 0.95) == pytest.approx((0.095, 0.0975))
    assert risk.value_at_risk(np.append(returns, np.nan), 0.95)[0] == pytest.approx(0.095)
    assert risk.value_at_risk([0.5], 0.99) == (-0.5, -0.5)
    assert all(map(math.isnan, risk.value_at_risk([])))


def test_volatility_is_annual() -> None:
    assert risk.annual_volatility([0.01, -0.01], 4) == pytest.approx(math.sqrt(0.0002) * 2)
    assert math.isnan(risk.annual_volatility([0.01]))


def test_importing_it_loads_nothing_heavy() -> None:
    program = (
        "import sys, pytest_tradeperf.pipeline.risk as risk\n"
        "risk.allowed(risk.Order(symbol='A', quantity=5, price=1.0), risk.Portfolio(cash=9), risk.Limits())\n"
        "heavy = {'numpy', 'pandas', 'sqlalchemy', 'matplotlib', 'asyncio', 'pytest'} & set(sys.modules)\n"
        "print(sorted(heavy), len([name for name in sys.modules if name.startswith('pytest_tradeperf')]))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split()[0] == "[]"
    assert int(run.stdout.split()[1]) <= 10
