import math
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_tradeperf.confirmation.measuring import (
    Arena,
    Reference,
    Timing,
    comparisons,
    copy_sources,
    suspects,
    timings,
)
from pytest_tradeperf.confirmation.rows import rows
from pytest_tradeperf.measures.metrics import qualified
from pytest_tradeperf.model import Better, Kind, Measurement, Metric, Row, TestRecord, Verdict
from pytest_tradeperf.pairing.outcomes import Clock, End, Outcome, Series
from pytest_tradeperf.selftest import describe_selftest, smallest_detectable
from pytest_tradeperf.stats.sequential import Design

WALL = Metric(name="wall", kind=Kind.TIMING, unit="ns")
CPU = Metric(name="cpu", kind=Kind.TIMING, unit="ns")
RATE = Metric(name="rate", kind=Kind.TIMING, unit="1/s", better=Better.HIGHER)
COUNT = Metric(name="orders", kind=Kind.COUNTER)
REFERENCE = Reference(name="HEAD", tree=None, evidence={"tree": "src:abc"})
ARENA = Arena(
    root=Path(), sources=("src",), cwd=Path(), entry="", payload={}, alpha=0.01, comparisons=4, seed=1
)


def timing(metric: Metric = CPU, value: float = 1e6, test: str = "t") -> Timing:
    return Timing(test=test, measurement=Measurement(metric=metric, value=value), threshold=0.02)


def outcome(
    ratio: float, pairs: int = 14, *, name: str = "", clock: Clock = Clock.CPU, **more: object
) -> Outcome:
    series = Series(clock=clock)
    for found in (Clock.CPU, Clock.WALL) if clock is not Clock.VALUE else (clock,):
        for _ in range(pairs):
            series.add(found, ratio, 1e6)
    return Outcome(test="t", threshold=0.02, series={name: series}, pairs=pairs, seconds=7.0, **more)  # type: ignore[arg-type]


def row(result: Outcome, metric: Metric = CPU) -> Row:
    return rows([timing(metric)], {"t": result}, ARENA, REFERENCE)[0]


def test_regression_carries_estimate_interval_and_evidence() -> None:
    found = row(outcome(0.05, end=End.DECIDED))
    assert found.verdict is Verdict.REGRESSED
    assert found.change == pytest.approx(0.0513, abs=1e-4)
    assert found.change_low is not None
    assert found.change_low > 0.02
    assert "in 14 pairs against HEAD" in found.note
    assert found.evidence["comparisons"] == 4
    assert found.evidence["tree"] == "src:abc"
    assert len(found.evidence["log_ratios"]) == 14


def test_ok_says_what_would_have_shown() -> None:
    found = row(outcome(0.001, pairs=8, end=End.DECIDED))
    assert found.verdict is Verdict.OK
    assert found.note == "regressions from 0.1 % would show (8 pairs)"
    assert found.detectable is not None
    assert found.detectable <= 0.02


def test_growth_in_the_mean_of_all_calls_is_said_as_such() -> None:
    result = outcome(0.001, pairs=20, end=End.DECIDED)
    result.series[""].ratios[Clock.ALL] = [1.0] * 20
    result.series[""].levels[Clock.ALL] = [3e6] * 20
    found = row(result)
    assert found.verdict is Verdict.REGRESSED
    assert found.note.endswith("in the mean of all calls: some cost more, most do not")
    assert found.accepted == 3e6
    assert found.evidence["clock"] == "all"
    follower = row(result, WALL)
    assert (follower.verdict, follower.note) == (Verdict.REGRESSED, "decided by its cpu time")
    assert follower.change == pytest.approx(0.001, abs=1e-4)


def test_mean_of_all_calls_that_is_open_names_the_threshold_it_has() -> None:
    result = outcome(0.001, pairs=60, end=End.HORIZON)
    result.series[""].ratios[Clock.ALL] = [0.0, 0.3, 0.3] * 20
    found = row(result)
    assert found.verdict is Verdict.UNDECIDED
    assert "too close to the threshold of 10.0 %" in found.note


