import asyncio
import functools
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any

import pytest

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures.recorder import Perf, Recorder, Spread, timing, timing_measurements
from pytest_tradeperf.measures.rounds import Cost, Plan, Schedule, calibrated
from pytest_tradeperf.model import Better, Kind, Measurement, Sample

SHORT = Plan(round_ns=1, total_ns=10**12, min_rounds=2, max_rounds=2)


@dataclass
class Short:
    """A mode of a warm-up and two rounds, which notes how it was asked."""

    asked: list[tuple[str, str, str | None, bool, bool]] = field(default_factory=list)

    def schedule(self, test: str, part: str, *, cache: str | None, is_async: bool, cold: bool) -> Schedule:
        self.asked.append((test, part, cache, is_async, cold))
        return calibrated(SHORT)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(test="t.py::test", mode=Short())


@pytest.fixture
def perf(recorder: Recorder) -> Perf:
    return Perf(recorder)


def names(recorder: Recorder) -> list[str]:
    return [m.metric.name for m in recorder.measurements(None)]


def only(recorder: Recorder) -> Measurement:
    (found,) = recorder.measurements(None)
    return found


def asked(recorder: Recorder) -> list[tuple[str, str, str | None, bool, bool]]:
    assert isinstance(recorder.mode, Short)
    return recorder.mode.asked


def test_perf_returns_the_result_and_measures_wall_and_cpu(perf: Perf, recorder: Recorder) -> None:
    assert perf(sorted, [3, 1, 2], reverse=True) == [3, 2, 1]
    assert names(recorder) == ["wall", "cpu"]


def test_perf_returns_the_first_result(perf: Perf) -> None:
    numbers = iter(range(100))
    assert perf(lambda: next(numbers)) == 0


@pytest.mark.parametrize("result", [None, False, 0, "", []])
def test_empty_results_come_back_as_they_are(perf: Perf, result: object) -> None:
    assert perf(lambda: result) is result


def test_named_calls_are_separate_metrics(perf: Perf, recorder: Recorder) -> None:
    perf.named("parse")(int, "5")
    perf.named("load")(int, "6")
    assert names(recorder) == ["parse.wall", "parse.cpu", "load.wall", "load.cpu"]


def test_cold_and_warm_of_one_callable_are_separate_metrics(perf: Perf, recorder: Recorder) -> None:
    perf.named("parse", cache="cold")(int, "5")
    perf.named("parse", cache="warm")(int, "5")
    assert names(recorder) == ["parse.wall@cold", "parse.cpu@cold", "parse.wall@warm", "parse.cpu@warm"]


def test_cold_means_one_call_a_process(perf: Perf, recorder: Recorder) -> None:
    perf.named("parse", cache="cold")(int, "5")
    assert asked(recorder) == [("t.py::test", "parse", "cold", False, True)]


def test_cold_with_a_setup_that_empties_the_cache_means_every_call(perf: Perf, recorder: Recorder) -> None:
    perf.named("parse", cache="cold").setup(lambda: None)(int, "5")
    assert asked(recorder) == [("t.py::test", "parse", "cold", False, False)]


def test_two_unnamed_calls_are_refused_with_the_cure(perf: Perf) -> None:
    perf(int, "5")
    with pytest.raises(MeasureError, match=r"perf was called twice .* perf\.named\('parse'\)"):
        perf(int, "6")


def test_a_name_used_twice_is_refused_by_name(perf: Perf) -> None:
    perf.named("firewall")(int, "5")
    with pytest.raises(MeasureError, match=r"perf\.named\('firewall'\) was called twice"):
        perf.named("firewall")(int, "6")


def test_perf_inside_a_measured_callable_is_refused(perf: Perf) -> None:
    with pytest.raises(MeasureError, match=r"perf\.named\('in'\) started while perf\.named\('out'\)"):
        perf.named("out")(lambda: perf.named("in")(int, "5"))


