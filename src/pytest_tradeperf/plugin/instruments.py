"""Which instruments, beyond the clocks, the call phase of a test needs."""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, Self

import pytest

from pytest_tradeperf.measures import metrics
from pytest_tradeperf.model import Measurement, Metric

GPU_LIMITS: Final = frozenset({"gpu_memory", "gpu_utilization", "gpu_energy", "gpu_time"})


class Instrument(AbstractContextManager["Instrument"], Protocol):
    """Watches the call phase of one test."""

    unavailable: Mapping[str, str]
    """After the block: why a metric could not be measured, by name."""

    def __enter__(self) -> Self:
        """Begin to watch."""

    def measurements(self) -> list[Measurement]:
        """Return what was seen, after the block."""


class PeakRss:
    """The highest resident memory of this process during the block."""

    def __init__(self) -> None:
        self.unavailable: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        from pytest_tradeperf.measures.resident import ResidentPeak

        self._peak = ResidentPeak()
        self._peak.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._peak.__exit__(*failure)
        if self._peak.unavailable is not None:
            self.unavailable = {metrics.PEAK_RSS.name: self._peak.unavailable}

    def measurements(self) -> list[Measurement]:
        """Return the peak, labelled with how it was found; nothing where it cannot be found."""
        return self._labelled(metrics.PEAK_RSS, self._peak.bytes)

    def growth(self) -> list[Measurement]:
        """Return the peak over where the block began; nothing where it cannot be found."""
        return self._labelled(metrics.PEAK_RSS_GROWTH, max(0, self._peak.bytes - self._peak.start_bytes))

    def _labelled(self, metric: Metric, value: int) -> list[Measurement]:
        if self._peak.unavailable is not None:
            return []
        return [Measurement(metric=metric, value=value, detail={"method": self._peak.method})]


class Gpu:
    """What the block did on the GPU."""

    def __init__(self) -> None:
        self.unavailable: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        from pytest_tradeperf.measures.gpu.watch import GpuWatch

        self._watch = GpuWatch()
        self._watch.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        from pytest_tradeperf.measures.gpu.perf import missing_figures

        self._watch.__exit__(*failure)
        self.unavailable = missing_figures(self._watch)

    def measurements(self) -> list[Measurement]:
        """Return the figures that are known."""
        from pytest_tradeperf.measures.gpu.perf import gpu_measurements

        return gpu_measurements(self._watch.use) if self._watch.unavailable is None else []


class LoopLag:
    """The longest time one callback held an event loop during the block."""

    def __init__(self, item: pytest.Item) -> None:
        self._root = item.config.rootpath
        self.unavailable: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        from pytest_tradeperf.measures.loop import LoopWatch

        self._watch = LoopWatch(root=self._root)
        self._watch.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self._watch.__exit__(*failure)
        if self._watch.unavailable is not None:
            self.unavailable = {metrics.LOOP_LAG.name: self._watch.unavailable}

    def measurements(self) -> list[Measurement]:
        """Return the longest block, with what held the loop and the slow callbacks."""
        if self._watch.unavailable is not None:
            return []
        use = self._watch.use
        detail = {
            "where": [str(use.longest), *(str(slow) for slow in use.slow if slow is not use.longest)],
            "callbacks": use.callbacks,
            "heartbeats": use.heartbeats,
            "on_loop_ns": use.on_loop_ns,
            "slow_callbacks": use.slow_count,
            "debug": use.is_debug,
        }
        return [Measurement(metric=metrics.LOOP_LAG, value=use.longest.held_ns, detail=detail)]


def wanted(names: Collection[str], item: pytest.Item) -> list[Any]:
    """Return the instruments for the metrics named, and what hooks bring."""
    found: list[Any] = [PeakRss()] if metrics.PEAK_RSS.name in names else []
    if metrics.LOOP_LAG.name in names:
        found.append(LoopLag(item))
    if not GPU_LIMITS.isdisjoint(names):
        found.append(Gpu())
    brought = item.ihook.pytest_tradeperf_measure(item=item)
    return [*found, *(instrument for instrument in brought if instrument is not None)]
