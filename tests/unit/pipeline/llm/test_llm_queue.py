import asyncio
import itertools
import random

import pytest

from pytest_tradeperf.pipeline import virtual_time
from pytest_tradeperf.pipeline.llm.errors import QueueError
from pytest_tradeperf.pipeline.llm.queue import WorkQueue


def work(value, seconds=1.0, log=None):
    async def run():
        if log is not None:
            log.append(value)
        await asyncio.sleep(seconds)
        if isinstance(value, Exception):
            raise value
        return value

    return run


def tasks_left():
    return asyncio.all_tasks() - {asyncio.current_task()}


def test_never_more_runs_at_once_than_workers_and_all_slots_are_used():
    async def main():
        async with WorkQueue(workers=3) as queue:
            await asyncio.gather(*(queue.run(None, work(n)) for n in range(9)))
            return queue.stats(), asyncio.get_running_loop().time()

    stats, seconds = virtual_time.run(main())
    assert (stats.peak_busy, seconds) == (3, 3.0)
    assert stats.completed == stats.requests == 9
    assert (stats.mean_seconds, stats.max_seconds, stats.utilisation) == (1.0, 1.0, 1.0)


def test_the_smallest_priority_number_runs_first_and_equals_in_order_of_arrival():
    log = []

    async def main():
        async with WorkQueue(workers=1) as queue:
            first = await queue.submit(None, work("running", log=log))
            rest = [
                await queue.submit(None, work(name, log=log), priority=p)
                for name, p in (("late", 9), ("a", 1), ("b", 1), ("urgent", -5))
            ]
            await asyncio.gather(first, *rest)

    virtual_time.run(main())
    assert log == ["running", "urgent", "a", "b", "late"]


def test_a_more_urgent_second_asker_moves_a_pending_job_forward():
    log = []

    async def main():
        async with WorkQueue(workers=1) as queue:
            futures = [
                await queue.submit("x", work("running", log=log)),
                await queue.submit("y", work("other", log=log), priority=5),
                await queue.submit("z", work("moved", log=log), priority=9),
                await queue.submit("z", work("never", log=log), priority=0),
            ]
            return await asyncio.gather(*futures)

    assert virtual_time.run(main()) == ["running", "other", "moved", "moved"]
    assert log == ["running", "moved", "other"]


def test_a_hundred_equal_requests_make_one_run():
    log = []

    async def main():
        async with WorkQueue(workers=8) as queue:
            values = await asyncio.gather(*(queue.run("same", work(7, log=log)) for _ in range(100)))
            return values, queue.stats()

    values, stats = virtual_time.run(main())
    assert values == [7] * 100
    assert log == [7]
    assert (stats.joined, stats.hit_rate) == (99, 0.99)


def test_a_result_is_cached_until_its_time_is_over():
    log = []

    async def main():
        async with WorkQueue(cache_ttl=10) as queue:
            await queue.run("k", work(1, log=log))
            await asyncio.sleep(9.9)
            await queue.run("k", work(2, log=log))
            await asyncio.sleep(0.2)
            value = await queue.run("k", work(3, log=log))
            return value, queue.stats().hits

    assert virtual_time.run(main()) == (3, 1)
    assert log == [1, 3]


def test_the_cache_forgets_the_least_recently_used_first():
    log = []

    async def main():
        async with WorkQueue(cache_size=2) as queue:
            for key in "abacab":
                await queue.run(key, work(key, log=log))

    virtual_time.run(main())
    assert log == ["a", "b", "c", "b"]


@pytest.mark.parametrize("settings", [{"cache_ttl": 0}, {"cache_size": 0}])
def test_the_cache_can_be_off(settings):
    log = []

    async def main():
        async with WorkQueue(**settings) as queue:
            await queue.run("k", work(1, log=log))
            await queue.run("k", work(2, log=log))
            queue.clear_cache()

    virtual_time.run(main())
    assert log == [1, 2]


def test_failures_reach_every_asker_and_are_not_cached():
    async def main():
        async with WorkQueue() as queue:
            both = await asyncio.gather(
                *(queue.run("k", work(ValueError("no"))) for _ in range(2)), return_exceptions=True
            )
            return both, await queue.run("k", work("yes")), queue.stats()

    both, value, stats = virtual_time.run(main())
    assert [str(error) for error in both] == ["no", "no"]
    assert (value, stats.failed, stats.completed) == ("yes", 1, 1)


def test_submit_waits_for_room_and_submit_nowait_refuses():
    async def main():
        loop = asyncio.get_running_loop()
        async with WorkQueue(workers=1, max_pending=1) as queue:
            await queue.submit(None, work(1))
            await queue.submit(None, work(2))
            with pytest.raises(QueueError, match="max_pending=1"):
                queue.submit_nowait(None, work(3))
            await queue.submit(None, work(4))
            waited = loop.time()
        return waited, queue.stats()

    waited, stats = virtual_time.run(main())
    assert waited == 1.0
    assert (stats.rejected, stats.completed, stats.peak_pending) == (1, 3, 1)


