"""Accepting and judging: the nine verdicts, exit codes, and what is left untouched."""

import json
import subprocess
from pathlib import Path

import pytest

COUNTING = """
def test_count(perf):
    perf.record("orders", {orders})
    perf.digest("answer", {answer})
"""


def rewrite(project, name, text):
    Path(project.path, name).write_text(text)


@pytest.fixture
def accepted(project):
    """A project with one accepted counter and one accepted digest."""
    rewrite(project, "test_it.py", COUNTING.format(orders=100, answer="[1.0, 2.0, 3.0]"))
    result = project.runpytest("--perf-update")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["perf: accepted 1 test: 4 lines written*"])
    return project


def git(project, *args):
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", *args],
        cwd=project.path,
        check=True,
        capture_output=True,
    )


def test_first_run_is_new_exit_zero_and_says_how_to_accept(project):
    rewrite(project, "test_it.py", COUNTING.format(orders=1, answer="1"))
    result = project.runpytest("--perf-gate")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["NO BASELINE for *: accept these values with  pytest --perf-update", "perf: 4 new"]
    )
    assert not (project.path / "perf-baselines").exists()


def test_a_baseline_of_another_python_beside_it_is_named(project):
    folder = project.path / "perf-baselines"
    folder.mkdir()
    (folder / "linux-x86_64-3.4.jsonl").write_text('{"tradeperf": 1}\n')
    rewrite(project, "test_it.py", COUNTING.format(orders=1, answer="1"))
    project.runpytest("--perf-gate").stdout.fnmatch_lines(["*there is linux-x86_64-3.4.jsonl*"])


def test_unchanged_counters_and_digests_are_ok(accepted):
    result = accepted.runpytest("--perf-gate")
    assert result.ret == 0
    result.stdout.re_match_lines([r"  ok +digest:answer", r"  ok +orders .*100 -> 100"])


def test_a_grown_counter_fails_its_test_everywhere(accepted):
    rewrite(accepted, "test_it.py", COUNTING.format(orders=103, answer="[1.0, 2.0, 3.0]"))
    result = accepted.runpytest("--perf-gate", "--junitxml=out.xml")
    assert result.ret == 1
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "regressed: orders 100 -> 103",
            "*regressed*orders*+3.0 %*100 -> 103*",
            "perf: 1 regressed*",
            "FAILED test_it.py::test_count - regressed: orders 100 -> 103",
        ]
    )
    xml = (accepted.path / "out.xml").read_text()
    assert 'tests="1"' in xml
    assert 'failures="1"' in xml
    assert "regressed: orders" in xml
    assert "test_count" in accepted.runpytest("--lf", "--co", "-q").stdout.str()


def test_a_changed_answer_shows_the_first_difference(accepted):
    rewrite(accepted, "test_it.py", COUNTING.format(orders=100, answer="[1.0, 2.5, 9.0]"))
    result = accepted.runpytest("--perf-gate")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*the answer changed, first at [[]1]: 2.0 -> 2.5*"])


def test_rounding_is_no_change(accepted):
    rewrite(accepted, "test_it.py", COUNTING.format(orders=100, answer="[1.0, 2.0000000000000004, 3.0]"))
    assert accepted.runpytest("--perf-gate").ret == 0


def test_improvement_is_reported_and_kept_only_by_update(accepted, baseline_of):
    rewrite(accepted, "test_it.py", COUNTING.format(orders=90, answer="[1.0, 2.0, 3.0]"))
    before = baseline_of()
    result = accepted.runpytest("--perf-gate")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*improved*orders*-10.0 %*"])
    assert baseline_of() == before
    accepted.runpytest("--perf-update")
    assert '"metric": "orders", "value": 90' in baseline_of()


