import pytest

from pytest_tradeperf.pipeline.resources import Resources, read_resources
from pytest_tradeperf.pipeline.stages import StageClock, StageTime, stage_table


def ticking():
    now = [0.0]

    def clock():
        return now[0]

    return now, clock


def test_stages_nest_and_keep_the_order_they_began_in():
    now, clock = ticking()
    stages = StageClock(clock)
    with stages.stage("feeds"):
        now[0] = 1
        with stages.stage("news"):
            now[0] = 3
    with stages.stage("debate"):
        now[0] = 7
    assert [(s.path, s.started_seconds, s.seconds, s.depth) for s in stages.times] == [
        ("feeds", 0, 3, 0),
        ("feeds/news", 1, 2, 1),
        ("debate", 3, 4, 0),
    ]
    assert stages.elapsed == 7


def test_a_stage_left_by_an_error_is_timed_and_marked():
    _, clock = ticking()
    lines = []
    stages = StageClock(clock, lines.append)
    with pytest.raises(ValueError, match="x"), stages.stage("a"), stages.stage("b"):
        raise ValueError("x")
    assert [s.is_complete for s in stages.times] == [False, False]
    assert lines == ["a/b 0.00 s (cut short)", "a 0.00 s (cut short)"]


def test_the_table_indents_and_gives_shares():
    times = (
        StageTime(path="feeds", started_seconds=0, seconds=3),
        StageTime(path="feeds/news", started_seconds=1, seconds=1, is_complete=False),
    )
    assert stage_table(times, 4.0) == [
        "feeds      3.000 s   75.0%",
        "  news     1.000 s   25.0%  cut short",
    ]
    assert stage_table((), 0.0) == []


def test_resources_of_this_process_are_plausible_and_said_in_one_line():
    found = read_resources()
    assert 1024**2 < found.rss_bytes <= found.peak_rss_bytes
    assert str(found).startswith("memory ")


def test_a_gpu_is_named_where_there_is_one():
    found = Resources(
        rss_bytes=1024**2,
        peak_rss_bytes=2 * 1024**2,
        gpu_name="H100",
        gpu_utilisation=0.5,
        gpu_memory_bytes=1024**2,
    )
    assert str(found) == "memory 1 MiB, peak 2 MiB; H100 50% busy, 1 MiB in use"