def test_a_cancelled_wait_for_room_passes_its_place_on():
    async def main():
        async with WorkQueue(workers=1, max_pending=1) as queue:
            await queue.submit(None, work(1))
            await queue.submit(None, work(2))
            first = asyncio.create_task(queue.submit(None, work("first")))
            second = asyncio.create_task(queue.submit(None, work("second")))
            await asyncio.sleep(0)
            first.cancel()
            return await (await second)

    assert virtual_time.run(main()) == "second"


def test_callbacks_see_the_done_future():
    seen = []

    async def main():
        async with WorkQueue() as queue:
            await (await queue.submit("k", work(5), callback=lambda f: seen.append(f.result())))
            await (await queue.submit("k", work(6), callback=lambda f: seen.append(f.result())))

    virtual_time.run(main())
    assert seen == [5, 5]


def test_cancelling_the_only_asker_cancels_the_run_and_others_keep_it():
    async def main():
        async with WorkQueue() as queue:
            alone = asyncio.create_task(queue.run("alone", work(1, 100)))
            shared = [asyncio.create_task(queue.run("shared", work(2, 3))) for _ in range(2)]
            await asyncio.sleep(1)
            alone.cancel()
            shared[0].cancel()
            await asyncio.gather(alone, shared[0], return_exceptions=True)
            value = await shared[1]
        return value, asyncio.get_running_loop().time(), queue.stats().cancelled, tasks_left()

    assert virtual_time.run(main()) == (2, 3.0, 1, set())


def test_closing_drains_by_default_and_cancels_after_an_error():
    async def drained():
        async with WorkQueue(workers=1) as queue:
            futures = [await queue.submit(None, work(n)) for n in range(3)]
        return [f.result() for f in futures]

    async def broken():
        with pytest.raises(RuntimeError, match="stop"):  # noqa: PT012 - the error must leave the queue's block
            async with WorkQueue(workers=1) as queue:
                futures = [await queue.submit(n, work(n, 100)) for n in range(3)]
                raise RuntimeError("stop")
        await asyncio.sleep(0)
        return (
            [f.cancelled() for f in futures],
            asyncio.get_running_loop().time(),
            tasks_left(),
            queue.stats(),
        )

    assert virtual_time.run(drained()) == [0, 1, 2]
    cancelled, seconds, left, stats = virtual_time.run(broken())
    assert (cancelled, seconds, left) == ([True] * 3, 0.0, set())
    assert (stats.cancelled, stats.pending, stats.busy) == (3, 0, 0)


def test_a_closed_queue_refuses_also_those_who_waited_for_room():
    async def main():
        queue = WorkQueue(workers=1, max_pending=1)
        await queue.submit(None, work(1))
        await queue.submit(None, work(2))
        waiting = asyncio.create_task(queue.submit(None, work(3)))
        await asyncio.sleep(0)
        await queue.aclose()
        with pytest.raises(QueueError, match="closed"):
            await waiting
        with pytest.raises(QueueError, match="closed"):
            queue.submit_nowait(None, work(4))
        return tasks_left()

    assert virtual_time.run(main()) == set()


def test_cancelling_a_drain_cancels_the_work_and_waits_for_its_cleanup():
    cleaned = []

    async def careful():
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.5)
            cleaned.append(True)

    async def main():
        queue = WorkQueue(workers=1)
        await queue.submit(None, careful)
        await queue.submit(None, work(2, 100))
        closing = asyncio.create_task(queue.aclose())
        await asyncio.sleep(1)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        return closing.cancelled(), cleaned, asyncio.get_running_loop().time(), tasks_left()

    assert virtual_time.run(main()) == (True, [True], 1.5, set())


@pytest.mark.parametrize("setting", ["workers", "max_pending", "cache_ttl", "cache_size"])
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(ValueError, match=f"{setting} must be at least"):
        WorkQueue(**{setting: -1})


@pytest.mark.parametrize("seed", range(20))
def test_every_request_is_accounted_for_whatever_is_cancelled_when(seed):
    random_ = random.Random(seed)

    async def asker(queue, n):
        await asyncio.sleep(random_.random() * 5)
        key = random_.choice([None, "a", "b", "c"])
        value = ValueError("x") if random_.random() < 0.2 else n
        return await queue.run(key, work(value, random_.random() * 3), priority=random_.randrange(3))

    async def main():
        async with WorkQueue(workers=2, max_pending=3, cache_ttl=1) as queue:
            askers = [asyncio.create_task(asker(queue, n)) for n in range(40)]
            for task in askers[::3]:
                asyncio.get_running_loop().call_later(random_.random() * 8, task.cancel)
            await asyncio.gather(*askers, return_exceptions=True)
        await asyncio.sleep(0)
        return queue.stats(), tasks_left()

    stats, left = virtual_time.run(main())
    assert not left
    assert stats.requests == stats.hits + stats.joined + stats.completed + stats.failed + stats.cancelled
    assert (stats.pending, stats.busy) == (0, 0)
    assert stats.peak_busy <= 2
    assert stats.peak_pending <= 3


def test_results_do_not_depend_on_the_order_of_completion():
    async def main(seconds):
        async with WorkQueue(workers=2) as queue:
            return await asyncio.gather(*(queue.run(n % 3, work(n % 3, s)) for n, s in enumerate(seconds)))

    answers = {tuple(virtual_time.run(main(p))) for p in itertools.permutations((1, 2, 3, 4))}
    assert answers == {(0, 1, 2, 0)}
