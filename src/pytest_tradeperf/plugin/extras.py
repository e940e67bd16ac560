"""What a test is measured for apart from its ordinary pass: heap, event loop, leaks, imports.

These disturb timings, so each has passes of its own after the ordinary one has succeeded; it was the
warm-up. Function-scoped fixtures are fresh in every pass, wider ones are kept.
"""

import functools
import inspect
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.gate.budgets import breaches, unmeasured
from pytest_tradeperf.measures import metrics
from pytest_tradeperf.model import Measurement, Row, Verdict
from pytest_tradeperf.plugin.item import STATE, ItemState, Unmeasured
from pytest_tradeperf.plugin.repeat import attach, has_passed, release, repeated, run_pass
from pytest_tradeperf.plugin.reports import over, run_held
from pytest_tradeperf.plugin.settings import Mode, Settings
from pytest_tradeperf.plugin.work import NO_CALLABLE, WORK, asks_for_work, is_work
from pytest_tradeperf.store.record import to_json
from pytest_tradeperf.units import format_quantity

HEAP_LIMITS: Final = frozenset({metrics.PEAK_MEMORY.name, metrics.ALLOCATIONS.name})


@dataclass(slots=True)
class Pass:
    """What one extra pass does with the call phase: watch it, or call it again and again."""

    instrument: AbstractContextManager[Any] | None = None
    include_fixtures: bool = False
    repeat: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
    is_watching: bool = False


PASS = pytest.StashKey[Pass]()


@dataclass(slots=True)
class Outcome:
    """What the extra passes found; ``failure`` holds the reports of one that did not succeed."""

    measurements: list[Measurement] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    failure: list[pytest.TestReport] | None = None


def deferred(item: pytest.Item, state: ItemState, settings: Settings) -> frozenset[str]:
    """Return what a test asks for that its ordinary pass cannot measure."""
    fixtures = getattr(item, "fixturenames", ())
    names = frozenset() if "perf_memory" in fixtures else HEAP_LIMITS
    if has_loop_pass(item, settings):
        names |= {metrics.LOOP_LAG.name}
    asked = state.spec.asked(is_kept=settings.keeps_values)
    return frozenset(name for name in asked if name in names or is_work(name))


def has_loop_pass(item: pytest.Item, settings: Settings) -> bool:
    """Return whether the event loop is watched in a pass of its own.

    Rounds of ``perf`` hold the loop themselves, and watching would disturb timings that are kept.
    """
    return settings.has_answer or "perf" in getattr(item, "fixturenames", ())


def wants_extras(item: pytest.Item, settings: Settings) -> bool:
    """Return whether a test asks for anything beside its ordinary pass, before its markers are read."""
    if settings.mode is Mode.CHILD:
        return False
    if any(item.iter_markers("perf_leak")) or any(item.iter_markers("perf_imports")):
        return True
    if settings.keeps_values and "perf_memory" in getattr(item, "fixturenames", ()):
        return True
    named = {name for mark in item.iter_markers("perf_budget") for name in mark.kwargs}
    wanting = HEAP_LIMITS | {metrics.LOOP_LAG.name}
    if settings.mode in (Mode.GATE, Mode.UPDATE):
        wanting |= {metrics.PEAK_RSS.name}
    return bool(named & wanting) or asks_for_work(item, settings)


def run_measured(
    item: pytest.Item, nextitem: pytest.Item | None, settings: Settings, *, repeat: bool
) -> list[pytest.TestReport]:
    """Run the ordinary pass (several with ``repeat``) and the extra ones; return one set of reports."""
    if not wants_extras(item, settings):
        if not repeat:
            return run_held(item, nextitem)
        reports = repeated(item)
        release(item, nextitem, reports)
        return reports
    reports = repeated(item) if repeat else run_pass(item)
    state = item.stash.get(STATE, None)  # None where another plug-in's set-up ended the test before ours
    if state is not None and state.record is not None and has_passed(item, reports):
        outcome = _measure(item, state, settings)
        item.stash[STATE] = state
        if outcome.failure is not None:
            reports = outcome.failure
        else:
            _conclude(item, state, settings, outcome, reports)
    release(item, nextitem, reports)
    return reports


def _measure(item: pytest.Item, state: ItemState, settings: Settings) -> Outcome:
    outcome = Outcome()
    names = deferred(item, state, settings)
    steps: list[Callable[[], None]] = []
    if names & HEAP_LIMITS:
        steps.append(lambda: _heap(item, state, settings, outcome))
    elif settings.keeps_values:
        steps.append(lambda: _blocks(item, state, outcome))
    if metrics.LOOP_LAG.name in names:
        steps.append(lambda: _loop(item, outcome))
    if metrics.PEAK_RSS.name in state.spec.asked(is_kept=True) and settings.mode in (Mode.GATE, Mode.UPDATE):
        steps.append(lambda: _growth(item, outcome))
    if state.leak is not None:
        steps.append(lambda: _leak(item, state, outcome))
    for step in steps:
        step()
        if outcome.failure is not None:
            return outcome
    _work(item, state, frozenset(filter(is_work, names)), outcome)
    if state.imports:
        from pytest_tradeperf.plugin.importing import measure_imports

        for spec in state.imports:
            measure_imports(item, spec, state.recorder.test, outcome)
    return outcome


