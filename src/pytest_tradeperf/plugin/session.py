"""Measuring in the test loop: budgets judged in the test itself, records gathered for what comes after."""

import contextlib
import time
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest

from pytest_tradeperf.errors import MeasureError, TradeperfError
from pytest_tradeperf.gate.budgets import breaches
from pytest_tradeperf.measures.rounds import CAREFUL, QUICK, Schedule, calibrated
from pytest_tradeperf.model import Row, Sample, TestRecord
from pytest_tradeperf.plugin import is_gated
from pytest_tradeperf.plugin.instruments import wanted
from pytest_tradeperf.plugin.item import STATE, ItemState, prepare
from pytest_tradeperf.plugin.settings import Settings, read_settings
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
        if settings.has_answer and not settings.is_xdist_worker:
            from pytest_tradeperf.plugin.gatekeeper import Gatekeeper

            config.pluginmanager.register(Gatekeeper(config, settings, session), "tradeperf-gatekeeper")
        elif settings.is_xdist_worker and settings.is_holding:
            from pytest_tradeperf.plugin.xdist import HoldingWorker

            config.pluginmanager.register(HoldingWorker(config), "tradeperf-worker")
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

    def schedule(self, test: str, part: str, *, is_async: bool, cold: bool) -> Schedule:
        """Return how a callable of ``test`` is run in this session."""
        del part, is_async
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

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Measure the call phase and judge its budgets."""
        state = item.stash.get(STATE, None)
        if state is None:
            return (yield)
        if state.problem is not None:
            pytest.fail(state.problem, pytrace=False)
        with contextlib.ExitStack() as stack:
            instruments = [stack.enter_context(i) for i in wanted(state.spec)]
            wall, cpu = time.perf_counter_ns(), time.process_time_ns()
            result = yield
            cpu_end, wall_end = time.process_time_ns(), time.perf_counter_ns()
        try:
            state.recorder.check_complete()
        except MeasureError as error:
            pytest.fail(str(error), pytrace=False)
        whole = state.whole = Sample(iterations=1, wall_ns=(wall_end - wall,), cpu_ns=(cpu_end - cpu,))
        measurements = (
            *state.recorder.measurements(whole),
            *(m for instrument in instruments for m in instrument.measurements()),
        )
        stages = state.recorder.stages.totals()
        state.record = TestRecord(
            test=state.recorder.test,
            measurements=measurements,
            stages=stages,
            threshold=state.spec.threshold,
            accept=state.spec.waiver,
        )
        over = breaches(state.spec, measurements, state.recorder.test)
        if over:
            lines = [f"{row.verdict.replace('_', ' ')}: {row.note}" for row in over]
            state.over = tuple(over)
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
            elif report.failed and state.over:
                report.tradeperf_over = to_json(state.over)  # type: ignore[attr-defined]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what passed tests measured and where budgets were exceeded."""
        record = record_of(report)
        if record is not None:
            self.records[record.test] = record
        self.over_budget += [from_json(Row, row) for row in getattr(report, "tradeperf_over", ())]


def record_of(report: pytest.TestReport) -> TestRecord | None:
    """Return what a report carries of its test's measurements."""
    data = getattr(report, "tradeperf", None)
    return from_json(TestRecord, data) if data is not None else None
