"""Measuring in the test loop: budgets judged in the test itself, records gathered for what comes after."""

import contextlib
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from pytest_tradeperf.errors import MeasureError, TradeperfError
from pytest_tradeperf.gate.budgets import breaches, unmeasured
from pytest_tradeperf.measures.metrics import RESERVED
from pytest_tradeperf.measures.rounds import CAREFUL, CLOCKS, QUICK, Schedule, calibrated
from pytest_tradeperf.measures.witness import NoiseWitness, describe
from pytest_tradeperf.model import Json, Kind, Measurement, Row, Sample, TestRecord, Verdict
from pytest_tradeperf.plugin import is_gated
from pytest_tradeperf.plugin.extras import (
    PASS,
    around_call,
    begin_setup,
    deferred,
    explained,
    fails,
    run_measured,
    wants_extras,
)
from pytest_tradeperf.plugin.instruments import wanted
from pytest_tradeperf.plugin.item import STATE, ItemState, prepare
from pytest_tradeperf.plugin.reports import log
from pytest_tradeperf.plugin.settings import Mode, Settings, read_settings
from pytest_tradeperf.plugin.subtests import watch_subtests
from pytest_tradeperf.plugin.work import WORK, WorkPass
from pytest_tradeperf.report.stages import describe_stages
from pytest_tradeperf.store.record import from_json, to_json

SESSION = pytest.StashKey["MeasuringSession"]()
NAME = "tradeperf-session"


def activate(config: pytest.Config) -> None:
    """Register the measuring half once; a wrong option is a usage error before the first test."""
    if config.pluginmanager.hasplugin(NAME):
        return
    try:
        settings = read_settings(config)
        session = MeasuringSession(config, settings)
        config.stash[SESSION] = session
        config.pluginmanager.register(session, NAME)
        watch_subtests(config)
        if settings.mode is not Mode.CHILD:
            work = config.stash[WORK] = WorkPass(config, settings)
            config.pluginmanager.register(work, "tradeperf-work")
        if settings.has_answer and not settings.is_xdist_worker:
            from pytest_tradeperf.plugin.gatekeeper import Gatekeeper

            config.pluginmanager.register(Gatekeeper(config, settings, session), "tradeperf-gatekeeper")
        elif settings.is_xdist_worker and settings.is_holding:
            from pytest_tradeperf.plugin.xdist import HoldingWorker

            config.pluginmanager.register(HoldingWorker(config, settings), "tradeperf-worker")
    except TradeperfError as error:
        raise pytest.UsageError(str(error)) from error


