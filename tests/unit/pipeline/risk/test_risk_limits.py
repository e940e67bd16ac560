from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.risk import Limits, Order, Portfolio, Position, allowed, exposure
from pytest_tradeperf.pipeline.risk.portfolio import gross_value

WIDE = Limits(
    max_position=math.inf, max_sector=math.inf, max_gross=math.inf, max_net=math.inf, max_short=math.inf,
    max_positions=1_000, max_loss_at_stop=math.inf, max_daily_loss=math.inf, max_drawdown=math.inf, min_cash=0.0,
)  # fmt: skip


def wide(**changes: Any) -> Limits:
    values = {name: getattr(WIDE, name) for name in Limits.__dataclass_fields__}
    return Limits(**(values | changes))


def held(symbol: str, quantity: float, price: float = 10.0, sector: str = "") -> Position:
    return Position(symbol=symbol, quantity=quantity, price=price, sector=sector)


def order(quantity: float, **changes: Any) -> Order:
    values: dict[str, Any] = {"symbol": "A", "quantity": quantity, "price": 10.0}
    return Order(**(values | changes))


@pytest.mark.parametrize(
    ("limits", "positions", "wanted", "quantity", "cut_by"),
    [
        (wide(), (), 50, 50, ()),
        (wide(max_position=0.2), (), 50, 20, ("max_position",)),
        (wide(max_position=0.2), (), -50, -20, ("max_position",)),
        (wide(max_position=0.2), (held("A", 15),), 50, 5, ("max_position",)),
        (wide(max_gross=0.5), (held("B", -20),), 50, 30, ("max_gross",)),
        (wide(max_net=0.5), (held("B", 20),), 50, 30, ("max_net",)),
        (wide(max_net=0.5), (held("B", -20),), 80, 70, ("max_net",)),
        (wide(max_short=0.3), (held("B", -20),), -50, -10, ("max_short",)),
        (wide(max_positions=1), (held("B", 1),), 50, 0, ("max_positions",)),
        (wide(max_positions=1), (held("A", 1),), 50, 50, ()),
        (wide(min_cash=0.7), (), 50, 30, ("min_cash",)),
        (wide(), (), 500, 100, ("min_cash",)),
        (wide(max_position=0.2, max_gross=0.1), (), 50, 10, ("max_gross", "max_position")),
    ],
)
def test_each_limit_cuts_by_hand(
    limits: Limits, positions: tuple[Position, ...], wanted: float, quantity: float, cut_by: tuple[str, ...]
) -> None:
    cash = 1_000 - sum(position.value for position in positions)
    answer = allowed(order(wanted), Portfolio(cash=cash, positions=positions), limits)
    assert (answer.quantity, answer.cut_by) == (quantity, cut_by)


def test_a_sector_is_limited_together_and_none_is_no_sector() -> None:
    portfolio = Portfolio(cash=800, positions=(held("B", -20, sector="tech"), held("C", 40)))
    limits = wide(max_sector=0.3)
    assert allowed(order(50, sector="tech"), portfolio, limits).quantity == 10
    assert allowed(order(50), portfolio, limits).quantity == 50


def test_a_held_symbol_brings_its_sector_along() -> None:
    portfolio = Portfolio(cash=800, positions=(held("A", 20, sector="tech"),))
    assert allowed(order(50), portfolio, wide(max_sector=0.3)).cut_by == ("max_sector",)


def test_the_loss_at_the_stop_is_limited() -> None:
    portfolio = Portfolio(cash=1_000)
    assert allowed(order(50, stop_price=9.5), portfolio, wide(max_loss_at_stop=0.01)).quantity == 20
    assert allowed(order(-50, stop_price=10.5), portfolio, wide(max_loss_at_stop=0.01)).quantity == -20
    assert allowed(order(50), portfolio, wide(max_loss_at_stop=0.01)).quantity == 50
    assert allowed(order(50, stop_price=10.0), portfolio, wide(max_loss_at_stop=0.01)).quantity == 50


@pytest.mark.parametrize(
    ("name", "before"), [("max_daily_loss", "day_start_equity"), ("max_drawdown", "peak_equity")]
)
def test_losses_stop_opening_but_never_closing(name: str, before: str) -> None:
    state: dict[str, Any] = {"cash": 900, "positions": (held("A", 10),), before: 1_112.0}
    limits = wide(**{name: 0.1})
    assert allowed(order(5), Portfolio(**state), limits).cut_by == (name,)
    assert allowed(order(-5), Portfolio(**state), limits).quantity == -5
    assert allowed(order(-15), Portfolio(**state), limits).quantity == -10
    assert allowed(order(5), Portfolio(**(state | {before: 1_110.0})), limits).quantity == 5
    assert allowed(order(5), Portfolio(**(state | {before: 1_000.0})), wide(**{name: 0.0})).quantity == 5
    assert allowed(order(5), Portfolio(**(state | {before: 1_001.0})), wide(**{name: 0.0})).quantity == 0