def _conclude(
    item: pytest.Item,
    state: ItemState,
    settings: Settings,
    outcome: Outcome,
    reports: list[pytest.TestReport],
) -> None:
    """Add what was found to the record on the call report, and fail the report where limits are broken."""
    assert state.record is not None
    spec = state.spec.only(deferred(item, state, settings))
    judged = breaches(spec, outcome.measurements, state.recorder.test, outcome.unavailable)
    rows = [*(explained(row, outcome.measurements) for row in judged), *outcome.rows]
    if settings.keeps_values:
        untold = {k: v for k, v in outcome.unavailable.items() if k.startswith("import_")}
        rows += unmeasured(untold, rows, state.recorder.test)
    renewed = {m.metric.name for m in outcome.measurements}
    first = [m for m in state.record.measurements if m.metric.name not in renewed]
    state.record = replace(
        state.record,
        measurements=(*first, *outcome.measurements),
        unavailable={**state.record.unavailable, **outcome.unavailable},
    )
    attach(state.record, reports)
    state.over = (*state.over, *rows)
    call = next(report for report in reports if report.when == "call")
    if state.over:
        call.tradeperf_over = to_json(state.over)  # type: ignore[attr-defined]
    bad = [row for row in rows if fails(row, settings)]
    if bad:
        del call.tradeperf  # what a failing test measured is not kept
        over(call, bad)
        if hasattr(call, "wasxfail"):  # the failure that its xfail mark expects
            call.outcome = "skipped"


def fails(row: Row, settings: Settings) -> bool:
    """Return whether a row that was reached in the test itself fails it."""
    return (
        row.verdict.is_failure
        or row.verdict is Verdict.ERROR
        or (settings.strict and row.verdict.is_strict_failure)
    )


def explained(row: Row, measurements: Iterable[Measurement]) -> Row:
    """Return the row with where it came from: allocation sites, callbacks, what counted it."""
    found = next((m for m in measurements if m.metric.name == row.metric), None)
    if found is None:
        return row
    label, counter = found.detail.get("label"), found.detail.get("machine")
    lines = [f"{label}: counted by {counter}"] if label else []
    lines += [f"held the loop: {line}" for line in found.detail.get("where", ())]
    lines += [
        f"{format_quantity(held, 'B')} held by {place}" for place, held in found.detail.get("sites", ())
    ]
    return replace(row, detail=tuple(lines))


# -- the passes


def _heap(item: pytest.Item, state: ItemState, settings: Settings, outcome: Outcome) -> None:
    from pytest_tradeperf.measures.heap import HeapMode, HeapTracker, HeapUse, missing_instrument
    from pytest_tradeperf.measures.heap_passes import heap_measurements, schedule
    from pytest_tradeperf.plugin.heap import other_tracker

    reason = other_tracker(item) or missing_instrument()
    if reason is not None:
        outcome.unavailable |= dict.fromkeys(HEAP_LIMITS, reason)
        return
    uses: list[HeapUse] = []
    is_counted = metrics.ALLOCATIONS.name in state.spec.asked(is_kept=settings.keeps_values)
    for in_turn in schedule(uses, is_kept=settings.keeps_values, count=is_counted):
        tracker = HeapTracker(
            mode=HeapMode(state.spec.heap), count=is_counted, in_turn=in_turn, root=settings.root
        )
        plan = Pass(instrument=tracker, include_fixtures=state.spec.include_fixtures)
        if not _run(item, plan, "memory", outcome):
            return
        uses.append(tracker.use)
    outcome.measurements += heap_measurements(uses)


def _blocks(item: pytest.Item, state: ItemState, outcome: Outcome) -> None:
    """Run a test again whose blocks were tracked once: the first time imports and fills caches."""
    from pytest_tradeperf.measures.heap_passes import BLOCK_PASSES, least_of

    assert state.record is not None
    blocks = {m.metric.name: [m] for m in state.record.measurements if m.detail.get("passes") == 1}
    if not blocks:
        return
    for _ in range(BLOCK_PASSES - 1):
        if not _run(item, Pass(), "memory", outcome):
            return
        for measurement in item.stash[STATE].recorder.extra:
            if measurement.metric.name in blocks:
                blocks[measurement.metric.name].append(measurement)
    outcome.measurements += [least_of(passes) for passes in blocks.values()]


