from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_tradeperf.commands.explain import described, explain
from pytest_tradeperf.errors import BaselineError
from pytest_tradeperf.model import Environment, Row, RunRecord, Verdict
from pytest_tradeperf.store.record import LAST_RECORD, save_record

ROW = Row(
    test="tests/test_a.py::test_x",
    metric="cpu",
    verdict=Verdict.REGRESSED,
    unit="ns",
    accepted=1e6,
    measured=1.05e6,
    change=0.05,
    change_low=0.03,
    change_high=0.07,
    detectable=0.07,
    threshold=0.02,
    pairs=13,
    note="+5.0 % in 13 pairs",
    evidence={
        "against": "HEAD (abc)",
        "tree": "src:def",
        "pairs": 13,
        "seconds": 9.5,
        "clock": "cpu",
        "alpha": 0.01,
        "comparisons": 20,
        "seed": 7,
        "log_ratios": [0.05, -0.01],
        "where_to_look": ["work (src/a.py:2): 1 -> 2 us an iteration"],
    },
)
ENVIRONMENT = Environment(platform="linux", arch="x86_64", python="3.11", machine="m", source_tree="src:123")
BECAUSE = (
    "  because      so many pairs lie above the threshold that a change at or below it would do this "
    "with a chance of at most 0.0005"
)
RULE = (
    "  rule         threshold 2.0 %, alpha 1.0 % of the session shared over 20 timings, smallest "
    "regression that would have shown +7.0 %"
)
RECORD = RunRecord(environment=ENVIRONMENT, verdicts=(ROW,))


def test_every_number_has_its_line_and_unit() -> None:
    assert list(described([ROW], RECORD)) == [
        "tests/test_a.py::test_x cpu: regressed",
        BECAUSE,
        "  compared     HEAD (abc), tree src:def with the working tree (src:123)",
        "  values       1.00 ms -> 1.05 ms",
        "  change       +5.0 %, interval +3.0 % .. +7.0 % (each end 95 %, for all looks together)",
        "  measured     13 process pairs in 9.5 s, by cpu time; seed 7",
        RULE,
        "  pair by pair +5.1% -1.0%",
        "  look at      work (src/a.py:2): 1 -> 2 us an iteration",
    ]


def test_row_that_was_not_measured_in_pairs_says_only_why() -> None:
    row = Row(test="t", metric="wall", verdict=Verdict.NEW, note="nothing accepted yet")
    assert list(described([row], RECORD)) == ["t wall: new", "  because      nothing accepted yet"]


def test_last_record_is_found_from_below_rootdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".tradeperf").mkdir()
    (tmp_path / "tests").mkdir()
    save_record(RECORD, tmp_path / LAST_RECORD)
    monkeypatch.chdir(tmp_path / "tests")
    done = CliRunner().invoke(explain, ["test_x"])
    assert done.exit_code == 0
    assert done.output.startswith("tests/test_a.py::test_x cpu: regressed")


def test_unknown_test_and_missing_record_name_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaselineError, match="run pytest --perf-gate"):
        CliRunner().invoke(explain, ["x"], catch_exceptions=False)
    save_record(RECORD, tmp_path / "r.json")
    with pytest.raises(BaselineError, match=r"no test with 'nope' in .*; it has tests/test_a.py::test_x"):
        CliRunner().invoke(explain, ["nope", "--record", "r.json"], catch_exceptions=False)
