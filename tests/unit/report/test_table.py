import pytest

from pytest_tradeperf.model import Row, Verdict
from pytest_tradeperf.report.table import WIDTH, abridged, counts, sorted_rows, table

LONG = "tests/" + "very_" * 30 + "long.py::test_it"
ROWS = [
    Row(
        test="t.py::fast",
        metric="wall",
        verdict=Verdict.OK,
        unit="ns",
        accepted=1e6,
        measured=1.01e6,
        note="same code",
    ),
    Row(
        test="t.py::slow",
        metric="wall",
        verdict=Verdict.REGRESSED,
        unit="ns",
        accepted=1.5e6,
        measured=3e6,
        change=1.0,
        note="1.50 ms -> 3.00 ms, 2.00 x the accepted value",
    ),
    Row(
        test="t.py::slow",
        metric="digest:signals",
        verdict=Verdict.REGRESSED,
        accepted="sha256:0",
        measured="sha256:1",
        note="the answer changed, first at ['positions'][17].price: 104.25 -> 104.75, and this note is long",
    ),
    Row(
        test="t.py::heavy",
        metric="peak_rss",
        verdict=Verdict.OVER_BUDGET,
        unit="B",
        accepted=2.0**30,
        measured=1.5 * 2**30,
        change=0.5,
    ),
    Row(
        test=LONG,
        metric="a_metric_whose_name_is_far_too_long",
        verdict=Verdict.NEW,
        unit="orders",
        measured=12345678,
    ),
    Row(
        test="t.py::rate",
        metric="rate",
        verdict=Verdict.UNDECIDED,
        unit="some long label",
        accepted=1234567890,
        measured=1234567891,
        change=8.1e-10,
    ),
    Row(
        test="t.py::gone",
        metric="cpu",
        verdict=Verdict.MISSING,
        unit="ns",
        accepted=5e9,
        note="the test is gone",
    ),
    Row(test="t.py::x[a\nb\x1b[31m]", metric="all", verdict=Verdict.ERROR, note="a worker crashed"),
]

GOLDEN = """\
t.py::slow
  regressed   digest:signals
      the answer changed, first at ['positions'][17].price: 104.25 -> 104.75,
      and this note is long
  regressed   wall                      +100 %  1.50 ms -> 3.00 ms
      1.50 ms -> 3.00 ms, 2.00 x the accepted value
t.py::heavy
  over budget peak_rss                 +50.0 %  1.00 GiB -> 1.50 GiB
t.py::x[a\\nb\\x1b[31m]
  error       all
      a worker crashed
t.py::rate
  undecided   rate                   +8.1e-08 %
      1,234,567,890 some long label -> 1,234,567,891 some long label
t.py::gone
  missing     cpu                               5.00 s
      the test is gone
..._very_very_very_very_very_very_very_very_very_very_very_very_long.py::test_it
  new         ...ame_is_far_too_long            12,345,678 orders
t.py::fast
  ok          wall                   same code  1.00 ms -> 1.01 ms
"""


def test_the_table_reads_well_at_eighty_columns() -> None:
    text = "\n".join(line for line, _ in table(sorted_rows(ROWS))) + "\n"
    assert text == GOLDEN


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(len(line) for line, _ in table(sorted_rows(ROWS), width)) <= width


def test_eighty_columns_are_the_default() -> None:
    assert WIDTH == 80


def test_every_line_carries_the_verdict_it_is_coloured_by() -> None:
    lines = table([ROWS[1]])
    assert {verdict for _, verdict in lines} == {Verdict.REGRESSED}


def test_a_line_is_printable_whatever_the_test_is_called() -> None:
    assert all(line.isprintable() for line, _ in table(sorted_rows(ROWS)))


def test_rows_are_sorted_by_severity_then_test_then_metric() -> None:
    order = [(row.verdict.severity, row.test, row.metric) for row in sorted_rows(ROWS)]
    assert order == sorted(order)


def test_counts_name_what_is_there_most_severe_first() -> None:
    assert counts(ROWS) == "2 regressed, 1 over budget, 1 error, 1 undecided, 1 missing, 1 new, 1 ok"


def test_nothing_to_count_is_said() -> None:
    assert counts([]) == "nothing judged"
    assert table([]) == []


def test_long_table_keeps_every_finding_and_the_first_calm_tests() -> None:
    calm = [Row(test=f"t.py::t{n}", metric=m, verdict=Verdict.OK) for n in range(5) for m in ("cpu", "wall")]
    findings = [Row(test=f"t.py::t{n}", metric="n", verdict=Verdict.UNDECIDED) for n in range(5)]
    kept, gone = abridged([*findings, *calm], 3)
    assert kept == [*findings, *calm[:6]]
    assert gone == 2
    assert abridged(calm, 5) == (calm, 0)
    assert abridged([*findings, *calm], 0) == (findings, 5)
