"""Running a whole test several times: set-up and tear-down each time, higher-scoped fixtures kept."""

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_tradeperf.measures.recorder import timing_measurements
from pytest_tradeperf.model import Measurement, Sample, TestRecord
from pytest_tradeperf.plugin.item import STATE
from pytest_tradeperf.plugin.reports import run_held
from pytest_tradeperf.plugin.subtests import SUBTESTS
from pytest_tradeperf.store.record import to_json

if TYPE_CHECKING:
    from collections.abc import Callable

PASSES: Final = 5
TOTAL_NS: Final = 1_000_000_000

_BEFORE = pytest.StashKey[tuple[int, int]]()


def run_repeated(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Run ``item`` as ``repeated`` and tear down what ``nextitem`` does not need."""
    reports = repeated(item)
    release(item, nextitem, reports)
    return reports


def repeated(item: pytest.Item) -> list[pytest.TestReport]:
    """Run ``item`` up to five times within a second and return the last pass's reports.

    Its record then holds a round a pass. A pass that does not succeed is the last.
    """
    rounds: list[Sample] = []
    while True:
        reports = run_pass(item)
        state = item.stash.get(STATE, None)
        if state is None:  # another plug-in's set-up ended the test before ours began
            return reports
        if state.whole is None or not has_passed(item, reports):
            break
        rounds.append(state.whole)
        spent = sum(s.wall_ns[0] for s in rounds)
        if (
            len(rounds) >= PASSES
            or spent + state.whole.wall_ns[0] > TOTAL_NS
            or state.recorder.samples
            or not state.is_timed
        ):
            break
    if len(rounds) > 1 and state.record is not None and state.is_timed:
        merged = Sample(
            iterations=1,
            wall_ns=tuple(s.wall_ns[0] for s in rounds),
            cpu_ns=tuple(s.cpu_ns[0] for s in rounds),
        )
        state.record = _with_timing(state.record, merged)
        attach(state.record, reports)
    return reports


def run_pass(item: pytest.Item) -> list[pytest.TestReport]:
    """Run one pass, keeping every fixture of a scope above the function.

    What a test says of itself counts once: a later pass forgets the properties and the output of the
    one before, and its warnings and subtests are those that the first has shown.
    """
    # Tear-down keeps what its argument's chain needs; the parent needs all but the item itself.
    nextitem: Any = item.parent
    properties, output = item.user_properties, item._report_sections  # noqa: SLF001 - no other way to forget
    if _BEFORE not in item.stash:
        item.stash[_BEFORE] = (len(properties), len(output))
        return run_held(item, nextitem)
    kept_properties, kept_output = item.stash[_BEFORE]
    del properties[kept_properties:], output[kept_output:]
    subtests = item.config.stash[SUBTESTS]
    subtests.is_repeating = True
    try:
        with warnings.catch_warnings(record=True):
            return run_held(item, nextitem)
    finally:
        subtests.is_repeating = False


def has_passed(item: pytest.Item, reports: Iterable[pytest.TestReport]) -> bool:
    """Return whether a test passed with all its subtests, which fail in reports of their own."""
    return all(report.passed for report in reports) and item.nodeid not in item.config.stash[SUBTESTS].failed


def release(item: pytest.Item, nextitem: pytest.Item | None, reports: list[pytest.TestReport]) -> None:
    """Tear down what ``nextitem`` does not need; a failure there replaces the tear-down report."""
    teardown: Callable[[Any], None] = item.session._setupstate.teardown_exact  # noqa: SLF001 - as pytest's runner
    call = pytest.CallInfo.from_call(lambda: teardown(nextitem), when="teardown")
    if call.excinfo is not None:
        reports[-1] = item.ihook.pytest_runtest_makereport(item=item, call=call)


def _with_timing(record: TestRecord, sample: Sample) -> TestRecord:
    timed = {m.metric.name: m for m in timing_measurements(sample)}

    def merged(old: Measurement) -> Measurement:
        new = timed.get(old.metric.name)
        return old if new is None else replace(new, detail={**old.detail, **new.detail})

    return replace(record, measurements=tuple(merged(m) for m in record.measurements))


def attach(record: TestRecord, reports: list[pytest.TestReport]) -> None:
    """Put ``record`` on the call report, which is how it travels."""
    for report in reports:
        if report.when == "call":
            report.tradeperf = to_json(record)  # type: ignore[attr-defined]