def test_a_failing_run_writes_nothing(accepted, baseline_of):
    before = baseline_of()
    rewrite(
        accepted,
        "test_it.py",
        COUNTING.format(orders=1, answer="1") + "def test_broken():\n    assert 0\n",
    )
    result = accepted.runpytest("--perf-update")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["perf: nothing was stored: the run did not pass as a whole"])
    assert baseline_of() == before


def test_an_interrupted_run_writes_nothing(accepted, baseline_of):
    before = baseline_of()
    rewrite(
        accepted,
        "test_it.py",
        COUNTING.format(orders=1, answer="1") + "def test_stop():\n    raise KeyboardInterrupt\n",
    )
    assert accepted.runpytest_subprocess("--perf-update").ret == 2
    assert baseline_of() == before


def test_accepting_the_same_code_again_changes_no_line(project, baseline_of):
    rewrite(project, "code_under.py", "def work():\n    return sum(range(1000))\n")
    rewrite(project, "test_it.py", "from code_under import work\ndef test_work(perf):\n    perf(work)\n")
    project.makeini(
        "[pytest]\npythonpath = .\nperf_source = code_under.py\nasyncio_default_fixture_loop_scope = function\n"
    )
    git(project, "init", "-q")
    project.runpytest("--perf-update")
    path = next((project.path / "perf-baselines").glob("linux*.jsonl"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    # As if the machine had been a third faster at acceptance.
    slower = [{**line, "value": line["value"] * 0.67} if "value" in line else line for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in slower))
    before = baseline_of()
    project.runpytest("--perf-update")
    assert baseline_of() == before


def test_updating_one_file_leaves_the_lines_of_others_untouched(accepted, baseline_of):
    rewrite(accepted, "test_more.py", "def test_more(perf):\n    perf.record('n', 1)\n")
    before = baseline_of().splitlines()
    assert accepted.runpytest("--perf-update", "test_more.py").ret == 0
    after = baseline_of().splitlines()
    assert [line for line in after if "test_it.py" in line] == [
        line for line in before if "test_it.py" in line
    ]
    assert any("test_more.py" in line for line in after)
    accepted.runpytest("--perf-update", "-k", "more")
    again = baseline_of().splitlines()
    assert [line for line in again if "test_it.py" in line] == [
        line for line in before if "test_it.py" in line
    ]


def test_a_deleted_test_is_missing_only_when_its_whole_file_was_run(accepted):
    rewrite(
        accepted,
        "test_it.py",
        "def test_new(perf):\n    perf.record('n', 1)\ndef test_unmeasured():\n    pass\n",
    )
    result = accepted.runpytest("--perf-gate")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*missing*orders*", "perf: 4 missing, 3 new"])
    assert "  missing " not in accepted.runpytest("--perf-gate", "test_it.py::test_new").stdout.str()
    assert "  missing " not in accepted.runpytest("--perf-gate", "-k", "new").stdout.str()


def test_prune_drops_lines_of_deleted_tests_only(accepted, baseline_of):
    rewrite(accepted, "test_it.py", "def test_new(perf):\n    perf.record('n', 1)\n")
    result = accepted.runpytest("--perf-prune")
    assert result.ret == 0
    assert "test_count" not in baseline_of()
    assert "test_new" not in baseline_of()


def test_prune_with_a_selection_drops_nothing(accepted, baseline_of):
    before = baseline_of()
    rewrite(
        accepted,
        "test_it.py",
        "def test_new(perf):\n    perf.record('n', 1)\ndef test_unmeasured():\n    pass\n",
    )
    accepted.runpytest("--perf-prune", "-k", "new")
    assert baseline_of() == before


def test_strict_fails_what_is_new_or_missing(accepted):
    rewrite(accepted, "test_it.py", "def test_new(perf):\n    perf.record('n', 1)\n")
    result = accepted.runpytest("--perf-gate", "--perf-strict")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*FAILED test_it.py::test_new*", "*FAILED test_it.py::test_count*missing*"])


def test_a_failing_or_skipped_test_gives_no_missing_rows(accepted):
    rewrite(accepted, "test_it.py", "import pytest\ndef test_count(perf):\n    pytest.skip('later')\n")
    result = accepted.runpytest("--perf-gate")
    assert result.ret == 0
    assert "  missing " not in result.stdout.str()


def test_a_metric_that_is_no_longer_recorded_is_missing(accepted):
    rewrite(accepted, "test_it.py", "def test_count(perf):\n    perf.digest('answer', [1.0, 2.0, 3.0])\n")
    accepted.runpytest("--perf-gate").stdout.fnmatch_lines(
        ["*missing*orders*", "*no longer measures it; --perf-update*"]
    )


def test_timings_without_git_are_undecided_with_the_detectable_size(accepted):
    result = accepted.runpytest("--perf-gate")
    assert result.ret == 0
    result.stdout.re_match_lines([r"  undecided +cpu", r"      blind below \+[\d,.]+ %: .*"])


def test_same_code_is_ok_without_measuring(project):
    Path(project.path, "code.py").write_text("def work():\n    return sum(range(1000))\n")
    rewrite(project, "test_it.py", "from code_under import work\ndef test_work(perf):\n    perf(work)\n")
    Path(project.path, "code.py").rename(Path(project.path, "code_under.py"))
    project.makeini(
        "[pytest]\npythonpath = .\nperf_source = code_under.py\nasyncio_default_fixture_loop_scope = function\n"
    )
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "x")
    project.runpytest("--perf-update")
    result = project.runpytest("--perf-gate")
    result.stdout.re_match_lines([r"  ok +cpu +same code ", r"perf: 2 ok"])


