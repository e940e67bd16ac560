"""A wrong marker is that test's own failure, one line with the fix, on every path."""

import pytest

WRONG = [
    ('wal="1 s"', "perf_budget has no argument 'wal'; did you mean 'wall'?"),
    (
        'wall="1 parsec"',
        "perf_budget(wall=...): '1 parsec' has the unit 'parsec': write '250 ms', '30s', '5min'*",
    ),
    ('wall="-3 s"', "perf_budget(wall=...): '-3 s' is not a finite quantity at or above zero*"),
    ("wall=30", "perf_budget(wall=...): cannot read 30 as a quantity*"),
    ('wall="1 MB"', "perf_budget(wall=...): '1 MB' has the unit 'MB'*"),
    (
        'peak_rss="10"',
        "perf_budget(peak_rss=...): '10' has no unit: write '500 MB' (1000) or '500 MiB' (1024)*",
    ),
    ("rounds=0", "perf_budget(rounds=0): write a whole number of at least 1"),
    ('threshold="3"', "perf_budget(threshold=...): '3' has no unit: write '3%'*"),
    ('cache="hot"', "perf_budget(cache='hot'): write 'cold' or 'warm'"),
    ('"1 s"', "perf_budget takes keyword arguments only, not '1 s'*"),
    ('accept="3%"', "perf_budget(accept=...) needs reason and until too*"),
    ('accept="3%", reason="x", until="soon"', "perf_budget(until='soon'): write a date such as '2027-01-31'"),
    ('limits="wall"', "perf_budget(limits='wall'): write a mapping*"),
]


@pytest.mark.parametrize(("argument", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_an_invalid_marker_is_one_clear_line(project, argument, said):
    project.makepyfile(
        f"""
        import pytest
        @pytest.mark.perf_budget({argument})
        def test_marked():
            raise AssertionError("the body must not run")
        def test_other():
            pass
        """
    )
    result = project.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([said.replace("[", "[[]")])
    assert "Traceback" not in result.stdout.str()
    assert "the body must not run" not in result.stdout.str()


def test_an_invalid_marker_under_xdist_is_the_same_failed_report(project):
    pytest.importorskip("xdist")
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(wal="1 s")
        def test_marked():
            pass
        def test_other():
            pass
        """
    )
    for extra in ((), ("--perf-gate",)):
        result = project.runpytest_subprocess("-n", "2", *extra)
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*perf_budget has no argument 'wal'; did you mean 'wall'?*"])
        assert result.ret == 1


def test_markers_are_declared(project):
    project.makepyfile("def test_nothing(): pass")
    project.runpytest("--strict-markers", "--markers").stdout.fnmatch_lines(["*perf_budget(wall=, cpu=*"])
