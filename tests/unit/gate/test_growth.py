"""Module sets and allocation sites: what came, what went, what grew."""

import datetime as dt
import json

import pytest

from pytest_tradeperf.gate.digests import set_change
from pytest_tradeperf.gate.judge import Context, judge
from pytest_tradeperf.gate.sites import grown_sites
from pytest_tradeperf.model import BaselineLine, Better, Kind, Measurement, Metric, Row, TestRecord, Verdict

CONTEXT = Context(threshold=0.02, today=dt.date(2026, 1, 1))
MODULES = Metric(name="import_set:shop", kind=Kind.DIGEST, better=Better.LOWER)


def sets(*names: str) -> str:
    return json.dumps({"set": sorted(names)})


def judged(old: str, new: str) -> Row:
    line = BaselineLine(test="t", metric=MODULES, value="sha256:old", text=old)
    record = TestRecord(test="t", measurements=(Measurement(metric=MODULES, value="sha256:new", text=new),))
    return judge(record, {MODULES.name: line}, CONTEXT).rows[0]


def test_a_module_that_came_is_a_regression_even_if_another_went() -> None:
    row = judged(sets("json", "os"), sets("os", "pandas"))
    assert (row.verdict, row.note) == (Verdict.REGRESSED, "+pandas, -json")


def test_modules_that_only_went_are_an_improvement() -> None:
    assert judged(sets("json", "os"), sets("os")).verdict is Verdict.IMPROVED


@pytest.mark.parametrize("text", ["no json", "[1]", '{"list":[1]}', '{"set":3}', sets("a")])
def test_equal_or_unreadable_sets_have_no_change(text: str) -> None:
    assert set_change(text, sets("a")) is None


def sites(**held: int) -> str:
    return json.dumps({f"m.py in {name}": [f"m.py:7 in {name}", size] for name, size in held.items()})


def test_sites_that_grew_are_named_largest_growth_first() -> None:
    lines = grown_sites(sites(load=1024, parse=2048, same=512), sites(load=5120, parse=4096, same=512))
    assert lines == (
        "+4.00 KiB held by m.py:7 in load (1.00 KiB -> 5.00 KiB)",
        "+2.00 KiB held by m.py:7 in parse (2.00 KiB -> 4.00 KiB)",
    )


def test_a_new_site_and_an_edited_text_are_no_error() -> None:
    assert grown_sites(sites(), sites(load=1024))[0].endswith("(not among the largest -> 1.00 KiB)")
    assert grown_sites("not json", sites(load=1024)) != ()
    assert grown_sites(sites(load=1), "[]") == ()


def test_a_regressed_heap_peak_carries_its_sites() -> None:
    metric = Metric(name="peak_memory", kind=Kind.COUNTER, unit="B", relative=0.01)
    line = BaselineLine(test="t", metric=metric, value=1000, text=sites(load=1000))
    fresh = Measurement(metric=metric, value=2000, text=sites(load=2000))
    record = TestRecord(test="t", measurements=(fresh,))
    row = judge(record, {metric.name: line}, CONTEXT).rows[0]
    assert row.verdict is Verdict.REGRESSED
    assert row.detail == ("+1,000 B held by m.py:7 in load (1,000 B -> 1.95 KiB)",)
