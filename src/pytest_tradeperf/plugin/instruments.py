"""Which instruments, beyond the clocks, the call phase of a test needs."""

from contextlib import AbstractContextManager
from typing import Protocol, Self

from pytest_tradeperf.gate.budgets import BudgetSpec
from pytest_tradeperf.measures import metrics
from pytest_tradeperf.model import Measurement


class Instrument(AbstractContextManager["Instrument"], Protocol):
    """Watches the call phase of one test."""

    def __enter__(self) -> Self:
        """Begin to watch."""

    def measurements(self) -> list[Measurement]:
        """Return what was seen, after the block."""


class PeakRss:
    """The highest resident memory of this process during the block."""

    def __enter__(self) -> Self:
        from pytest_tradeperf.measures.resident import ResidentPeak

        self._peak = ResidentPeak()
        self._peak.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._peak.__exit__(*failure)

    def measurements(self) -> list[Measurement]:
        """Return the peak, labelled with how it was found; nothing where it cannot be found."""
        peak = self._peak
        if peak.unavailable is not None:
            return []
        return [Measurement(metric=metrics.PEAK_RSS, value=peak.bytes, detail={"method": peak.method})]


def wanted(spec: BudgetSpec) -> list[Instrument]:
    """Return the instruments for the limits of a test."""
    return [PeakRss()] if "peak_rss" in spec.limits else []
