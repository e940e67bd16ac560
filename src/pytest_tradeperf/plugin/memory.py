"""The fixture ``perf_memory`` and what a leak means for its test."""

from typing import Any

from pytest_tradeperf.measures.heap import HeapMode
from pytest_tradeperf.measures.leaks import LeakReport, LeakVerdict
from pytest_tradeperf.measures.memory import PerfMemory
from pytest_tradeperf.model import Row, Verdict
from pytest_tradeperf.plugin.heap import is_kept, other_tracker
from pytest_tradeperf.plugin.item import STATE, recorder_of
from pytest_tradeperf.plugin.keepsakes import forgetting


def memory_of(item: Any) -> PerfMemory:
    """Return the object behind the fixture ``perf_memory`` of ``item``."""
    state = item.stash.get(STATE, None)
    recorder = recorder_of(item)

    def judge(name: str, report: LeakReport) -> None:
        row = leak_row(recorder.test, f"leak:{name}", report)
        if row is not None and state is not None:
            state.rows.append(row)

    return PerfMemory.of(
        recorder,
        root=item.config.rootpath,
        is_kept=is_kept(item.config),
        judge_leak=judge,
        mode=HeapMode(state.spec.heap) if state is not None else HeapMode.PYTHON,
        refusal=other_tracker(item),
        forgetting=forgetting,
    )


def leak_row(test: str, metric: str, report: LeakReport) -> Row | None:
    """Return the row of a leak or of an open question, None for a clean report."""
    if report.verdict == LeakVerdict.CLEAN:
        return None
    lines = report.describe()
    is_leak = report.verdict == LeakVerdict.LEAKING
    head = 2 if is_leak else 1
    return Row(
        test=test,
        metric=metric,
        verdict=Verdict.OVER_BUDGET if is_leak else Verdict.UNDECIDED,
        note=": ".join(lines[:head]),
        detail=tuple(lines[head:]),
    )