def test_turning_a_position_closes_all_of_it_and_limits_the_rest() -> None:
    portfolio = Portfolio(cash=500, positions=(held("A", 50),))
    answer = allowed(order(-100), portfolio, wide(max_short=0.2))
    assert (answer.quantity, answer.cut_by) == (-70, ("max_short",))


def test_what_closes_is_allowed_even_when_everything_is_broken() -> None:
    portfolio = Portfolio(cash=-10_000, positions=(held("A", 50.5), held("B", -50)))
    assert allowed(order(-60), portfolio, Limits()).quantity == -50.5
    assert allowed(order(-60), portfolio, Limits()).cut_by == ("equity",)
    assert allowed(order(20, symbol="B"), portfolio, Limits()).quantity == 20


@pytest.mark.parametrize(
    ("lot", "quantity"), [(1.0, 33.0), (5.0, 30.0), (0.5, 33.0), (100.0, 0.0), (0.1, 33.3)]
)
def test_quantities_are_rounded_down_to_lots(lot: float, quantity: float) -> None:
    answer = allowed(order(100), Portfolio(cash=1_000), wide(max_position=0.3333), lot=lot)
    assert answer.quantity == pytest.approx(quantity)


def test_an_order_of_nothing_is_allowed_nothing() -> None:
    assert allowed(order(0), Portfolio(cash=1_000), Limits()).cut_by == ()


PRICES = st.floats(0.5, 200)
QUANTITIES = st.integers(-300, 300).map(float)


@given(
    quantities=st.lists(QUANTITIES, max_size=4), prices=st.lists(PRICES, min_size=5, max_size=5),
    cash=st.floats(1_000, 100_000), wanted=QUANTITIES, symbol=st.sampled_from("ABCDE"),
    limits=st.builds(
        Limits, max_position=st.floats(0, 1), max_sector=st.floats(0, 1), max_gross=st.floats(0, 2),
        max_net=st.floats(0, 1), max_short=st.floats(0, 1), max_positions=st.integers(0, 5),
        min_cash=st.floats(0, 1),
    ),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_after_the_fill_no_limit_is_newly_broken(
    *, quantities: list[float], prices: list[float], cash: float, wanted: float, symbol: str, limits: Limits
) -> None:
    positions = tuple(
        held(name, quantity, price, sector="XY"[place % 2])
        for place, (name, quantity, price) in enumerate(zip("ABCD", quantities, prices, strict=False))
        if quantity
    )
    price = next((position.price for position in positions if position.symbol == symbol), prices[4])
    before = Portfolio(cash=cash, positions=positions)
    sector = next((position.sector for position in positions if position.symbol == symbol), "X")
    asked = Order(symbol=symbol, quantity=wanted, price=price, sector=sector)
    answer = allowed(asked, before, limits)
    assert abs(answer.quantity) <= abs(wanted)
    assert answer.quantity * wanted >= 0
    assert bool(answer.cut_by) == (abs(answer.quantity) < abs(wanted))
    own = next((position.quantity for position in positions if position.symbol == symbol), 0.0)
    if abs(own + answer.quantity) <= abs(own):
        return  # only closed
    others = tuple(position for position in positions if position.symbol != symbol)
    now = held(symbol, own + answer.quantity, price, sector)
    after = Portfolio(cash=cash - answer.quantity * price, positions=(*others, now))
    seen, room = exposure(after), 1 + 1e-6
    assert abs(seen.by_symbol[symbol]) <= limits.max_position * room
    assert seen.gross <= limits.max_gross * room
    assert math.copysign(1, wanted) * seen.net <= limits.max_net * room + 1e-9
    assert gross_value(after.positions, sector) <= limits.max_sector * after.equity * room
    assert len(after.positions) <= limits.max_positions or own != 0
    if wanted > 0:
        assert after.cash >= limits.min_cash * after.equity - 1e-6 * after.equity
    else:
        assert seen.short <= limits.max_short * room


@pytest.mark.parametrize("value", [-0.1, float("nan"), True, "10%", None])
def test_limits_are_numbers_from_zero(value: Any) -> None:
    with pytest.raises(SettingError, match="max_gross is"):
        Limits(max_gross=value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: order(float("nan")), "quantity of A is nan"),
        (lambda: order(1, price=0), "price of A is 0: expected a number above 0"),
        (lambda: order(1, stop_price=11.0), "a purchase at 10.0 has it below"),
        (lambda: order(-1, stop_price=9.0), "a sale at 10.0 has it above"),
        (lambda: held("A", math.inf), "quantity of A is inf"),
        (lambda: held("A", 1, -1), "price of A is -1"),
        (lambda: Portfolio(cash=math.nan), "cash is nan"),
        (lambda: Portfolio(cash=1, peak_equity=0), "peak_equity is 0"),
        (lambda: Portfolio(cash=1, positions=(held("A", 1), held("A", 2))), "holds 'A' twice"),
        (lambda: allowed(order(1), Portfolio(cash=1), Limits(), lot=0), "lot is 0"),
    ],
)
def test_numbers_that_cannot_be_meant_are_named(make: Any, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        make()
