from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tradeperf.pipeline.net.pacer import Pacer
from pytest_tradeperf.pipeline.net.policy import RateRule
from pytest_tradeperf.pipeline.virtual_time import run as on_virtual_time
from pytest_tradeperf.pipeline.world.core import largest_window


async def writes(pacer: Pacer, starts: list[float]) -> list[float]:
    loop = asyncio.get_running_loop()

    async def one(start: float) -> float:
        await asyncio.sleep(start)
        await pacer.acquire()
        return loop.time()

    return await asyncio.gather(*map(one, starts))


@settings(deadline=None, max_examples=60)
@given(
    limit=st.integers(1, 12),
    period=st.sampled_from([1.0, 5.0, 60.0]),
    starts=st.lists(st.floats(0, 10), min_size=1, max_size=60),
    # a little less than the pacer reckons with: sums of seconds are rounded in the last place
    transit=st.lists(st.floats(0, 0.05 - 1e-9), min_size=60, max_size=60),
)
def test_no_window_at_the_server_ever_exceeds_the_rule(
    limit: int, period: float, starts: list[float], transit: list[float]
) -> None:
    pacer = Pacer((RateRule(limit=limit, period_s=period),), transit_s=0.05)
    written = on_virtual_time(writes(pacer, starts))
    arrived = [moment + delay for moment, delay in zip(written, transit, strict=False)]
    assert largest_window(arrived, period) <= limit


def test_two_rules_hold_at_once() -> None:
    rules = (RateRule(limit=10, period_s=1.0), RateRule(limit=15, period_s=60.0))
    written = on_virtual_time(writes(Pacer(rules, transit_s=0.05), [0.0] * 40))
    assert largest_window(written, 1.0) <= 10
    assert largest_window(written, 60.0) <= 15


def test_the_cost_of_safety_is_the_transit_share() -> None:
    pacer = Pacer((RateRule(limit=10, period_s=1.0),), transit_s=0.05)
    written = on_virtual_time(writes(pacer, [0.0] * 41))
    # 41 requests need 4 full windows
    assert 4 * 1.05 <= written[-1] <= 4 * 1.05 + 0.02


def test_four_fifths_of_a_window_go_at_one_blow_and_the_rest_is_spread() -> None:
    written = on_virtual_time(writes(Pacer((RateRule(limit=10, period_s=1.0),)), [0.0] * 20))
    assert largest_window(written, 0.05) == 8
    assert written[-1] == pytest.approx(1.3, abs=0.05)  # as against 1.0 for the fastest the rule allows


def test_an_hourly_rule_lets_the_first_requests_through_at_once() -> None:
    pacer = Pacer((RateRule(limit=200, period_s=3600.0),))
    assert on_virtual_time(writes(pacer, [0.0] * 200))[-1] == pytest.approx(0.0, abs=1e-9)


def test_without_rules_nothing_waits() -> None:
    assert on_virtual_time(writes(Pacer(()), [0.0] * 50)) == [0.0] * 50


def test_a_pause_holds_everyone_back_and_can_be_prolonged() -> None:
    async def run() -> float:
        pacer = Pacer(())
        loop = asyncio.get_running_loop()
        pacer.pause(2.0)
        loop.call_later(1.0, pacer.pause, 5.0)
        await pacer.acquire()
        return loop.time()

    assert on_virtual_time(run()) == pytest.approx(6.0)


def test_a_shorter_pause_does_not_shorten_a_longer_one() -> None:
    async def run() -> float:
        pacer = Pacer(())
        pacer.pause(5.0)
        pacer.pause(1.0)
        await pacer.acquire()
        return asyncio.get_running_loop().time()

    assert on_virtual_time(run()) == pytest.approx(5.0)


def test_a_cancelled_waiter_does_not_block_the_next() -> None:
    async def run() -> float:
        pacer = Pacer((RateRule(limit=1, period_s=10.0),), transit_s=0.0)
        await pacer.acquire()
        waiting = asyncio.ensure_future(pacer.acquire())
        await asyncio.sleep(1.0)
        waiting.cancel()
        await pacer.acquire()
        return asyncio.get_running_loop().time()

    assert on_virtual_time(run()) == pytest.approx(10.0)
