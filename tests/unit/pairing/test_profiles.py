import os

from pytest_tradeperf.pairing.profiles import Growth, Profiler, growths, least


def inner(n: int) -> int:
    return sum(range(n))


def test_profile_counts_calls_and_own_time_an_iteration() -> None:
    with Profiler() as profiler:
        for _ in range(4):
            inner(100)
    found = profiler.functions(4)
    seconds, calls, line = found[f"{os.path.realpath(__file__)}\0inner"]
    assert seconds > 0
    assert (calls, line) == (1.0, inner.__code__.co_firstlineno)


def test_cheapest_profile_of_each_function_is_kept() -> None:
    first, second = {"\0f": [9.0, 2.0, 1], "\0g": [1.0, 1.0, 5]}, {"\0f": [2.0, 2.0, 1], "\0h": [3.0, 1.0, 9]}
    assert least([first, second]) == {"\0f": [2.0, 2.0, 1], "\0g": [1.0, 1.0, 5], "\0h": [3.0, 1.0, 9]}


def grown(base: dict[str, list[float]], head: dict[str, list[float]]) -> list[Growth]:
    return growths(base, head, base_folder="/base", head_folder="/head")


def test_functions_are_matched_by_their_place_below_each_side_and_the_most_grown_come_first() -> None:
    base = {"/base/src/a.py\0slow": [1e-3, 1, 5], "/base/src/a.py\0same": [1e-3, 1, 9]}
    head = {
        "/head/src/a.py\0slow": [3e-3, 2, 6],
        "/head/src/a.py\0same": [1e-3, 1, 10],
        "/head/src/b.py\0new": [9e-3, 1, 1],
    }
    first, second = grown(base, head)
    assert (first.function, first.file, first.line) == ("new", "src/b.py", 1)
    assert str(first) == "new (src/b.py:1): new, 9000 us an iteration, calls 0 -> 1"
    assert str(second) == "slow (src/a.py:6): 1000 -> 3000 us an iteration, calls 1 -> 2"


def test_at_most_three_are_named_and_crumbs_are_not() -> None:
    head = {f"/head/src/a.py\0f{i}": [1e-3 * i, 1.0, i] for i in range(1, 6)} | {
        "/head/src/a.py\0crumb": [1e-9, 1, 1]
    }
    assert [g.function for g in grown({}, head)] == ["f5", "f4", "f3"]
    assert [
        g.function for g in grown({}, {"/head/a.py\0f": [1.0, 1, 1], "/head/a.py\0crumb": [0.01, 1, 1]})
    ] == ["f"]


def test_what_runs_the_test_is_not_where_to_look() -> None:
    head = {
        "/lib/site-packages/_pytest/runner.py\0call": [1.0, 1, 1],
        "/head/src/pytest_tradeperf/plugin/worker.py\0serve": [1.0, 1, 1],
        "<string>\0<lambda>": [1.0, 1, 1],
        "\0<method 'disable' of '_lsprof.Profiler' objects>": [1.0, 1, 0],
    }
    assert grown({}, head) == []


def test_builtin_functions_have_no_place() -> None:
    (growth,) = grown({"\0len": [1e-3, 1, 0]}, {"\0len": [2e-3, 2, 0]})
    assert str(growth) == "len: 1000 -> 2000 us an iteration, calls 1 -> 2"
