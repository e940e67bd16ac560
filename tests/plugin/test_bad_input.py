"""Wrong options and broken files: one clear line, the right exit code, nothing stored is lost."""

from pathlib import Path

import pytest

TEST = "def test_it(perf):\n    perf.record('n', 1)\n"


@pytest.fixture
def accepted(project):
    project.makepyfile(test_it=TEST)
    assert project.runpytest("--perf-update").ret == 0
    return project


def baseline(project) -> Path:
    return next(Path(project.path, "perf-baselines").glob("linux*.jsonl"))


def usage_error(project, *args):
    """Run and return the one line of a usage error."""
    result = project.runpytest(*args)
    text = result.stdout.str() + result.stderr.str()
    assert result.ret == 4, text
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    lines = [line for line in result.errlines if line.startswith("ERROR: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--perf-update", "--perf-gate"), "--perf-gate and --perf-update contradict each other"),
        (("--perf-prune", "--perf-gate"), "--perf-gate and --perf-prune contradict each other"),
        (("--perf-gate", "--perf-time=5 parsec"), "--perf-time: '5 parsec' has the unit 'parsec'"),
        (("--perf-gate", "-o", "perf_threshold=3"), "perf_threshold: '3' has no unit: write '3%'"),
        (("--perf-gate", "-o", "perf_alpha=0%"), "perf_alpha: '0%' is no probability"),
        (("--perf-gate", "-o", "perf_alpha=200%"), "perf_alpha: '200%' is no probability"),
        (("--perf-report", "pdf=x"), "--perf-report 'pdf=x': write json=PATH"),
        (("--perf-report", "json"), "--perf-report 'json': write json=PATH"),
        (("--perf-gate", "-o", "perf_source=nowhere"), "perf_source 'nowhere' does not exist"),
    ],
)
def test_wrong_options_are_usage_errors(accepted, args, said):
    assert said in usage_error(accepted, *args)


def truncate(path):
    path.write_text(path.read_text().rstrip("\n")[:-20])


def garbage(path):
    path.write_bytes(b"\xff\xfe\x00garbage\n")


def newer(path):
    path.write_text(path.read_text().replace('{"tradeperf": 1', '{"tradeperf": 99', 1))


def twice(path):
    text = path.read_text()
    path.write_text(text + text.splitlines()[1] + "\n")


def conflict(path):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "<<<<<<< HEAD", *lines[1:]]) + "\n")


def headless(path):
    path.write_text("\n".join(path.read_text().splitlines()[1:]) + "\n")


def wrong_type(path):
    path.write_text(path.read_text().replace('"value": 1,', '"value": "one",'))


def not_a_number(path):
    path.write_text(path.read_text().replace('"value": 1,', '"value": NaN,'))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "the file is truncated"),
        (garbage, "is not UTF-8 text"),
        (newer, "format 99 was written by a newer pytest-tradeperf"),
        (twice, "are both"),
        (conflict, "a merge conflict is not resolved"),
        (headless, "not a baseline file"),
        (wrong_type, "is not a number"),
        (not_a_number, "NaN is not a number here"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.parametrize("option", ["--perf-gate", "--perf-update"])
def test_a_broken_baseline_is_named_and_left_as_it_is(accepted, damage, said, option):
    path = baseline(accepted)
    damage(path)
    broken = path.read_bytes()
    line = usage_error(accepted, option)
    assert said in line
    assert path.name in line
    assert path.read_bytes() == broken


def test_a_broken_baseline_does_not_disturb_plain_runs(accepted):
    truncate(baseline(accepted))
    accepted.runpytest().assert_outcomes(passed=1)


def test_a_baseline_folder_that_is_a_file(project):
    project.makepyfile(test_it=TEST)
    Path(project.path, "perf-baselines").write_text("hello")
    assert "is a file, not a folder" in usage_error(project, "--perf-gate")
    assert "is a file, not a folder" in usage_error(project, "--perf-update")
    assert Path(project.path, "perf-baselines").read_text() == "hello"


def test_a_baseline_that_is_a_folder_cannot_be_read(accepted):
    path = baseline(accepted)
    path.unlink()
    path.mkdir()
    assert "cannot read" in usage_error(accepted, "--perf-gate")


def test_a_folder_that_cannot_be_written_stops_before_the_first_test(project, monkeypatch):
    """Root may write anywhere, so the refusal is the operating system's answer, played back."""
    project.makepyfile(test_it="def test_it(perf):\n    raise SystemExit('must not run')\n")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    line = usage_error(project, "--perf-update")
    assert "cannot write into" in line
    assert "Permission denied" in line


def test_a_write_that_fails_at_the_end_exits_with_three_and_keeps_the_old_file(accepted, monkeypatch):
    path = baseline(accepted)
    before = path.read_text()
    accepted.makepyfile(test_it=TEST.replace("1", "2"))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("os.fsync", full)
    result = accepted.runpytest("--perf-update")
    assert result.ret == 3
    result.stdout.fnmatch_lines(["ERROR: cannot write *No space left on device*untouched*"])
    assert path.read_text() == before
    assert not list(path.parent.glob(".*"))


def test_a_record_that_cannot_be_written_exits_with_three(accepted):
    Path(accepted.path, "taken").write_text("")
    result = accepted.runpytest("--perf-report", "json=taken/perf.json")
    assert result.ret == 3
    result.stdout.fnmatch_lines(["ERROR: cannot write the record*"])


def test_updating_under_xdist_is_refused(accepted):
    pytest.importorskip("xdist")
    before = baseline(accepted).read_text()
    result = accepted.runpytest_subprocess("--perf-update", "-n", "2")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --perf-update stores timings*run it with -n 0"])
    assert baseline(accepted).read_text() == before


def test_ini_twins_work_and_the_command_line_wins(accepted):
    accepted.runpytest("-o", "perf_gate=true").stdout.fnmatch_lines(["perf: threshold 2.0 %*"])
    both = usage_error(accepted, "-o", "perf_gate=true", "--perf-update")
    assert "contradict" in both
    accepted.runpytest("-o", "perf_gate=false").assert_outcomes(passed=1)
    shown = accepted.runpytest("--perf-gate", "-o", "perf_threshold=7%", "-o", "perf_alpha=5%")
    shown.stdout.fnmatch_lines(["perf: threshold 7.0 %, alpha 5.0 %*"])
    assert accepted.runpytest("--perf-gate", "-o", "perf_strict=true").ret == 1
    assert accepted.runpytest("-o", "perf_report=json=r.json").ret == 0
    assert Path(accepted.path, "r.json").exists()
    elsewhere = accepted.runpytest("--perf-gate", "-o", "perf_baselines=other")
    elsewhere.stdout.fnmatch_lines(["*other/*.jsonl (not there yet)*"])


def test_timings_under_coverage_are_not_stored(project):
    pytest.importorskip("pytest_cov")
    project.makepyfile("def test_it(perf): perf(int)")
    plugin = ("-o", "addopts=-p no:benchmark -p no:hypothesispytest -p no:anyio")
    refused = project.runpytest_subprocess("--perf-update", "--cov=.", *plugin)
    assert refused.ret == 4
    refused.stderr.fnmatch_lines(["ERROR: --perf-update stores timings*add --no-cov"])
    assert project.runpytest_subprocess("--perf-update", "--cov=.", "--no-cov", *plugin).ret == 0
