"""The object behind the fixture ``perf_gpu``, and what a watched block becomes as measurements."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from pytest_tradeperf.errors import MeasureError, UnavailableError
from pytest_tradeperf.measures import metrics
from pytest_tradeperf.measures.gpu import frameworks
from pytest_tradeperf.measures.gpu.watch import GpuUse, GpuWatch
from pytest_tradeperf.measures.recorder import Recorder
from pytest_tradeperf.model import Measurement

METRICS: Final = (metrics.GPU_MEMORY, metrics.GPU_UTILIZATION, metrics.GPU_ENERGY, metrics.GPU_TIME)


def gpu_measurements(use: GpuUse, part: str = "") -> list[Measurement]:
    """Return what is known of a watched block, each figure with its source."""
    shared = {"boards": list(use.boards), "notes": list(use.notes), "throttled": list(use.throttled)}
    values: tuple[tuple[float | None, dict[str, Any]], ...] = (
        (use.peak_bytes, {"source": use.peak_source}),
        (use.utilization, {"source": use.utilization_source, "advice": use.advice}),
        (use.energy_j, {"error_j": use.energy_error_j, "is_estimate": use.energy_is_estimate}),
        (use.device_ns, {"source": "device events"}),
    )
    return [
        Measurement(metric=metrics.qualified(metric, part), value=value, detail={**detail, **shared})
        for metric, (value, detail) in zip(METRICS, values, strict=True)
        if value is not None
    ]


def missing_figures(watch: GpuWatch) -> dict[str, str]:
    """Return a reason for every figure that ``watch`` could not give, by metric name."""
    if watch.unavailable is not None:
        return {metric.name: watch.unavailable for metric in METRICS}
    use = watch.use
    told = {m.metric.name for m in gpu_measurements(use)}
    reasons = {metric.name: "; ".join(use.notes) or "the board does not tell" for metric in METRICS}
    reasons[metrics.GPU_TIME.name] = next(
        (note for note in use.notes if note.startswith("no kernel time")),
        "kernel time needs torch or cupy loaded before the test, with a device; or perf_gpu.time(fn)",
    )
    return {name: why for name, why in reasons.items() if name not in told}


class PerfGpu:
    """What blocks do on the GPU. Get it as the fixture ``perf_gpu``.

    ``with perf_gpu() as gpu:`` watches a block; afterwards ``gpu.use`` holds memory, utilisation, energy,
    throttling and advice, and they are metrics of the test. Where there is no GPU the block runs all the
    same, ``gpu.unavailable`` says why, and ``gpu.use`` raises UnavailableError.
    """

    def __init__(self, recorder: Recorder, part: str = "") -> None:
        self._recorder, self._part = recorder, part

    @contextmanager
    def __call__(self) -> Iterator[GpuWatch]:
        """Watch a block."""
        with GpuWatch() as watch:
            yield watch
        if watch.unavailable is None:
            for measurement in gpu_measurements(watch.use, self._part):
                self._recorder.add(measurement)
        else:
            names = (metrics.qualified(metric, self._part).name for metric in METRICS)
            self._recorder.unavailable |= dict.fromkeys(names, watch.unavailable)

    def named(self, name: str) -> "PerfGpu":
        """Return a view whose metrics are prefixed ``name.``, for several in one test."""
        if not isinstance(name, str) or not metrics.is_name(name):
            raise MeasureError(f"perf_gpu.named needs letters, digits, '_' and '-', not {name!r}")
        return PerfGpu(self._recorder, name)

    def time(self, fn: Callable[..., Any], *args: Any, repeats: int = 10, **kwargs: Any) -> float:
        """Return device nanoseconds per call of ``fn(*args, **kwargs)``; the metric ``gpu_time``.

        Warm-up first, events of torch or cupy (a wait for the result with jax), one synchronisation.

        Raises
        ------
        UnavailableError
            When none of torch, cupy and jax is loaded with a device.
        """
        framework = frameworks.active()
        if framework is None:
            raise UnavailableError(
                "kernel time needs torch, cupy or jax, imported and with a device: none is here"
            )
        if repeats < 1:
            raise MeasureError(f"repeats={repeats!r}: at least one call is needed")
        spent = frameworks.kernel_time_ns(lambda: fn(*args, **kwargs), framework, repeats=repeats)
        metric = metrics.qualified(metrics.GPU_TIME, self._part)
        self._recorder.add(Measurement(metric=metric, value=spent, detail={"source": framework.name}))
        return spent
