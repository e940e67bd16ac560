from __future__ import annotations

import asyncio

import pytest

from pytest_tradeperf.pipeline.net.flight import SingleFlight


class Work:
    """Counts its calls and waits for the word to go."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.started = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self) -> int:
        self.calls += 1
        self.started.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.calls


@pytest.mark.asyncio
async def test_a_hundred_callers_share_one_call() -> None:
    flights: SingleFlight[int] = SingleFlight()
    work = Work()
    callers = [asyncio.ensure_future(flights.run("key", work)) for _ in range(100)]
    await work.started.wait()
    work.go.set()
    assert await asyncio.gather(*callers) == [1] * 100
    assert work.calls == 1
    assert len(flights) == 0


@pytest.mark.asyncio
async def test_the_next_call_after_the_end_works_anew() -> None:
    flights: SingleFlight[int] = SingleFlight()
    work = Work()
    work.go.set()
    assert await flights.run("key", work) == 1
    assert await flights.run("key", work) == 2


@pytest.mark.asyncio
async def test_one_caller_s_cancellation_leaves_the_others_alone() -> None:
    flights: SingleFlight[int] = SingleFlight()
    work = Work()
    first, second = (asyncio.ensure_future(flights.run("key", work)) for _ in range(2))
    await work.started.wait()
    first.cancel()
    work.go.set()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first
    assert work.cancelled == 0


@pytest.mark.asyncio
async def test_the_last_caller_s_cancellation_ends_the_work_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    flights: SingleFlight[int] = SingleFlight()
    work = Work()
    callers = [asyncio.ensure_future(flights.run("key", work)) for _ in range(3)]
    await work.started.wait()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert work.cancelled == 1
    assert len(flights) == 0
    assert asyncio.all_tasks() == before


@pytest.mark.asyncio
async def test_a_failure_reaches_every_caller_and_is_not_remembered() -> None:
    flights: SingleFlight[int] = SingleFlight()

    async def fail() -> int:
        await asyncio.sleep(0)
        raise LookupError("nope")

    results = await asyncio.gather(*(flights.run("key", fail) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [LookupError] * 3
    work = Work()
    work.go.set()
    assert await flights.run("key", work) == 1