def test_other_clock_follows_the_one_that_decides() -> None:
    found = row(outcome(0.05, end=End.DECIDED), WALL)
    assert found.verdict is Verdict.REGRESSED
    assert found.note == "decided by its cpu time"


@pytest.mark.parametrize("cache", ["cold", "warm"])
@pytest.mark.parametrize("part", ["", "load"])
def test_cache_state_is_part_of_the_name_on_both_ends(part: str, cache: str) -> None:
    result = outcome(0.05, name=f"{part}@{cache}", end=End.DECIDED)
    assert row(result, qualified(CPU, part, cache)).verdict is Verdict.REGRESSED
    assert row(result, qualified(CPU, part)).verdict is Verdict.UNDECIDED


def test_timing_that_no_pair_holds_does_not_blame_the_time() -> None:
    found = row(outcome(0.05, name="parse", end=End.DECIDED))
    assert found.verdict is Verdict.UNDECIDED
    assert found.note == "not measured: 14 pairs ended without a value above 0 of it on both sides"


def both(cpu: float, wall: float, pairs: int, end: End) -> Outcome:
    result = outcome(cpu, pairs=pairs, end=end)
    result.series[""].ratios[Clock.WALL] = [wall] * pairs
    return result


@pytest.mark.parametrize(
    ("cpu", "pairs", "end", "verdict", "said"),
    [
        (
            0.0,
            16,
            End.DECIDED,
            Verdict.REGRESSED,
            "; it waits longer, or costs more now and then: most calls use no more CPU time",
        ),
        (
            -0.05,
            16,
            End.DECIDED,
            Verdict.REGRESSED,
            "; it waits longer, or costs more now and then: most calls use less CPU time",
        ),
        (
            0.0,
            8,
            End.TIME,
            Verdict.UNDECIDED,
            "; it waits longer, or costs more now and then: most calls use no more CPU time",
        ),
        (0.05, 16, End.DECIDED, Verdict.REGRESSED, "decided by its cpu time"),
    ],
)
def test_wall_time_that_grows_alone_is_judged_itself(
    cpu: float, pairs: int, end: End, verdict: Verdict, said: str
) -> None:
    found = row(both(cpu, 0.08, pairs, end), WALL)
    assert found.verdict is verdict
    assert found.note.endswith(said)
    assert found.is_follower == (cpu > 0)
    assert found.evidence["clock"] == ("cpu" if cpu > 0 else "wall")
    assert found.change == pytest.approx(0.083, abs=1e-3)


def test_wall_time_decided_before_cpu_time_is_not_called_waiting() -> None:
    result = both(0.0, 0.08, 16, End.DECIDED)
    result.series[""].ratios[Clock.CPU] = [0.0, 0.08] * 8
    assert row(result, WALL).note.endswith("; by wall time, CPU time is undecided")


def test_falling_rate_is_a_regression_with_a_negative_change() -> None:
    found = row(outcome(0.05, name="=rate", clock=Clock.VALUE, end=End.DECIDED), RATE)
    assert found.verdict is Verdict.REGRESSED
    assert found.change == pytest.approx(-0.0488, abs=1e-4)


@pytest.mark.parametrize(
    ("end", "side", "verdict", "said"),
    [
        (End.ABSENT, "base", Verdict.NEW, "has no counterpart with HEAD: why"),
        (End.BROKEN, "base", Verdict.ERROR, "HEAD does not import: why"),
        (End.FAILED, "base", Verdict.UNDECIDED, "fails with HEAD, so there is nothing to compare: why"),
        (End.FAILED, "head", Verdict.ERROR, "failed while it was measured: why"),
        (End.ERROR, "base", Verdict.ERROR, "with HEAD: why"),
        (End.UNTOUCHED, "head", Verdict.UNDECIDED, "nothing to compare: why"),
        (End.TIME, "", Verdict.UNDECIDED, "not measured: why; --perf-time gives more"),
        (End.STOPPED, "", Verdict.UNDECIDED, "not measured: why"),
    ],
)
def test_every_end_without_numbers_has_its_verdict(end: End, side: str, verdict: Verdict, said: str) -> None:
    found = row(Outcome(test="t", threshold=0.02, end=end, side=side, message="why"))
    assert (found.verdict, found.note) == (verdict, said)


