"""The session's answer: judges what was measured, holds reports back until then, writes and prints."""

import sys
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

import pytest

from pytest_tradeperf.errors import BaselineError, RevisionError, SettingsError, TradeperfError
from pytest_tradeperf.gate.judge import Context, Judgement
from pytest_tradeperf.measures.machine import environment, installed_versions, loaded_dependencies
from pytest_tradeperf.model import Row, RunRecord, TestRecord, Verdict
from pytest_tradeperf.pairing.trees import resolve_sources, source_tree_id
from pytest_tradeperf.plugin import TOOLING, is_gated
from pytest_tradeperf.plugin.collected import Collected
from pytest_tradeperf.plugin.durations import Durations
from pytest_tradeperf.plugin.extras import run_measured
from pytest_tradeperf.plugin.item import test_id
from pytest_tradeperf.plugin.reached import Reached
from pytest_tradeperf.plugin.reports import failed, log, synthetic
from pytest_tradeperf.plugin.session import MeasuringSession, record_of
from pytest_tradeperf.plugin.settings import Mode, Settings
from pytest_tradeperf.plugin.terminal import advice, header, stored, summary, today
from pytest_tradeperf.store.baseline import check_writable, load, save
from pytest_tradeperf.store.record import LAST_RECORD, save_record
from pytest_tradeperf.workflow import accept, judge_run, missing_tests, prune, summary_of_waivers, with_noise

ERROR_EXIT: Final = 3

INSTRUMENTS: Final = frozenset({"memray", "rich", "psutil", "pynvml"})
"""What measuring loads into the process: no dependency of what is measured (memray brings rich)."""


