"""Confirming timings whose accepted code differs: measured in pairs, else from stored numbers."""

import random
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import pytest

from pytest_tradeperf.confirmation.measuring import (
    Arena,
    Reference,
    Timing,
    comparisons,
    measure_against,
    timings,
)
from pytest_tradeperf.confirmation.rows import rows
from pytest_tradeperf.errors import RevisionError, UnavailableError
from pytest_tradeperf.gate.judge import Pending, allowed
from pytest_tradeperf.model import Row, TestRecord, Verdict
from pytest_tradeperf.pairing.materialise import is_available
from pytest_tradeperf.pairing.outcomes import End
from pytest_tradeperf.pairing.request import Progress
from pytest_tradeperf.pairing.trees import (
    SourceTree,
    resolve_revision,
    resolve_sources,
    revision_tree,
    stand_in_commit,
)
from pytest_tradeperf.plugin.carried import carried_options
from pytest_tradeperf.plugin.children import measure_again, session_arguments
from pytest_tradeperf.plugin.settings import Settings
from pytest_tradeperf.plugin.terminal import progress
from pytest_tradeperf.selftest import SELFTEST_PAIRS, describe_selftest
from pytest_tradeperf.units import counted, format_percent
from pytest_tradeperf.workflow import confirm_with_stored

if TYPE_CHECKING:
    from pytest_tradeperf.plugin.gatekeeper import Gatekeeper

ENTRY: Final = "pytest_tradeperf.plugin.worker:serve"

_ALREADY_IMPORTED: Final = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
"""A side is forked with this package loaded; under ``filterwarnings = error`` pytest would not start."""


_CHANGED_TEST: Final = "the sources are the accepted ones, but the test changed; --perf-update accepts it"


def confirm(gatekeeper: "Gatekeeper", pending: Sequence[Pending]) -> list[Row]:
    """Return a row for every pending timing."""
    deadline = time.monotonic() + gatekeeper.settings.time_ns / 1e9
    decided: list[Row] = []
    by_tree: dict[str | None, list[Pending]] = {}
    for item in pending:
        by_tree.setdefault(item.line.tree, []).append(item)
    same_sources = by_tree.pop(gatekeeper.context.tree, []) if gatekeeper.context.tree is not None else []
    if same_sources:
        reached = gatekeeper.reached
        why = _CHANGED_TEST if reached.is_inside else reached.why_unseen()
        decided += _from_stored(gatekeeper, same_sources, deadline, why)
    for tree, items in by_tree.items():
        try:
            reference = _accepted(gatekeeper, tree)
            wanted = [Timing(test=i.test, measurement=i.measurement, threshold=i.threshold) for i in items]
            if str(reference.tree) == gatekeeper.environment.source_tree:
                decided += _same_code(gatekeeper, wanted, reference)
            else:
                decided += _in_pairs(gatekeeper, reference, wanted, deadline - time.monotonic())
        except (RevisionError, UnavailableError) as error:
            decided += _from_stored(gatekeeper, items, deadline, str(error))
    return decided


def revision_of(settings: Settings) -> Reference:
    """Return the code of ``--perf-against``; raises RevisionError or SettingsError before the first test."""
    revision = settings.against or ""
    sources = resolve_sources(settings.root, settings.sources)
    tree = revision_tree(settings.root, revision, sources)
    commit = resolve_revision(settings.root, revision)
    name = revision if commit.startswith(revision) else f"{revision} ({commit[:12]})"
    return Reference(
        name=name, tree=tree, evidence={"revision": revision, "commit": commit, "tree": str(tree)}
    )


def against(gatekeeper: "Gatekeeper", records: Sequence[TestRecord], rival: Reference) -> list[Row]:
    """Return a row for every timing of ``records``, measured in pairs against ``rival``."""
    context = gatekeeper.context
    wanted = timings(records, lambda record: allowed(record, context))
    if rival.evidence["tree"] == gatekeeper.environment.source_tree:
        return _same_code(gatekeeper, wanted, rival)
    return _in_pairs(gatekeeper, rival, wanted, gatekeeper.settings.time_ns / 1e9)


def selftest(gatekeeper: "Gatekeeper", records: Sequence[TestRecord]) -> tuple[list[Row], list[str]]:
    """Return rows and printed lines of an A/A measurement of the working tree."""
    wanted = timings(records, lambda record: allowed(record, gatekeeper.context))
    arena = arena_of(gatekeeper, (record.test for record in records))
    reference = Reference(name="the working tree itself", tree=None)
    began = time.monotonic()
    outcomes = measure_against(
        reference,
        wanted,
        arena,
        gatekeeper.settings.time_ns / 1e9,
        pairs=SELFTEST_PAIRS,
        on_progress=lambda state: say(gatekeeper.config, state),
    )
    spent = time.monotonic() - began
    return describe_selftest(wanted, outcomes, arena, reference, spent)