def test_clock_without_a_number_of_its_own_follows_the_one_that_decides() -> None:
    result = outcome(0.0, end=End.DECIDED)
    del result.series[""].ratios[Clock.WALL], result.series[""].levels[Clock.WALL]
    found = row(result, WALL)
    assert (found.verdict, found.note, found.change) == (Verdict.OK, "decided by its cpu time", None)
    assert found.is_follower
    assert found.evidence["seed"] == 1


def test_numbers_agree_with_the_change_however_the_pairs_wander() -> None:
    result = outcome(math.log(1.03), end=End.DECIDED)
    result.series[""].levels[Clock.CPU] = [1e6 * (1 + i % 3) for i in range(result.pairs)]
    found = row(result)
    assert found.change is not None
    assert found.accepted == 2e6
    assert found.measured == pytest.approx(2e6 * (1 + found.change))


def test_regression_from_few_pairs_names_no_interval() -> None:
    few = replace(ARENA, alpha=0.3, comparisons=1)
    found = rows([timing()], {"t": outcome(0.5, pairs=5, end=End.DECIDED)}, few, REFERENCE)[0]
    assert found.verdict is Verdict.REGRESSED
    assert found.note == "1.65 x, +64.9 % in 5 pairs against HEAD"


def test_few_pairs_say_how_much_time_would_decide() -> None:
    found = row(outcome(0.05, pairs=4, end=End.TIME))
    assert found.verdict is Verdict.UNDECIDED
    assert found.note.startswith("no interval yet after 4 pairs, then the time was spent; about ")


def test_alpha_is_shared_over_parts_and_recorded_timings_not_over_clocks() -> None:
    measurements = tuple(Measurement(metric=m, value=1.0) for m in (WALL, CPU, RATE, COUNT))
    record = TestRecord(test="t", measurements=measurements)
    assert comparisons([record, record]) == 4
    assert [t.metric.name for t in timings([record], lambda _: 0.02)] == ["wall", "cpu", "rate"]


def test_suspect_is_parallel_when_its_cpu_exceeds_its_wall_time() -> None:
    (serial,) = suspects([timing(WALL, 1e6), timing(CPU, 1e6), timing(RATE)], {"t": 3.0})
    (parallel,) = suspects([timing(WALL, 1e6), timing(CPU, 1.9e6)], {})
    assert (serial.is_parallel, parallel.is_parallel) == (False, True)
    assert (serial.records_times, parallel.records_times) == (True, False)
    assert serial.call_seconds == pytest.approx(1e-3)
    assert serial.higher_is_better == {"rate"}
    assert (serial.run_seconds, parallel.run_seconds) == (3.0, 0.0)


def test_copy_of_the_working_tree_has_generated_files_and_no_byte_code(tmp_path: Path) -> None:
    for name in ("src/pkg/_version.py", "src/pkg/__pycache__/x.pyc", "mod.py"):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).touch()
    copy_sources(tmp_path / "a", ["mod.py", "src"], tmp_path / "b")
    copied = sorted(
        p.relative_to(tmp_path / "b").as_posix() for p in (tmp_path / "b").rglob("*") if p.is_file()
    )
    assert copied == ["mod.py", "src/pkg/_version.py"]


def test_selftest_prints_each_timing_and_fails_nothing() -> None:
    result = outcome(0.05, pairs=14, end=End.HORIZON)
    found, lines = describe_selftest([timing()], {"t": result}, ARENA, REFERENCE, 9.0)
    assert found[0].verdict is Verdict.UNDECIDED
    assert found[0].note.startswith("A/A came out as regressed")
    assert "noise of a pair" in lines[0]
    assert "of 500 replayed sessions of 1 timings" in lines[1]


def test_smallest_detectable_change_grows_with_the_noise() -> None:
    design = Design(alpha=0.001)
    quiet = smallest_detectable([-0.001, 0.0, 0.001], design, 0.02, seed=1)
    noisy = smallest_detectable([-0.03, -0.01, 0.0, 0.01, 0.03], design, 0.02, seed=1)
    assert 0.02 < quiet < noisy