def test_perf_can_be_used_after_a_callable_failed(perf: Perf, recorder: Recorder) -> None:
    with pytest.raises(ZeroDivisionError):
        perf(lambda: 1 // 0)
    assert perf(int, "5") == 5
    assert names(recorder) == ["wall", "cpu"]


@pytest.mark.parametrize("fn", [5, None, "print", [1]])
def test_perf_needs_the_function_and_not_its_result(perf: Perf, fn: Any) -> None:
    with pytest.raises(MeasureError, match="pass the function itself"):
        perf(fn)


def test_a_coroutine_in_place_of_its_function_is_refused_and_closed(perf: Perf) -> None:
    async def fetch() -> None: ...

    with pytest.raises(MeasureError, match=r"perf needs a callable, not coroutine: pass the function itself"):
        perf(fetch())  # type: ignore[arg-type]


class AsyncCall:
    async def __call__(self, value: int) -> int:
        return value + 1


async def plus_one(value: int) -> int:
    return value + 1


@pytest.mark.parametrize(
    "fn", [plus_one, functools.partial(plus_one), AsyncCall()], ids=["function", "partial", "object"]
)
def test_coroutine_functions_of_all_kinds_are_awaited(perf: Perf, recorder: Recorder, fn: Any) -> None:
    async def test() -> int:
        result: int = await perf(fn, 4)
        return result

    assert asyncio.run(test()) == 5
    assert names(recorder) == ["wall", "cpu"]
    assert asked(recorder)[0][3]


def test_a_class_whose_objects_are_awaitable_calls_is_itself_no_coroutine_function(perf: Perf) -> None:
    assert isinstance(perf(AsyncCall), AsyncCall)


def test_a_plain_function_that_returns_an_awaitable_is_refused(perf: Perf) -> None:
    with pytest.raises(MeasureError, match="pass the coroutine function and its arguments"):
        perf(lambda: plus_one(1))


def test_an_unawaited_call_is_noticed(perf: Perf, recorder: Recorder) -> None:
    forgotten = perf(plus_one, 1)
    with pytest.raises(MeasureError, match=r"write `await perf\(\.\.\.\)`"):
        recorder.check_complete()
    forgotten.close()


def test_an_unawaited_call_beside_an_awaited_one_is_noticed(perf: Perf, recorder: Recorder) -> None:
    forgotten = perf.named("a")(plus_one, 1)
    asyncio.run(perf.named("b")(plus_one, 1))
    with pytest.raises(MeasureError, match="was not awaited"):
        recorder.check_complete()
    forgotten.close()


def test_awaited_calls_are_complete(perf: Perf, recorder: Recorder) -> None:
    asyncio.run(perf(plus_one, 1))
    recorder.check_complete()


def test_two_measurements_in_one_gather_are_refused(perf: Perf) -> None:
    async def slow() -> None:
        await asyncio.sleep(0)

    async def test() -> None:
        await asyncio.gather(perf.named("a")(slow), perf.named("b")(slow))

    with pytest.raises(MeasureError, match="measure one after the other"):
        asyncio.run(test())


def test_setup_gives_each_call_a_fresh_first_argument(perf: Perf) -> None:
    assert perf.setup(lambda: [3, 1])(lambda values, extra: values.append(extra) or len(values), 9) == 3


def test_setup_needs_a_callable(perf: Perf) -> None:
    with pytest.raises(MeasureError, match=r"perf\.setup needs a callable"):
        perf.setup([3, 1])  # type: ignore[arg-type]


def test_an_async_setup_needs_an_async_callable(perf: Perf) -> None:
    async def prepare() -> int:
        return 5

    with pytest.raises(MeasureError, match="was given a coroutine function"):
        perf.setup(prepare)(abs)
    assert asyncio.run(perf.setup(prepare)(plus_one)) == 6


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a@b", None, 5])
def test_names_that_would_break_a_metric_are_refused(perf: Perf, name: Any) -> None:
    with pytest.raises(MeasureError, match=r"perf\.named needs a name"):
        perf.named(name)
    with pytest.raises(MeasureError, match=r"perf\.record needs a name"):
        perf.record(name, 5)
    with pytest.raises(MeasureError, match=r"perf\.digest needs a name"):
        perf.digest(name, 5)


@pytest.mark.parametrize("name", ["wall", "cpu", "peak_rss", "peak_memory"])
def test_built_in_names_cannot_be_recorded(perf: Perf, name: str) -> None:
    with pytest.raises(MeasureError, match="not built in"):
        perf.record(name, 5)


def test_a_name_is_recorded_once(perf: Perf) -> None:
    perf.record("trades", 5)
    with pytest.raises(MeasureError, match="'trades' was recorded twice"):
        perf.record("trades", 6)


def test_a_value_and_a_digest_may_share_a_name(perf: Perf, recorder: Recorder) -> None:
    perf.record("trades", 5)
    perf.digest("trades", [1, 2])
    assert names(recorder) == ["trades", "digest:trades"]


def test_a_recorded_time_is_a_timing_in_nanoseconds(perf: Perf, recorder: Recorder) -> None:
    perf.record("latency", 1.5, unit="ms")
    found = only(recorder)
    assert (found.value, found.metric.unit, found.metric.kind) == (1.5e6, "ns", Kind.TIMING)


def test_a_recorded_count_is_exact_and_a_float_has_room_for_rounding(perf: Perf, recorder: Recorder) -> None:
    perf.record("trades", 5)
    perf.record("sharpe", 1.25, better="higher")
    count, ratio = (m.metric for m in recorder.measurements(None))
    assert (count.relative, ratio.relative) == (0.0, 1e-9)
    assert ratio.better is Better.HIGHER


def test_a_tolerance_is_a_percentage(perf: Perf, recorder: Recorder) -> None:
    perf.record("tokens", 500, tolerance="0.5%")
    assert only(recorder).metric.relative == pytest.approx(0.005)


@pytest.mark.parametrize("tolerance", ["5", "-1%", 0.05, ""])
def test_a_bad_tolerance_is_refused(perf: Perf, tolerance: Any) -> None:
    with pytest.raises(MeasureError, match=r"perf\.record\('tokens'\): tolerance: .*write '3%'"):
        perf.record("tokens", 5, tolerance=tolerance)


def test_a_timing_has_a_threshold_and_no_tolerance(perf: Perf) -> None:
    with pytest.raises(MeasureError, match="perf_budget"):
        perf.record("latency", 5, unit="ms", tolerance="5%")


@pytest.mark.parametrize("better", ["less", "", None, "LOWER"])
def test_a_direction_is_one_of_three(perf: Perf, better: Any) -> None:
    with pytest.raises(MeasureError, match="write 'lower', 'higher' or 'same'"):
        perf.record("trades", 5, better=better)


def test_an_exact_digest_keeps_no_text(perf: Perf, recorder: Recorder) -> None:
    perf.digest("answer", [0.1], exact=True)
    assert only(recorder).text is None


def test_an_undigestible_value_names_its_type(perf: Perf) -> None:
    with pytest.raises(MeasureError, match=r"cannot digest builtins\.object"):
        perf.digest("answer", object())


def test_last_is_the_most_recent_measurement(perf: Perf) -> None:
    perf.named("a")(int, "5")
    first = perf.last
    perf.named("b")(int, "5")
    assert perf.last is not first
    assert perf.last.rounds == 2


def test_last_before_any_measurement_is_refused(perf: Perf) -> None:
    with pytest.raises(MeasureError, match=r"perf\.last is empty"):
        _ = perf.last


def test_a_view_is_immutable(perf: Perf) -> None:
    with pytest.raises(FrozenInstanceError):
        perf._part = "x"  # type: ignore[misc]


def test_the_whole_call_counts_only_where_no_callable_was_measured(perf: Perf, recorder: Recorder) -> None:
    whole = Sample(iterations=1, wall_ns=(7,), cpu_ns=(5,))
    perf.record("trades", 5)
    assert [(m.metric.name, m.value) for m in recorder.measurements(whole)] == [
        ("wall", 7.0),
        ("cpu", 5.0),
        ("trades", 5),
    ]
    perf.named("parse")(int, "5")
    assert [m.metric.name for m in recorder.measurements(whole)] == ["parse.wall", "parse.cpu", "trades"]


def test_stages_are_kept_with_the_recorder(perf: Perf, recorder: Recorder) -> None:
    with perf.stage("load"):
        pass
    assert recorder.stages.totals()[0][:2] == ("load", 1)


def test_a_timing_is_per_iteration() -> None:
    found = timing(Sample(iterations=10, wall_ns=(100, 200), cpu_ns=(50, 50)))
    assert (found.wall.low_ns, found.wall.high_ns, found.cpu.ns) == (10, 20, 5)
    assert (found.rounds, found.iterations) == (2, 10)


def test_a_measurement_is_the_low_decile_with_what_the_rounds_showed() -> None:
    sample = Sample(iterations=2, wall_ns=tuple(range(200, 2400, 200)), cpu_ns=(20,) * 11)
    wall, cpu = timing_measurements(sample)
    assert (wall.value, wall.low, wall.high) == (200.0, 100.0, 1000.0)
    assert (cpu.value, cpu.low, cpu.high) == (10.0, 10.0, 10.0)
    assert {k: wall.detail[k] for k in ("rounds", "iterations")} == {"rounds": 11, "iterations": 2}


def test_a_duration_reads_in_seconds_and_as_text() -> None:
    spread = Spread(ns=1.5e6, low_ns=1e6, high_ns=2e6)
    assert spread.seconds == 0.0015
    assert str(spread) == "1.50 ms (1.00 ms .. 2.00 ms)"


def test_the_cost_of_a_round_names_its_clocks() -> None:
    assert Cost(5, 3).wall_ns == 5
    assert Cost(5, 3).cpu_ns == 3