def test_a_test_without_perf_is_repeated_whole_keeping_module_fixtures(project, baseline_of):
    rewrite(
        project,
        "test_it.py",
        """
import pytest
made = {"module": 0, "function": 0}
@pytest.fixture(scope="module")
def shared():
    made["module"] += 1
    yield
    made["module"] += 10
@pytest.fixture
def own():
    made["function"] += 1
@pytest.mark.perf_budget(wall="10 s")
def test_whole(shared, own):
    assert made["module"] == 1
def test_after(shared):
    assert made == {"module": 1, "function": 5}
""",
    )
    result = project.runpytest("--perf-update")
    result.assert_outcomes(passed=2)
    line = json.loads(next(line for line in baseline_of().splitlines() if '"wall"' in line))
    assert line["noise"] > 0


def test_a_failing_module_teardown_after_repetition_is_an_error(project):
    rewrite(
        project,
        "test_it.py",
        """
import pytest
@pytest.fixture(scope="module")
def shared():
    yield
    raise OSError("left open")
@pytest.mark.perf_budget(wall="10 s")
def test_whole(shared):
    pass
""",
    )
    project.runpytest("--perf-update").assert_outcomes(passed=1, errors=1)


def test_quiet_prints_only_what_needs_attention(accepted):
    calm = accepted.runpytest("--perf-gate", "-q", "-o", "perf_threshold=1000%")
    assert "digest:answer" not in calm.stdout.str()
    rewrite(accepted, "test_it.py", COUNTING.format(orders=103, answer="[1.0, 2.0, 3.0]"))
    loud = accepted.runpytest("--perf-gate", "-q")
    loud.stdout.fnmatch_lines(["*regressed*orders*"])


def test_header_names_machine_and_baseline(accepted):
    accepted.runpytest("--perf-gate").stdout.re_match_lines(
        [r"perf: threshold 2\.0 %, alpha 1\.0 %; .* CPUs.*; perf-baselines/.*\.jsonl \(written today\)"]
    )


def test_waivers_widen_the_tolerance_and_are_printed(accepted):
    marker = '@pytest.mark.perf_budget(accept="5%", reason="new risk check", until="2999-01-31")'
    body = f"import pytest\n{marker}" + COUNTING.format(orders=103, answer="[1.0, 2.0, 3.0]")
    rewrite(accepted, "test_it.py", body)
    result = accepted.runpytest("--perf-gate")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*accepts 5 % until 2999-01-31: new risk check"])


