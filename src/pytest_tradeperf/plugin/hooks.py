"""Hooks that this plug-in calls; implement them in a conftest.py or a plug-in of your own."""

from contextlib import AbstractContextManager
from typing import Any

import pytest


@pytest.hookspec
def pytest_tradeperf_measure(item: pytest.Item) -> AbstractContextManager[Any] | None:
    """Return an instrument for the call phase of ``item``, or None to leave the test alone.

    Called for tests with a perf marker or fixture. The instrument is a context manager entered just
    before the test function and left just after it; its method ``measurements()``, called after that,
    returns a list of ``pytest_tradeperf.model.Measurement``. They are stored by ``--perf-update``, judged
    by ``--perf-gate``, and bounded by ``perf_budget(limits={"name": "<= 5"})``.

    An instrument that cannot work here gives a reason in an attribute ``unavailable`` (by metric name):
    limits on these metrics are *undecided* then. Where this plug-in may be absent, mark the
    implementation with ``@pytest.hookimpl(optionalhook=True)``.
    """
