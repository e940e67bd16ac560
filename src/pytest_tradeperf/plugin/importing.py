"""Imports as budgets: the marker ``perf_imports`` and the fixture of the same name."""

from typing import Any

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.gate.imports import ImportSpec, import_rows, read_import
from pytest_tradeperf.measures.import_metrics import import_measurements, missing_imports
from pytest_tradeperf.measures.imports import REPEATS, ImportReport, import_report
from pytest_tradeperf.model import Measurement, Row, Verdict
from pytest_tradeperf.plugin.extras import Outcome
from pytest_tradeperf.plugin.item import STATE, recorder_of
from pytest_tradeperf.plugin.session import SESSION


class PerfImports:
    """Imports packages in fresh interpreters. Get it as the fixture ``perf_imports``.

    Call it as the marker is written, ``perf_imports("shop", memory="40 MiB", forbid=["torch"])``: it
    returns an ImportReport, and what the arguments do not allow fails the test at its end.
    """

    def __init__(self, item: Any) -> None:
        self._item = item

    def __call__(self, package: str, **arguments: Any) -> ImportReport:
        """Import ``package`` and, with ``must_import``, every module below it."""
        spec = read_import(package, **arguments)
        report = import_report(spec.package, submodules=spec.must_import, repeats=_repeats(self._item, spec))
        recorder = recorder_of(self._item)
        measurements, rows = _judged(spec, recorder.test, report)
        for measurement in measurements:
            recorder.add(measurement)
        recorder.unavailable |= missing_imports(report)
        state = self._item.stash.get(STATE, None)
        if state is not None:
            state.rows += rows
        return report


def imports_of(item: Any) -> PerfImports:
    """Return the object behind the fixture ``perf_imports`` of ``item``."""
    return PerfImports(item)


def measure_imports(item: Any, spec: ImportSpec, test: str, outcome: Outcome) -> None:
    """Add to ``outcome`` what importing the package of a marker gives and what of it is not allowed."""
    try:
        report = import_report(spec.package, submodules=spec.must_import, repeats=_repeats(item, spec))
    except MeasureError as error:
        metric = f"imports:{spec.package}"
        outcome.rows.append(Row(test=test, metric=metric, verdict=Verdict.ERROR, note=str(error)))
        return
    measurements, rows = _judged(spec, test, report)
    outcome.measurements += measurements
    outcome.rows += rows
    outcome.unavailable |= missing_imports(report)


def _judged(spec: ImportSpec, test: str, report: ImportReport) -> tuple[list[Measurement], list[Row]]:
    measured = import_measurements(report)
    failures = [f"{module.name}: {module.error}" for module in report.failures]
    forbidden = [line for module in report.all for line in module.forbidden(spec.forbid)]
    rows = import_rows(spec, test, measured, forbidden=dict.fromkeys(forbidden), failures=failures)
    return [m for name, m in measured.items() if name != "wall"], rows


def _repeats(item: Any, spec: ImportSpec) -> int:
    """Return how many processes import the package: several where a time is judged or stored."""
    session = item.config.stash.get(SESSION, None)
    is_stored = session is not None and session.settings.keeps_values
    return REPEATS if is_stored or "wall" in spec.limits else 1