def _loop(item: pytest.Item, outcome: Outcome) -> None:
    from pytest_tradeperf.plugin.instruments import LoopLag

    watch = LoopLag(item)
    if _run(item, Pass(instrument=watch), "event loop", outcome):
        outcome.measurements += watch.measurements()
        outcome.unavailable |= watch.unavailable


def _growth(item: pytest.Item, outcome: Outcome) -> None:
    from pytest_tradeperf.plugin.instruments import PeakRss

    watch = PeakRss()
    if _run(item, Pass(instrument=watch), "resident memory", outcome):
        outcome.measurements += watch.growth()
        for why in watch.unavailable.values():
            outcome.unavailable[metrics.PEAK_RSS_GROWTH.name] = why


def _work(item: pytest.Item, state: ItemState, names: frozenset[str], outcome: Outcome) -> None:
    """Take over what was counted before the first test, where anything named was."""
    if not names:
        return
    counted = item.config.stash[WORK].of(state.recorder.test)
    why = counted.why if state.recorder.samples else NO_CALLABLE
    if why is None:
        outcome.measurements += counted.metrics
    else:
        outcome.unavailable |= dict.fromkeys(names, why)


def _leak(item: pytest.Item, state: ItemState, outcome: Outcome) -> None:
    from pytest_tradeperf.measures import leaks
    from pytest_tradeperf.plugin.keepsakes import forgetting_all
    from pytest_tradeperf.plugin.memory import leak_row

    spec = state.leak
    assert spec is not None
    options: dict[str, Any] = {
        "calls": spec.calls,
        "floor_bytes": spec.allow_bytes,
        "limit_ns": spec.limit_ns if spec.limit_ns is not None else leaks.LIMIT_NS,
    }
    found: list[leaks.LeakReport] = []

    def forget() -> None:
        """Drop what the test measured of itself in one call, so that the next may measure it again."""
        recorder = item.stash[STATE].recorder
        recorder.samples.clear()
        recorder.extra.clear()

    def repeat(test: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def again_async(*args: Any, **kwargs: Any) -> None:
                with forgetting_all(item) as forget_kept:

                    async def once() -> None:
                        forget()
                        await test(*args, **kwargs)
                        forget_kept()

                    found.append(await leaks.find_async(once, **options))

            return again_async

        @functools.wraps(test)
        def again(*args: Any, **kwargs: Any) -> None:
            with forgetting_all(item) as forget_kept:

                def once() -> None:
                    forget()
                    test(*args, **kwargs)
                    forget_kept()

                found.append(leaks.find(once, **options))

        return again

    if _run(item, Pass(repeat=repeat), "leak", outcome):
        row = leak_row(state.recorder.test, "leak", found[0])
        outcome.rows += [row] if row is not None else []


def _run(item: pytest.Item, plan: Pass, name: str, outcome: Outcome) -> bool:
    """Run one extra pass; return whether it succeeded, else keep its reports as the test's."""
    item.stash[PASS] = plan
    try:
        reports = run_pass(item)
    finally:
        end_pass(plan)  # where the set-up failed, the call never came
        del item.stash[PASS]
    if has_passed(item, reports):
        return True
    for report in reports:
        if not report.passed:
            text = "The test passed before; it failed when it was run once more to be measured."
            report.sections.append((f"perf: {name} pass", text))
    outcome.failure = reports
    return False


# -- inside a pass, called by the measuring session


def begin_setup(item: pytest.Item, plan: Pass) -> None:
    """Prepare a pass: callables of ``perf`` run once, and the instrument may watch the set-up too."""
    item.stash[STATE].recorder.mode = Unmeasured()
    if plan.include_fixtures and plan.instrument is not None:
        plan.instrument.__enter__()
        plan.is_watching = True


def around_call(item: pytest.Item, plan: Pass) -> Generator[None, Any, Any]:
    """Run the call phase as the pass wants it."""
    function: Any = item
    original, own = None, vars(item).get("runtest")
    try:
        if plan.repeat is not None:
            original = function.obj
            function.obj = plan.repeat(original)
        elif plan.instrument is not None and not plan.is_watching:
            function.runtest = functools.partial(_watched, plan.instrument, item.runtest)
        return (yield)
    except MeasureError as error:
        pytest.fail(str(error), pytrace=False)
    finally:
        if original is not None:
            function.obj = original
        vars(item).pop("runtest", None)
        if own is not None:  # another plug-in's
            function.runtest = own
        end_pass(plan)


def _watched(instrument: AbstractContextManager[Any], runtest: Callable[[], None]) -> None:
    """Run the test alone under watch: what other plug-ins do before it in the call phase is not its own."""
    with instrument:
        runtest()


def end_pass(plan: Pass) -> None:
    """Stop watching, once."""
    if plan.is_watching and plan.instrument is not None:
        plan.is_watching = False
        plan.instrument.__exit__(None, None, None)
