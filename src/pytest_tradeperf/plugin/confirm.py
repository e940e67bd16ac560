"""Confirming timings whose accepted code differs from the working tree."""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pytest_tradeperf.gate.judge import Pending
from pytest_tradeperf.model import Row, TestRecord
from pytest_tradeperf.plugin.children import measure_again
from pytest_tradeperf.plugin.terminal import progress
from pytest_tradeperf.workflow import confirm_with_stored

if TYPE_CHECKING:
    from pytest_tradeperf.plugin.gatekeeper import Gatekeeper


def confirm(gatekeeper: "Gatekeeper", pending: Sequence[Pending]) -> list[Row]:
    """Return a row for every pending timing."""
    config, settings = gatekeeper.config, gatekeeper.settings
    deadline = time.monotonic() + settings.time_ns / 1e9

    def remeasure(tests: list[str]) -> Iterable[TestRecord]:
        return measure_again(config, tests, max(1.0, deadline - time.monotonic())).tests

    why = gatekeeper.no_tree or "only the stored number is compared"
    return confirm_with_stored(
        list(pending), gatekeeper.context, remeasure, why, lambda text: progress(config, text)
    )
