"""The gate inside an xdist worker: measured tests are held and handed over when the worker ends."""

from collections.abc import Generator
from typing import Any

import pytest

from pytest_tradeperf.plugin import is_gated
from pytest_tradeperf.plugin.durations import Durations
from pytest_tradeperf.plugin.extras import run_measured
from pytest_tradeperf.plugin.reached import Reached
from pytest_tradeperf.plugin.settings import Settings


class HoldingWorker:
    """Keeps the reports of passed measured tests from being logged before the controller judged them."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config, self._settings = config, settings
        self._held: list[list[dict[str, Any]]] = []
        self._reached, self._durations = Reached(config, settings), Durations()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Remember which files hold tests, also those that are deselected."""
        self._reached.add(items)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Time the set-up of fixtures that several tests share."""
        return (yield from self._durations.watch(fixturedef))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a measured test; failures are logged at once, the rest waits for the controller."""
        if not is_gated(item):
            return None
        hook = self._config.hook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        held = run_measured(item, nextitem, self._settings, repeat=False)
        self._durations.add(item, held)
        if all(report.passed for report in held):
            serialize = hook.pytest_report_to_serializable
            self._held.append([serialize(config=self._config, report=report) for report in held])
        else:
            for report in held:
                hook.pytest_runtest_logreport(report=report)
            hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_sessionfinish(self) -> None:
        """Hand everything over."""
        output = self._config.workeroutput  # type: ignore[attr-defined]
        output["tradeperf"], output["tradeperf_reached"] = self._held, self._reached.hand_over()
        output["tradeperf_seconds"] = self._durations.seconds
