import asyncio
import contextvars
import threading

import pytest

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures.stages import Stages


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


def test_nested_stages_make_paths_in_the_order_they_began() -> None:
    clock = Clock()
    stages = Stages(clock)
    with stages.stage("cycle"):
        clock.now += 1
        with stages.stage("feeds"):
            clock.now += 10
        with stages.stage("decide"):
            clock.now += 100
    assert stages.totals() == (("cycle", 1, 111), ("cycle/feeds", 1, 10), ("cycle/decide", 1, 100))


def test_a_repeated_stage_adds_up() -> None:
    clock = Clock()
    stages = Stages(clock)
    for _ in range(3):
        with stages.stage("load"):
            clock.now += 5
    assert stages.totals() == (("load", 3, 15),)


def test_one_name_under_two_parents_is_two_stages() -> None:
    stages = Stages(Clock())
    for parent in ("a", "b"):
        with stages.stage(parent), stages.stage("io"):
            pass
    assert [path for path, _, _ in stages.totals()] == ["a", "a/io", "b", "b/io"]


def test_a_recursive_stage_nests_under_itself() -> None:
    stages = Stages(Clock())
    with stages.stage("walk"), stages.stage("walk"):
        pass
    assert [path for path, _, _ in stages.totals()] == ["walk", "walk/walk"]


def test_time_of_a_failing_block_is_kept_and_the_stage_is_left() -> None:
    clock = Clock()
    stages = Stages(clock)

    def load() -> None:
        with stages.stage("load"):
            clock.now += 5
            raise KeyError

    with pytest.raises(KeyError):
        load()
    with stages.stage("next"):
        pass
    assert stages.totals() == (("load", 1, 5), ("next", 1, 0))


@pytest.mark.parametrize("name", ["", "a/b", "/", None, 5])
def test_a_stage_needs_a_name_without_slash(name: str) -> None:
    with pytest.raises(MeasureError, match="a stage needs a non-empty name"), Stages(Clock()).stage(name):
        pass


def test_tasks_started_inside_a_stage_nest_under_it_and_do_not_mix() -> None:
    stages = Stages(Clock())

    async def fetch(name: str) -> None:
        with stages.stage(name):
            await asyncio.sleep(0)
            with stages.stage("parse"):
                await asyncio.sleep(0)

    async def cycle() -> None:
        with stages.stage("cycle"):
            await asyncio.gather(fetch("news"), fetch("prices"))

    asyncio.run(cycle())
    assert sorted(path for path, _, _ in stages.totals()) == [
        "cycle",
        "cycle/news",
        "cycle/news/parse",
        "cycle/prices",
        "cycle/prices/parse",
    ]


def test_threads_count_every_call() -> None:
    stages = Stages(Clock())
    gate = threading.Barrier(4)

    def work() -> None:
        gate.wait()
        for _ in range(500):
            with stages.stage("work"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stages.totals()[0][:2] == ("work", 2000)


def test_a_thread_begins_at_the_top_unless_it_is_given_the_context() -> None:
    stages = Stages(Clock())

    def work() -> None:
        with stages.stage("work"):
            pass

    with stages.stage("main"):
        alone = threading.Thread(target=work)
        alone.start()
        alone.join()
        inside = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        inside.start()
        inside.join()
    assert [path for path, _, _ in stages.totals()] == ["main", "work", "main/work"]


def test_two_recorders_do_not_nest_under_each_other() -> None:
    one, two = Stages(Clock()), Stages(Clock())
    with one.stage("a"), two.stage("b"):
        pass
    assert two.totals() == (("b", 1, 0),)