def _same_code(gatekeeper: "Gatekeeper", wanted: Iterable[Timing], reference: Reference) -> list[Row]:
    """Return the rows of timings whose sources did not change, an answer only if the tests load any."""
    is_seen = gatekeeper.reached.is_inside
    return [
        Row(
            test=timing.test,
            metric=timing.metric.name,
            verdict=Verdict.OK if is_seen else Verdict.UNDECIDED,
            unit=timing.metric.unit,
            measured=timing.measurement.value,
            threshold=timing.threshold,
            note=f"same code as {reference.name}" if is_seen else gatekeeper.reached.why_unseen(),
            evidence={
                "against": reference.name,
                **reference.evidence,
                "end": "same" if is_seen else End.UNTOUCHED.value,
            },
        )
        for timing in wanted
    ]


def arena_of(gatekeeper: "Gatekeeper", tests: Iterable[str]) -> Arena:
    """Return where this session's sides run."""
    config, settings = gatekeeper.config, gatekeeper.settings
    files = sorted({str(config.rootpath / test.partition("::")[0]) for test in tests})
    return Arena(
        root=settings.root,
        sources=resolve_sources(settings.root, settings.sources),
        cwd=config.invocation_params.dir,
        entry=ENTRY,
        payload={
            "cwd": str(config.invocation_params.dir),
            "arguments": [*session_arguments(config), *_ALREADY_IMPORTED, "-o", "addopts=", *files],
            "options": carried_options(config),
        },
        alpha=settings.alpha,
        comparisons=comparisons(gatekeeper.gated.values()),
        most_regressions=int(config.getoption("maxfail") or 0),
        seed=random.SystemRandom().getrandbits(48),
        tests=tuple(sorted(gatekeeper.reached.tests)),
        run_seconds=gatekeeper.durations.seconds,
        overlay=settings.overlay,
        prepare=settings.prepare,
        tooling=gatekeeper.tooling,
    )


def say(config: pytest.Config, state: Progress) -> None:
    """Show where the measuring stands."""
    worst = (
        f", {state.test} {format_percent(state.change, sign=True)} so far" if state.change is not None else ""
    )
    pending = counted(state.pending, "test")
    progress(config, f"pair {state.pairs}: {pending} open{worst}, {state.seconds_left:.0f} s left")


def _in_pairs(
    gatekeeper: "Gatekeeper", reference: Reference, wanted: Sequence[Timing], seconds: float
) -> list[Row]:
    arena = arena_of(gatekeeper, (timing.test for timing in wanted))
    config = gatekeeper.config
    tests = counted(len({timing.test for timing in wanted}), "test")
    progress(config, f"measuring {tests} in pairs against {reference.name}")
    outcomes = measure_against(
        reference, wanted, arena, seconds, on_progress=lambda state: say(config, state)
    )
    return rows(wanted, outcomes, arena, reference)


def _accepted(gatekeeper: "Gatekeeper", tree: str | None) -> Reference:
    """Return the code that a line was accepted with; raises RevisionError naming the cure."""
    root = gatekeeper.settings.root
    if gatekeeper.no_tree is not None:
        raise RevisionError(gatekeeper.no_tree)
    if tree is None:
        raise RevisionError("the line says no source tree: accept it again with --perf-update")
    found = SourceTree.parse(tree)
    uncovered = [s for s in resolve_sources(root, gatekeeper.settings.sources) if not found.holds(s)]
    if uncovered and gatekeeper.settings.sources:
        raise RevisionError(
            f"accepted when perf_source did not name {', '.join(uncovered)}: --perf-update accepts it anew"
        )
    if is_available(root, found):
        return Reference(name="the accepted code", tree=found, evidence={"tree": tree})
    commit = stand_in_commit(root, tree, gatekeeper.baseline.path)
    if commit is None:
        raise RevisionError(
            f"git no longer holds the accepted code ({found.parts[0][1][:12]}): "
            "`git fetch --unshallow` (in CI, fetch-depth: 0), or --perf-update"
        )
    sources = resolve_sources(root, gatekeeper.settings.sources)
    return Reference(
        name=f"commit {commit[:12]} (the accepted tree is gone; it brought the line)",
        tree=revision_tree(root, commit, sources),
        evidence={"tree": tree, "commit": commit},
    )


def _from_stored(gatekeeper: "Gatekeeper", items: Sequence[Pending], deadline: float, why: str) -> list[Row]:
    config = gatekeeper.config

    def remeasure(tests: list[str]) -> Iterable[TestRecord]:
        return measure_again(config, tests, max(1.0, deadline - time.monotonic())).tests

    return confirm_with_stored(
        list(items), gatekeeper.context, remeasure, why, lambda text: progress(config, text)
    )