def test_an_expired_waiver_no_longer_excuses_and_says_so(accepted):
    marker = '@pytest.mark.perf_budget(accept="5%", reason="new risk check", until="2001-01-31")'
    body = f"import pytest\n{marker}" + COUNTING.format(orders=103, answer="[1.0, 2.0, 3.0]")
    rewrite(accepted, "test_it.py", body)
    result = accepted.runpytest("--perf-gate")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*expired on 2001-01-31*"])


def test_over_budget_is_a_row_of_the_gate(project):
    rewrite(
        project,
        "test_it.py",
        "import time, pytest\n@pytest.mark.perf_budget(wall='1 ms')\ndef test_slow():\n    time.sleep(0.01)\n",
    )
    result = project.runpytest("--perf-gate")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*over budget*wall*1.00 ms -> *ms", "perf: 1 over budget"])


def test_maxfail_stops_at_once_for_budgets(project):
    rewrite(
        project,
        "test_it.py",
        "import time, pytest\npytestmark = pytest.mark.perf_budget(wall='1 ms')\n"
        "def test_slow():\n    time.sleep(0.01)\ndef test_after():\n    pass\n",
    )
    project.runpytest("--perf-gate", "-x").assert_outcomes(failed=1)


def test_the_record_holds_what_was_measured_and_decided(accepted):
    rewrite(accepted, "test_it.py", COUNTING.format(orders=103, answer="[1.0, 2.0, 3.0]"))
    accepted.runpytest("--perf-gate", "--perf-report", "json=out/perf.json")
    record = json.loads((accepted.path / "out" / "perf.json").read_text())
    found = {(v["test"], v["metric"]): v["verdict"] for v in record["verdicts"]}
    assert found["test_it.py::test_count", "orders"] == "regressed"
    assert found["test_it.py::test_count", "digest:answer"] == "ok"
    assert record["tests"][0]["test"] == "test_it.py::test_count"
    assert record["environment"]["python"]


def test_odd_test_ids_survive_the_way_through_the_baseline(project, baseline_of):
    rewrite(
        project,
        "test_it.py",
        "import pytest\n"
        "IDS = ['a\\nb', 'quote\\'\"', 'größe-株', 'x' * 4000, 'back\\\\slash', '[::]']\n"
        "@pytest.mark.parametrize('n', range(len(IDS)), ids=IDS)\n"
        "def test_id(perf, n):\n    perf.record('n', n)\n",
    )
    assert project.runpytest("--perf-update").ret == 0
    result = project.runpytest("--perf-gate")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["perf: 12 undecided, 6 ok"])
    long = [line for line in result.outlines if line.endswith("xxx]")]
    assert long
    assert max(map(len, long)) <= 80


def test_rows_of_kind_error_exit_with_three(project, monkeypatch):
    """A child that cannot even start must not look like a pass."""
    rewrite(project, "test_it.py", "import time\ndef test_waits(perf):\n    time.sleep(0.05)\n")
    assert project.runpytest("--perf-update").ret == 0
    path = next((project.path / "perf-baselines").glob("linux*.jsonl"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    shrunk = [{**line, "value": line["value"] / 100} if "value" in line else line for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in shrunk))
    monkeypatch.setattr("sys.executable", "/bin/false")
    result = project.runpytest("--perf-gate")
    assert result.ret == 3
    result.stdout.fnmatch_lines(["*error*wall*", "*a measuring process ended with exit code 1*"])


def test_resident_growth_is_gated_and_the_size_of_the_process_is_not(project, baseline_of):
    body = """
import pytest
held = []
def test_before():
    held.append(bytes(bytearray({before} * 1024 * 1024)))
@pytest.mark.perf_budget(peak_rss="4 GiB")
def test_hungry():
    assert bytearray({own} * 1024 * 1024)
"""
    rewrite(project, "test_it.py", body.format(before=1, own=64))
    assert project.runpytest("--perf-update").ret == 0
    assert '"metric": "peak_rss_growth"' in baseline_of()
    assert '"metric": "peak_rss"' not in baseline_of()
    rewrite(project, "test_it.py", body.format(before=100, own=64))
    assert project.runpytest("--perf-gate").ret == 0
    rewrite(project, "test_it.py", body.format(before=1, own=96))
    result = project.runpytest("--perf-gate")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["regressed: peak_rss_growth *"])


