"""The fixture ``perf`` inside real tests."""

import pytest


def run(project, body, *args):
    project.makepyfile(body)
    return project.runpytest(*args)


def test_returns_the_first_result_and_says_how_it_was_measured(project):
    run(
        project,
        """
        def test_it(perf):
            calls = []
            def fn(step, *, start):
                calls.append(step)
                return start + step
            assert perf(fn, 2, start=40) == 42
            assert len(calls) > 10
            assert perf.last.rounds >= 3
            assert 0 < perf.last.wall.seconds < 1
            assert perf.last.wall.low_ns <= perf.last.wall.ns <= perf.last.wall.high_ns
            assert perf.last.iterations >= 1
        """,
    ).assert_outcomes(passed=1)


def test_collector_is_off_inside_rounds_and_back_afterwards(project):
    run(
        project,
        """
        import gc
        def test_it(perf):
            states = set()
            perf(lambda: states.add(gc.isenabled()))
            assert states == {False}
            assert gc.isenabled()
        """,
    ).assert_outcomes(passed=1)


def test_setup_prepares_every_call_untimed(project):
    run(
        project,
        """
        import time, pytest
        @pytest.mark.perf_budget(wall="5 ms", rounds=4)
        def test_it(perf):
            seen = []
            def fresh():
                time.sleep(0.01)
                return [3, 1, 2]
            def sort(data):
                assert data == [3, 1, 2]
                data.sort()
                return data
            assert perf.setup(fresh)(sort) == [1, 2, 3]
        """,
    ).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("perf(int); perf(int)", "perf was called twice in one test: give each call a name*"),
        ("perf(3)", "perf needs a callable, not int*"),
        ("perf(lambda: perf.named('b')(int))", "perf.named('b') started while perf was being measured*"),
        ("perf.named('a b')", "perf.named needs a name of letters, digits, '_' and '-', not 'a b'"),
        ("perf.stage('a/b').__enter__()", "a stage needs a non-empty name without '/', not 'a/b'"),
        ("perf.record('x', float('nan'))", "perf.record('x', nan): the value must be a finite number"),
        ("perf.record('wall', 3)", "*not built in, not 'wall'"),
        ("perf.record('x', 3, better='up')", "better='up' for 'x': write 'lower', 'higher' or 'same'"),
        ("perf.record('x', 1); perf.record('x', 2)", "'x' was recorded twice in one test: use two names"),
        ("perf.digest('x', object())", "cannot digest builtins.object*"),
        ("perf.last", "perf.last is empty: call perf(fn, ...) first"),
        ("perf.setup(3)", "perf.setup needs a callable without arguments, not 3"),
        ("perf.named('x', cache='hot')", "cache='hot': write 'cold' or 'warm'"),
    ],
)
def test_misuse_is_one_clear_error(project, body, said):
    result = run(project, f"def test_it(perf):\n    {body}\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *MeasureError: {said}"])


def test_a_plain_function_returning_a_coroutine_is_explained(project):
    result = run(
        project,
        """
        async def fetch(): ...
        def test_it(perf):
            perf(lambda: fetch())
        """,
        "-W",
        "ignore",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*returned an awaitable that perf cannot time*"])


def test_named_parts_cache_states_records_and_digests_are_separate_metrics(project, baseline_of):
    result = run(
        project,
        """
        def test_it(perf):
            perf.named("parse")(int, "3")
            perf.named("sum", cache="cold")(sum, [1, 2])
            perf.named("sum", cache="warm")(sum, [1, 2])
            perf.record("orders", 7, unit="orders")
            perf.digest("answer", {"a": [1.5, None, "x"]})
        """,
        "--perf-update",
    )
    result.assert_outcomes(passed=1)
    text = baseline_of()
    for name in ("parse.wall", "parse.cpu", "sum.wall@cold", "sum.cpu@warm", "orders", "digest:answer"):
        assert f'"metric": "{name}"' in text


def test_cold_measures_the_first_call_alone(project):
    run(
        project,
        """
        import functools
        def test_it(perf):
            calls = []
            perf.named("load", cache="cold")(calls.append, 1)
            assert calls == [1]
            assert perf.last.rounds == 1
        """,
    ).assert_outcomes(passed=1)


def test_cold_with_setup_measures_every_call_after_it(project):
    run(
        project,
        """
        import functools
        def test_it(perf):
            @functools.lru_cache
            def load(n):
                return n
            clears = []
            def clear():
                clears.append(load.cache_info().currsize)
                load.cache_clear()
            perf.named("load", cache="cold").setup(clear)(load, 1)
            assert len(clears) >= 3
        """,
    ).assert_outcomes(passed=1)


def test_coroutine_functions_are_awaited_in_the_running_loop(project):
    run(
        project,
        """
        import asyncio, pytest
        @pytest.mark.asyncio
        async def test_it(perf):
            loop = asyncio.get_running_loop()
            async def where():
                return asyncio.get_running_loop()
            assert await perf(where) is loop
            class Fetcher:
                async def __call__(self, n):
                    return n
            assert await perf.named("object")(Fetcher(), 5) == 5
        """,
    ).assert_outcomes(passed=1)


def test_stages_of_concurrent_tasks_nest_where_they_began(project):
    result = run(
        project,
        """
        import asyncio, pytest
        @pytest.mark.perf_budget(wall="1 ms")
        @pytest.mark.asyncio
        async def test_it(perf):
            async def leg(name):
                with perf.stage(name):
                    await asyncio.sleep(0.01)
            with perf.stage("feeds"):
                await asyncio.gather(leg("news"), leg("filings"))
        """,
    )
    result.stdout.fnmatch_lines(["  feeds *", "    news *", "    filings *"])


def test_the_call_that_raises_fails_its_test_and_leaves_the_collector_on(project):
    run(
        project,
        """
        import gc, pytest
        def test_it(perf):
            with pytest.raises(ZeroDivisionError):
                perf(lambda: 1 / 0)
            assert gc.isenabled()
            assert perf.named("after")(int) == 0
        """,
    ).assert_outcomes(passed=1)
