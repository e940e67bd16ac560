from pytest_tradeperf.model import Kind, Measurement, Metric, Row, TestRecord, Verdict
from pytest_tradeperf.workflow import with_noise

WALL = Metric(name="wall", kind=Kind.TIMING, unit="ns")


def row(verdict: Verdict) -> Row:
    return Row(test="t", metric="wall", verdict=verdict, note="blind")


def record(**detail: str) -> TestRecord:
    return TestRecord(test="t", measurements=(Measurement(metric=WALL, value=1.0, detail=detail),))


def test_an_undecided_row_says_what_disturbed_it() -> None:
    (noisy,) = with_noise([row(Verdict.UNDECIDED)], [record(disturbed="CPU stolen 9.0 %")])
    assert noisy.note == "blind; noise seen: CPU stolen 9.0 %"


def test_other_rows_and_quiet_machines_keep_their_note() -> None:
    assert with_noise([row(Verdict.OK)], [record(disturbed="load 9")])[0].note == "blind"
    assert with_noise([row(Verdict.UNDECIDED)], [record(disturbed="")])[0].note == "blind"
    assert with_noise([row(Verdict.UNDECIDED)], [])[0].note == "blind"