HIDING = """
import pytest
from pathlib import Path
def test_red():
    assert not Path("red").exists()
@pytest.mark.perf_budget(wall="10 s")
def test_slow():
    pass
"""


def test_rerunning_last_failures_makes_no_test_missing_and_prunes_nothing(accepted, baseline_of):
    rewrite(accepted, "test_red.py", HIDING)
    Path(accepted.path, "red").touch()
    assert accepted.runpytest().ret == 1
    assert "  missing " not in accepted.runpytest("--perf-gate", "--lf").stdout.str()
    Path(accepted.path, "red").unlink()
    before = baseline_of()
    assert accepted.runpytest("--perf-prune", "--lf").ret == 0
    assert baseline_of() == before


def test_a_test_taken_out_without_a_word_is_not_missing(accepted, baseline_of):
    accepted.makeconftest("def pytest_collection_modifyitems(items): items[:] = []")
    result = accepted.runpytest("--perf-gate")
    assert "  missing " not in result.stdout.str()
    before = baseline_of()
    accepted.runpytest("--perf-prune")
    assert baseline_of() == before


def test_what_a_repeated_test_says_of_itself_is_said_once(project):
    rewrite(
        project,
        "test_it.py",
        """
import warnings
import pytest
@pytest.mark.filterwarnings("default")
@pytest.mark.perf_budget(wall="10 s", peak_rss="9 GiB")
def test_whole(request):
    print("spoken")
    request.node.user_properties.append(("said", "once"))
    warnings.warn("careful")
""",
    )
    result = project.runpytest("--perf-update", "--junitxml=out.xml", "-o", "junit_logging=all")
    result.assert_outcomes(passed=1, warnings=1)
    written = Path(project.path, "out.xml").read_text()
    assert (written.count('name="said"'), written.count("spoken")) == (1, 1)


def test_a_test_that_stops_the_clock_is_timed_all_the_same(project, baseline_of):
    rewrite(
        project,
        "test_it.py",
        """
import time
import pytest
@pytest.mark.perf_budget(wall="60 s")
def test_frozen(monkeypatch):
    for name in ("perf_counter_ns", "process_time_ns", "perf_counter", "monotonic", "time"):
        monkeypatch.setattr(time, name, lambda: 0)
""",
    )
    assert project.runpytest("--perf-update").ret == 0
    lines = [json.loads(line) for line in baseline_of().splitlines()][1:]
    assert len(lines) == 2
    assert all(line["value"] > 0 for line in lines)


def test_table_of_a_large_suite_leaves_tests_without_a_finding_to_verbose_runs(project):
    project.makepyfile(
        test_many="""
        import pytest

        @pytest.mark.parametrize("number", range(102))
        def test_it(perf, number):
            perf.record("n", 1)
        """
    )
    usual = project.runpytest("--perf-gate").stdout
    usual.fnmatch_lines(["... and 2 more tests without a finding (-v shows them)", "perf: 306 new"])
    assert len([line for line in usual.lines if line.startswith("  new ")]) == 300
    full = project.runpytest("--perf-gate", "-v").stdout
    assert len([line for line in full.lines if line.startswith("  new ")]) == 306
    full.no_fnmatch_line("*more tests*")