class MeasuringSession:
    """Measures the tests that ask for it and enforces their budgets."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.config = config
        self.settings = settings
        self.records: dict[str, TestRecord] = {}
        self.over_budget: list[Row] = []
        self._specs: dict[str, ItemState] = {}

    def schedule(self, test: str, part: str, *, cache: str | None, is_async: bool, cold: bool) -> Schedule:
        """Return how a callable of ``test`` is run in this session."""
        del part, cache, is_async
        plan = CAREFUL if self.settings.is_careful else QUICK
        state = self._specs.get(test)
        rounds = state.spec.rounds if state is not None else None
        return calibrated(replace(plan, rounds=rounds, cold=cold))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Give a measured test its recorder, fresh for every repetition."""
        if is_gated(item):
            state = prepare(item, self)
            self._specs[state.recorder.test] = state
            if PASS in item.stash:
                begin_setup(item, item.stash[PASS])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a test that is measured in several passes; a session with an answer does that itself."""
        if not is_gated(item) or not wants_extras(item, self.settings):
            return None
        log(self.config, run_measured(item, nextitem, self.settings, repeat=False))
        return True

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say which limits could not be judged, where no table says it."""
        if not self.settings.has_answer:
            for row in self.over_budget:
                if row.verdict is Verdict.UNDECIDED:
                    terminalreporter.write_line(f"perf: {row.test}: undecided: {row.note}", yellow=True)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Measure the call phase and judge its budgets."""
        state = item.stash.get(STATE, None)
        if state is None:
            return (yield)
        if state.problem is not None:
            pytest.fail(state.problem, pytrace=False)
        if PASS in item.stash:
            return (yield from around_call(item, item.stash[PASS]))
        later = deferred(item, state, self.settings)
        asked = state.spec.asked(is_kept=self.settings.keeps_values) - later
        with contextlib.ExitStack() as stack:
            instruments = wanted(asked, item)
            for instrument in instruments:
                stack.enter_context(instrument)
            witness = stack.enter_context(NoiseWitness()) if self.settings.has_answer else None
            wall_clock, cpu_clock = CLOCKS
            wall, cpu = wall_clock(), cpu_clock()
            result = yield
            cpu_end, wall_end = cpu_clock(), wall_clock()
        try:
            state.recorder.check_complete()
        except MeasureError as error:
            pytest.fail(str(error), pytrace=False)
        whole = state.whole = Sample(iterations=1, wall_ns=(wall_end - wall,), cpu_ns=(cpu_end - cpu,))
        measurements = (
            *state.recorder.measurements(whole if state.is_timed else None),
            *(m for instrument in instruments for m in instrument.measurements()),
        )
        if witness is not None:
            measurements = tuple(_witnessed(m, witness.seen) for m in measurements)
        stages = state.recorder.stages.totals()
        seen = {k: v for i in instruments for k, v in getattr(i, "unavailable", {}).items()}
        unavailable = seen | state.recorder.unavailable
        state.record = TestRecord(
            test=state.recorder.test,
            measurements=measurements,
            stages=stages,
            threshold=state.spec.threshold,
            accept=state.spec.waiver,
            unavailable=unavailable,
            code=_code_of(item) if self.settings.has_answer else None,
        )
        judged = breaches(state.spec.only(asked), measurements, state.recorder.test, unavailable)
        if self.settings.keeps_values:  # an instrument of ours tells more than was asked for
            asked_for = {k: v for k, v in unavailable.items() if k not in RESERVED or k not in seen}
            judged += unmeasured(asked_for, judged, state.recorder.test)
        over = [*judged, *state.rows]
        state.over = tuple(over)
        bad = [row for row in over if fails(row, self.settings)]
        if bad:
            lines = _told(explained(row, measurements) for row in bad)
            if stages:
                lines += ["where the time went:", *(f"  {line}" for line in describe_stages(stages))]
            pytest.fail("\n".join(lines), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach what was measured to the report, which is how it travels from xdist workers."""
        report = yield
        state = item.stash.get(STATE, None)
        if call.when == "call" and state is not None and state.record is not None:
            if report.passed:
                report.tradeperf = to_json(state.record)  # type: ignore[attr-defined]
            if state.over and not report.skipped:
                report.tradeperf_over = to_json(state.over)  # type: ignore[attr-defined]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what passed tests measured and where budgets were exceeded."""
        record = record_of(report)
        if record is not None:
            self.records[record.test] = record
        self.over_budget += [from_json(Row, row) for row in getattr(report, "tradeperf_over", ())]


def _told(rows: Iterable[Row]) -> list[str]:
    """Return the lines of a failure report."""
    lines = []
    for row in rows:
        lines += [f"{row.verdict.replace('_', ' ')}: {row.note}", *(f"  {line}" for line in row.detail)]
    return lines


def _code_of(item: pytest.Item) -> str | None:
    from pytest_tradeperf.plugin.testcode import code_of  # of use only where something is judged or stored

    return code_of(item)


def _witnessed(measurement: Measurement, seen: Mapping[str, Json]) -> Measurement:
    """Return a timing with the noise that was seen beside it."""
    if measurement.metric.kind is not Kind.TIMING:
        return measurement
    return replace(
        measurement, detail={**measurement.detail, "witness": dict(seen), "disturbed": describe(seen)}
    )


def record_of(report: pytest.TestReport) -> TestRecord | None:
    """Return what a report carries of its test's measurements."""
    data = getattr(report, "tradeperf", None)
    return from_json(TestRecord, data) if data is not None else None
