import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tradeperf.errors import BaselineError
from pytest_tradeperf.model import (
    Better,
    Environment,
    Kind,
    Measurement,
    Metric,
    Row,
    RunRecord,
    TestRecord,
    Verdict,
    Waiver,
)
from pytest_tradeperf.store.record import from_json, load_record, save_record, to_json

WALL = Metric(name="wall", kind=Kind.TIMING, unit="ns")
RECORD = RunRecord(
    environment=Environment(
        platform="linux",
        arch="x86_64",
        python="3.11",
        machine="m, 2 CPUs",
        dependencies={"numpy": "2"},
        source_tree="abc",
        created="2026-01-02T03:04:05+00:00",
        witness={"load": [0.5, 1]},
    ),
    tests=(
        TestRecord(
            test='t.py::a["\n\u2028ü]' + "x" * 4000,
            measurements=(
                Measurement(
                    metric=WALL, value=1.5, low=1.0, high=2.0, detail={"rounds": 5, "how": ["a", None]}
                ),
                Measurement(
                    metric=Metric(
                        name="digest:a", kind=Kind.DIGEST, better=Better.SAME, relative=1e-9, portable=True
                    ),
                    value="sha256:0",
                    text="[1]",
                ),
            ),
            stages=(("load", 1, 500), ("load/parse", 2, 300)),
            threshold=0.05,
            accept=Waiver(fraction=0.1, reason="x", until="2027-01-31"),
        ),
        TestRecord(test="t.py::\udcff"),
    ),
    verdicts=(
        Row(
            test="t.py::a",
            metric="wall",
            verdict=Verdict.REGRESSED,
            unit="ns",
            accepted=1.0,
            measured=2.0,
            change=1.0,
            detectable=0.5,
            threshold=0.02,
            pairs=9,
            note="slower",
            detail=("one", "two"),
            evidence={"pairs": [[1, 2]]},
        ),
        Row(test="t.py::a", metric="digest:a", verdict=Verdict.OK, accepted="sha256:0", measured="sha256:0"),
    ),
    settings={"mode": "gate", "alpha": 0.01},
)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    save_record(RECORD, tmp_path / "new" / "record.json")
    assert load_record(tmp_path / "new" / "record.json") == RECORD


def test_a_record_is_plain_versioned_json(tmp_path: Path) -> None:
    save_record(RECORD, tmp_path / "record.json")
    text = (tmp_path / "record.json").read_text(encoding="ascii")
    data = json.loads(text)
    assert data["tradeperf_record"] == 1
    assert data["tests"][0]["measurements"][0]["metric"]["kind"] == "timing"
    assert "commit" not in data["environment"]
    assert text.endswith("\n")


@given(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.text())
def test_any_measurement_survives_json(test: str, value: float | str, text: str) -> None:
    record = TestRecord(test=test, measurements=(Measurement(metric=WALL, value=value, text=text),))
    assert from_json(TestRecord, json.loads(json.dumps(to_json(record)))) == record


def test_what_json_does_not_have_is_left_out() -> None:
    row = Row(test="t", metric="m", verdict=Verdict.OK, change=math.inf, evidence={"x": math.nan})
    data = to_json(row)
    assert "change" not in data
    assert data["evidence"] == {"x": None}
    json.dumps(data, allow_nan=False)


def test_a_failure_midway_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    save_record(RECORD, path)
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BaselineError, match=r"cannot write the record .*No space left"):
        save_record(RunRecord(environment=RECORD.environment), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_record_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BaselineError, match="cannot write the record"):
        save_record(RECORD, tmp_path / "file" / "record.json")


def test_an_absent_record_is_refused_once(tmp_path: Path) -> None:
    with pytest.raises(BaselineError) as error:
        load_record(tmp_path / "no.json")
    assert str(error.value) == f"cannot read the record {tmp_path / 'no.json'}: No such file or directory"


ENVIRONMENT = {"platform": "l", "arch": "x", "python": "3", "machine": "m"}


def whole(**changes: Any) -> dict[str, Any]:
    return {"tradeperf_record": 1, "environment": ENVIRONMENT, **changes}


def test_the_smallest_record_is_its_environment(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(whole()))
    assert load_record(tmp_path / "r.json").tests == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 200_000, "is not JSON"),
        ("[]", "is not a run record"),
        ("5", "is not a run record"),
        ("{}", "is not a run record"),
        (whole(tradeperf_record=True), "is not a run record"),
        (whole(tradeperf_record="1"), "is not a run record"),
        (whole(tradeperf_record=2), "format 2, this one reads 1: upgrade pytest-tradeperf"),
        (whole(tradeperf_record=0), "format 0, this one reads 1: write it again"),
        ({"tradeperf_record": 1}, "missing 1 required keyword-only argument: 'environment'"),
        (whole(environment=[]), "Environment is not written as []"),
        (whole(environment=None), "Environment is not written as null"),
        (whole(environment={**ENVIRONMENT, "python": 3}), "3 is not str"),
        (whole(surprise=1), "RunRecord has no ['surprise']"),
        (whole(tests={}), "{} is not list"),
        (whole(tests="abc"), '"abc" is not list'),
        (whole(tests=["abc"]), 'TestRecord is not written as "abc"'),
        (whole(tests=[{"test": "t", "threshold": "3%"}]), '"3%" is not float'),
        (whole(tests=[{"test": "t", "threshold": True}]), "true is not float"),
        (whole(tests=[{"test": "t", "stages": [["a", 1]]}]), '["a", 1] has not 3 parts'),
        (whole(tests=[{"test": "t", "stages": [["a", 1.5, 2]]}]), "1.5 is not int"),
        (whole(verdicts=[{"test": "t", "metric": "m", "verdict": "fine"}]), "'fine' is not a valid Verdict"),
        (whole(settings=[1]), "[1] is not dict"),
    ],
)
def test_what_is_no_record_is_refused_in_one_line_with_the_cure(
    tmp_path: Path, content: Any, problem: str
) -> None:
    path = tmp_path / "r.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(BaselineError) as error:
        load_record(path)
    message = str(error.value)
    assert problem in message
    assert "\n" not in message
    assert len(message) < 400
    assert "--perf-report json=PATH" in message or "upgrade" in message


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BaselineError, match="is not JSON"):
        load_record(tmp_path / "r.json")