class Gatekeeper:
    """Judges, accepts or records a session; lives in the process that logs the reports."""

    def __init__(self, config: pytest.Config, settings: Settings, measuring: MeasuringSession) -> None:
        self.config, self.settings, self.measuring = config, settings, measuring
        tree, self.no_tree = _source_tree(settings)
        self.environment = environment(source_tree=tree)
        self.rival = None
        if settings.mode is Mode.AGAINST:
            from pytest_tradeperf.plugin.confirm import revision_of

            self.rival = revision_of(settings)
        self.baseline = load(settings.baselines, self.environment.key)
        if settings.mode is Mode.UPDATE:
            check_writable(settings.baselines)
        self.tooling = config.stash.get(TOOLING, frozenset(sys.modules))
        self.collected = Collected(config)
        self.reached = Reached(config, settings)
        self.durations = Durations()
        self.gated: dict[str, TestRecord] = {}
        self.rows: list[Row] = []
        self.messages: list[str] = []
        self.held: list[list[pytest.TestReport]] = []
        self.failure: str | None = None

    # -- before the tests

    def pytest_report_header(self) -> list[str]:
        """Say what is judged against what."""
        return header(self.settings, self.environment, self.baseline)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Remember what was collected, to tell deleted tests from unselected ones.

        Plug-ins that split a suite over machines take tests out without `pytest_deselected`.
        """
        before = [test_id(item) for item in items]
        self.collected.add(before)
        self.reached.add(items)
        yield
        after = {test_id(item) for item in items}
        self.collected.deselect(test for test in before if test not in after)

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        """Remember which files were not run as a whole."""
        self.collected.deselect(test_id(item) for item in items)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember which files were looked into."""
        self.collected.look(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: list[str]) -> None:
        """Take over what a worker collected."""
        del node
        self.collected.add(ids)

    # -- the tests

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Remember what began, to notice what a crashed xdist worker took with it."""
        self.collected.started(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what was answered for."""
        self.collected.answered(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Time the set-up of fixtures that several tests share."""
        return (yield from self.durations.watch(fixturedef))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a gated test without logging it; log it at once unless a timing must be confirmed."""
        if not is_gated(item):
            return None
        if not self.settings.is_holding:
            log(self.config, run_measured(item, nextitem, self.settings, repeat=True))
            return True
        held = run_measured(item, nextitem, self.settings, repeat=False)
        self.durations.add(item, held)
        if not all(report.passed for report in held):
            log(self.config, held)
            return True
        if self.settings.mode is not Mode.GATE:
            self.held.append(held)
            return True
        judgement = self._judge(held)
        if judgement.pending:
            self.held.append(held)
        else:
            self._log(held, judgement.rows)
        return True

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take over the reports that an xdist worker held."""
        del error
        output = getattr(node, "workeroutput", {})
        if "tradeperf_reached" in output:
            self.reached.take_over(output["tradeperf_reached"])
            self.durations.seconds.update(output["tradeperf_seconds"])
        for data in output.get("tradeperf", []):
            self.held.append([self._revive(report, node) for report in data])

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Judge what was held once all tests have run, then accept or record."""
        finished = False
        try:
            result = yield
            finished = True
        finally:
            try:
                if not session.config.option.collectonly:
                    self._settle(session, finished=finished)
            except TradeperfError as error:
                self.failure = str(error)
        return result

    # -- after the tests

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Exit with 3 when nothing failed but something could not be measured, judged or written."""
        broken = self.failure is not None or any(row.verdict is Verdict.ERROR for row in self.rows)
        if broken and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = ERROR_EXIT

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table and what was stored."""
        if self.settings.mode is not Mode.CHILD:
            waivers = summary_of_waivers(self.measuring.records.values(), today())
            summary(terminalreporter, self.rows, [*waivers, *self.messages], self.failure)

    # -- inside

    @cached_property
    def context(self) -> Context:
        """What every judgement of this session shares."""
        accepted = {n for line in self.baseline.lines.values() for n in line.dependencies}
        return Context(
            threshold=self.settings.threshold,
            today=today(),
            tree=self.environment.source_tree,
            machine=self.environment.machine,
            dependencies=installed_versions(sorted(accepted)),
        )

    def _judge(self, held: list[pytest.TestReport]) -> Judgement:
        records = [record for report in held if (record := record_of(report)) is not None]
        self.gated |= {record.test: record for record in records}
        context = replace(self.context, is_reached=self.reached.is_inside)
        return judge_run(records, self.baseline, context)

    def _settle(self, session: pytest.Session, *, finished: bool) -> None:
        match self.settings.mode:
            case Mode.GATE:
                self._gate(finished=finished)
            case Mode.AGAINST | Mode.SELFTEST:
                self._measure(finished=finished)
            case Mode.UPDATE if finished:
                self._update(session)
            case _:
                pass
        if self.measuring.records and (self.settings.is_holding or self.settings.mode is Mode.UPDATE):
            self.messages += self.reached.advice()
        if self.settings.record is not None:
            save_record(self._record(), self.settings.record)
        if self.settings.is_holding and self.rows:
            self._keep_for_explain()

    def _measure(self, *, finished: bool) -> None:
        """Measure every held test in pairs against a revision, or against itself."""
        held, self.held = self.held, []
        records = [record for reports in held for report in reports if (record := record_of(report))]
        self.gated |= {record.test: record for record in records}
        measured: list[Row] = []
        try:
            if finished and records:
                from pytest_tradeperf.plugin.confirm import against, selftest

                if self.rival is not None:
                    measured = against(self, records, self.rival)
                else:
                    measured, messages = selftest(self, records)
                    self.messages += messages
        finally:
            for reports in held:
                tests = {record.test for report in reports if (record := record_of(report))}
                self._log(reports, [row for row in measured if row.test in tests])
            self.rows += self.measuring.over_budget

    def _gate(self, *, finished: bool) -> None:
        held, self.held = self.held, []
        judged = [(reports_, self._judge(reports_)) for reports_ in held]
        pending = [p for _, judgement in judged for p in judgement.pending]
        confirmed: list[Row] = []
        if pending and finished:
            from pytest_tradeperf.plugin.confirm import confirm

            confirmed = confirm(self, pending)
        for reports_, judgement in judged:
            tests = {p.test for p in judgement.pending}
            self._log(reports_, [*judgement.rows, *(row for row in confirmed if row.test in tests)])
        for nodeid in self.collected.lost():
            message = "an xdist worker crashed before the results of this test were handed over"
            self.rows.append(Row(test=nodeid, metric="all", verdict=Verdict.ERROR, note=message))
            self.config.hook.pytest_runtest_logreport(report=synthetic(nodeid, message))
        if finished:
            gone = missing_tests(self.baseline, self.collected.tests, self.collected.is_whole)
            self.rows += gone
            if self.settings.strict:
                for test in dict.fromkeys(row.test for row in gone):
                    report = synthetic(test, "missing (--perf-strict): the test is gone; --perf-prune")
                    self.config.hook.pytest_runtest_logreport(report=report)
        self.rows += self.measuring.over_budget
        self.messages += advice(self.rows, self.baseline)

    def _update(self, session: pytest.Session) -> None:
        if session.testsfailed or session.shouldstop or session.shouldfail:
            self.messages.append("perf: nothing was stored: the run did not pass as a whole")
            return
        lines = dict(self.baseline.lines)
        records = self.measuring.records
        if not self.settings.prune or self.config.getoption("perf_update"):
            known = [*self.tooling, *INSTRUMENTS, *_own_names(self.settings)]
            used = loaded_dependencies(sys.modules, known)
            accepted_in = replace(self.environment, dependencies=used)
            lines = accept(records.values(), self.baseline, accepted_in)
        gone = missing_tests(self.baseline, self.collected.tests, self.collected.is_whole)
        if self.settings.prune:
            lines = prune(lines, gone)
        written = save(self.baseline, lines.values())
        self.messages += stored(self.baseline, lines, written, records, [] if self.settings.prune else gone)

    def _log(self, held: list[pytest.TestReport], rows: Iterable[Row]) -> None:
        """Log the reports of one test; its call report fails when a row does."""
        records = [record for report in held if (record := record_of(report)) is not None]
        rows = with_noise(rows, records)
        self.rows += rows
        bad = [row for row in rows if self._fails(row)]
        if bad:
            held = [failed(r, bad) if r.when == "call" else r for r in held]
        log(self.config, held, start=not self.settings.is_xdist_controller)

    def _keep_for_explain(self) -> None:
        """Leave the record where ``tradeperf explain`` looks; a read-only checkout does without."""
        path = self.settings.root / LAST_RECORD
        with suppress(OSError, BaselineError):
            path.parent.mkdir(exist_ok=True)
            (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
            save_record(self._record(), path)

    def _fails(self, row: Row) -> bool:
        return row.verdict.is_strict_failure if self.settings.strict else row.verdict.is_failure

    def _revive(self, data: dict[str, Any], node: Any) -> pytest.TestReport:
        report: pytest.TestReport = self.config.hook.pytest_report_from_serializable(
            config=self.config, data=data
        )
        report.node = node  # type: ignore[attr-defined]  # the terminal prints its worker's name
        return report

    def _record(self) -> RunRecord:
        records: Iterable[TestRecord] = self.measuring.records.values()
        return RunRecord(
            environment=self.environment,
            tests=tuple(records),
            verdicts=tuple(self.rows),
            settings={
                "mode": self.settings.mode.value,
                "threshold": self.settings.threshold,
                "alpha": self.settings.alpha,
            },
        )


def _source_tree(settings: Settings) -> tuple[str | None, str | None]:
    """Return (content id of the code under the gate, None) or (None, why there is none)."""
    try:
        sources = resolve_sources(settings.root, settings.sources)
        return source_tree_id(settings.root, sources, keep=settings.mode is Mode.UPDATE), None
    except RevisionError as error:
        return None, str(error)
    except SettingsError:
        if settings.sources:
            raise
        # All code stands in test files: nothing was said wrong.
        return None, "no package or module beside the tests; perf_source names the code to gate"


def _own_names(settings: Settings) -> list[str]:
    """Return the top-level names of the code under the gate, whose version is no dependency's."""
    names = []
    for source in settings.sources or ("src",):
        path = settings.root / source
        names += [path.stem, *(entry.stem for entry in path.glob("*"))]
    return names
