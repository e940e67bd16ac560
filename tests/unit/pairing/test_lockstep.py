import math
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from fake_sides import FakeChannel, FakeTest

from pytest_tradeperf.pairing.lockstep import Lockstep
from pytest_tradeperf.pairing.pace import Pace
from pytest_tradeperf.pairing.sides import Trouble, TroubleError


def measure(
    test: FakeTest,
    *,
    first: str = "base",
    profile: bool = False,
    precision: float = 0.0,
    clock: Callable[[], float] = lambda: 0.0,
    left: float = math.inf,
    may_overlap: bool = True,
) -> tuple[Any, list[Any]]:
    log: list[Any] = []
    channels = {side: FakeChannel(side, {"t": test}, log, {}) for side in ("base", "head")}
    for channel in channels.values():
        channel.answers.clear()
    lockstep = Lockstep(
        channels,  # type: ignore[arg-type]
        last_words=lambda side: f"words of {side}",
        profile=profile,
        clock=clock,
    )
    result = lockstep.measure(
        "t",
        first=first,
        seconds=1,
        pace=Pace(side_ns=100_000_000),
        left=left,
        precision=precision,
        may_overlap=may_overlap,
    )
    return result, log


def bursts(log: list[Any]) -> list[tuple[str, int, int]]:
    return [(side, m["n"], m["rounds"]) for side, m in log if m["do"] == "burst"]


@pytest.mark.parametrize("first", ["base", "head"])
def test_sides_take_turns_as_abba_with_equal_work(first: str) -> None:
    _, log = measure(FakeTest(call_ns={"base": 1000, "head": 1100}), first=first)
    second = "head" if first == "base" else "base"
    measured = [b for b in bursts(log) if b[2] > 2]
    assert [side for side, _, _ in measured][:8] == [
        first,
        second,
        second,
        first,
        first,
        second,
        second,
        first,
    ]
    assert len({(n, rounds) for _, n, rounds in measured}) == 1
    assert [s for s, _, _ in measured].count("base") == [s for s, _, _ in measured].count("head")


@pytest.mark.parametrize("first", ["base", "head"])
@pytest.mark.parametrize("slow", ["base", "head"])
def test_round_of_a_much_faster_side_is_not_asked_of_the_other(first: str, slow: str) -> None:
    test = FakeTest(call_ns={"base": 30, "head": 30} | {slow: 1_000_000})
    result, log = measure(test, first=first)
    assert max(n * rounds for _, n, rounds in bursts(log)) == 2, "thousands would take the slow side seconds"
    assert result.parts[""]["base"].iterations == 1


def test_short_calls_are_batched_into_short_rounds_and_long_ones_are_not() -> None:
    short, _ = measure(FakeTest(call_ns={"base": 1000, "head": 1000}))
    assert 200 <= short.parts[""]["base"].iterations <= 300
    long, log = measure(FakeTest(call_ns={"base": 3e9, "head": 3e9}))
    assert long.parts[""]["head"].iterations == 1
    assert len(long.parts[""]["head"].bursts) == 2
    assert sum(n * rounds for side, n, rounds in bursts(log) if side == "head") == 3


LONG = {"base": 20e6, "head": 21e6}


@pytest.mark.parametrize("kind", ["part", "whole", "async"])
def test_long_calls_that_compute_are_run_on_both_sides_at_once(kind: str) -> None:
    result, _ = measure(FakeTest(call_ns=LONG, kind=kind))
    rounds = result.parts[""]
    assert rounds["base"].are_at_once
    assert rounds["head"].are_at_once
    assert len(rounds["base"].bursts) == len(rounds["head"].bursts) >= 4


@pytest.mark.parametrize("kind", ["part", "whole", "async"])
@pytest.mark.parametrize(
    "test",
    [
        FakeTest(call_ns={"base": 1e6, "head": 1e6}),
        FakeTest(call_ns=LONG, cpu_share=0.5),
        FakeTest(call_ns=LONG, has_device=True),
    ],
    ids=["short", "waiting", "on a GPU"],
)
def test_other_calls_take_turns(test: FakeTest, kind: str) -> None:
    result, _ = measure(replace(test, kind=kind))
    assert not result.parts[""]["base"].are_at_once
    assert result.parts[""]["base"].bursts


def test_parallel_calls_take_turns() -> None:
    result, _ = measure(FakeTest(call_ns=LONG), may_overlap=False)
    assert not result.parts[""]["base"].are_at_once


def test_whole_test_of_long_setup_takes_turns() -> None:
    result, _ = measure(FakeTest(call_ns=LONG, kind="whole", setup_ns=40e6))
    assert not result.parts[""]["base"].are_at_once


@pytest.mark.parametrize("may_overlap", [True, False])
def test_trouble_tells_whether_both_sides_ran_at_once(may_overlap: bool) -> None:
    with pytest.raises(TroubleError, match="boom") as caught:
        measure(FakeTest(call_ns=LONG, breaks={"head": 2}), may_overlap=may_overlap)
    assert (caught.value.kind, caught.value.side) == (Trouble.FAILED, "head")
    assert caught.value.at_once is may_overlap


def test_only_one_side_is_asked_at_a_time() -> None:
    _, log = measure(FakeTest(call_ns={"base": 1000, "head": 1000}))
    assert log[0] == ("base", {"do": "test", "test": "t"})
    assert log[1] == ("head", {"do": "test", "test": "t"})


def test_enough_precision_ends_the_turns_early() -> None:
    _, all_turns = measure(FakeTest(call_ns={"base": 1000, "head": 1000}), precision=0.0)
    _, few = measure(FakeTest(call_ns={"base": 1000, "head": 1000}), precision=0.001)
    assert len(bursts(few)) < len(bursts(all_turns))


def test_several_parts_are_measured_one_after_the_other() -> None:
    parts = {"base": ("a", "b"), "head": ("a", "b")}
    result, _ = measure(FakeTest(call_ns={"base": 1000, "head": 1000}, parts=parts))
    assert list(result.parts) == ["a", "b"]


def test_cold_part_is_its_first_call() -> None:
    result, log = measure(FakeTest(call_ns={"base": 1000, "head": 2000}, cold=True))
    assert result.parts[""]["head"].bursts == [[(2000, 2000, 0)]]
    assert len(bursts(log)) == 2


def test_whole_test_is_repeated_without_its_first_run() -> None:
    result, log = measure(FakeTest(call_ns={"base": 1e6, "head": 1e6}, kind="whole"))
    assert result.parts[""]["base"].iterations == 1
    runs = [m for side, m in log if side == "base" and m["do"] == "test"]
    assert "times" not in runs[0]
    assert {m["times"] for m in runs[1:]} == {2}


def test_whole_test_whose_setup_takes_long_gets_fewer_turns_evenly() -> None:
    short = FakeTest(call_ns={"base": 1e6, "head": 1e6}, kind="whole")
    all_turns, _ = measure(short)
    slow = count(step=0.12)  # each look at the clock comes so long after the one before: five in two turns
    few, _ = measure(short, clock=lambda: float(next(slow)))
    assert len(all_turns.parts[""]["base"].bursts) == 50
    assert [len(few.parts[""][side].bursts) for side in ("base", "head")] == [8, 8]


@pytest.mark.parametrize("first", ["base", "head"])
def test_test_that_both_sides_cannot_hold_at_once_is_run_in_turns(first: str) -> None:
    exclusive = FakeTest(call_ns={"base": 1e6, "head": 2e6}, is_exclusive=True)
    result, log = measure(exclusive, first=first)
    rounds = result.parts[""]
    assert rounds["head"].bursts[0][0][0] == 2 * rounds["base"].bursts[0][0][0]
    assert not bursts(log)
    assert all(m["alone"] for _, m in log if "block" in m)


def test_test_that_fails_beside_the_other_side_and_alone_has_failed() -> None:
    with pytest.raises(TroubleError) as caught:
        measure(FakeTest(call_ns={"base": 1, "head": 1}, fails={"head": "boom"}))
    assert (caught.value.kind, caught.value.side, str(caught.value)) == (Trouble.FAILED, "head", "boom")


def test_async_test_alternates_whole_runs_with_planned_blocks() -> None:
    result, log = measure(FakeTest(call_ns={"base": 1e6, "head": 1e6}, kind="async"))
    assert [side for side, m in log if "block" in m] == [
        "base",
        "head",
        "head",
        "base",
        "base",
        "head",
        "head",
        "base",
    ]
    assert len(result.parts[""]["head"].bursts) == 4
    assert not bursts(log)


def test_test_of_sync_and_async_parts_is_measured_in_both() -> None:
    mixed = FakeTest(
        call_ns={"base": 1e6, "head": 2e6}, kind="mixed", parts=dict.fromkeys(("base", "head"), ("s",))
    )
    result, log = measure(mixed)
    assert list(result.parts) == ["s", "async"]
    assert len(result.parts["async"]["head"].bursts) == 4
    assert all(m["alone"] for _, m in log if "block" in m), "or the sync part would wait for rounds"


@pytest.mark.parametrize("kind", ["whole", "async"])
def test_test_that_measures_other_parts_when_run_again_is_left_whole_and_named(kind: str) -> None:
    fickle = FakeTest(call_ns={"base": 1e6, "head": 1e6}, kind=kind, is_fickle=True)
    with pytest.raises(TroubleError, match="measures other parts when it is run again") as caught:
        measure(fickle)
    assert caught.value.kind is Trouble.UNSTEADY
    assert not caught.value.ends_the_pair


def test_async_parts_that_one_side_lacks_differ() -> None:
    class Lacking(FakeChannel):
        def answer(self, message: dict[str, Any]) -> Any:
            answer = super().answer(message)
            return answer | {"blocks": {}} if self.name == "base" else answer

    test = FakeTest(call_ns={"base": 1e6, "head": 1e6}, kind="async")
    channels = {side: Lacking(side, {"t": test}, [], {}) for side in ("base", "head")}
    for channel in channels.values():
        channel.answers.clear()
    lockstep = Lockstep(channels, last_words=str)  # type: ignore[arg-type]
    with pytest.raises(TroubleError, match="measures \\[\\] where the present code measures") as caught:
        lockstep.measure("t", first="head", seconds=1)
    assert caught.value.kind is Trouble.DIFFERS


@pytest.mark.parametrize("side", ["base", "head"])
def test_call_that_fails_in_a_later_round_fails_its_test_on_both_sides(side: str) -> None:
    with pytest.raises(TroubleError, match="boom") as caught:
        measure(FakeTest(call_ns={"base": 1e6, "head": 1e6}, breaks={side: 6}))
    assert (caught.value.kind, caught.value.side) == (Trouble.FAILED, side)


@pytest.mark.parametrize("setup_ms", [0.05, 1, 10, 100, 1000])
@pytest.mark.parametrize("kind", ["part", "async", "whole"])
def test_setup_counts_when_turns_are_planned(kind: str, setup_ms: float) -> None:
    test = FakeTest(call_ns={"base": 500, "head": 500}, kind=kind, setup_ns=setup_ms * 1e6)
    result, log = measure(test)
    taken = [_seconds(m, test) for _, m in log if m["do"] in ("burst", "test")]
    assert max(taken) <= max(0.15, setup_ms / 1000 * 2.1), "no answer takes long"
    if kind != "whole":  # which ends by the clock
        assert sum(taken) <= max(4.0, 14 * setup_ms / 1000)
    assert len(result.parts[""]["base"].bursts) >= 2


def _seconds(message: dict[str, Any], test: FakeTest) -> float:
    """Return what a side takes for a message."""
    iterations, rounds, _ = message.get("block", {}).get("", (1, 1, False))
    calls = message.get("n", iterations) * message.get("rounds", rounds) * message.get("times", 1)
    return calls * (test.setup_ns + test.call_ns["head"]) / 1e9


def test_rounds_that_take_longer_than_planned_end_by_the_clock_evenly() -> None:
    slow = count(step=0.05)
    result, log = measure(FakeTest(call_ns={"base": 1000, "head": 1000}), clock=lambda: float(next(slow)))
    rounds = result.parts[""]
    assert 2 <= len(rounds["base"].bursts) == len(rounds["head"].bursts) < 50
    assert len(rounds["base"].bursts) % 2 == 0
    assert len(log) < 100


def test_nothing_is_asked_once_the_time_for_measuring_is_spent() -> None:
    slow = count(step=1)
    with pytest.raises(TroubleError, match="the time for measuring was spent") as caught:
        measure(FakeTest(call_ns={"base": 3e9, "head": 3e9}), clock=lambda: float(next(slow)), left=5)
    assert caught.value.kind is Trouble.LATE


def test_recorded_values_are_paired_where_both_sides_have_them() -> None:
    values = {"base": {"rate": 10.0, "old": 1.0}, "head": {"rate": 11.0, "new": 1.0}}
    result, _ = measure(FakeTest(call_ns={"base": 1000, "head": 1000}, values=values))
    assert result.values == {"rate": {"base": 10.0, "head": 11.0}}


def test_profile_is_asked_of_both_sides() -> None:
    result, _ = measure(FakeTest(call_ns={"base": 1000, "head": 1000}), profile=True)
    assert set(result.functions[""]) == {"base", "head"}


@pytest.mark.parametrize(
    ("test", "kind", "side", "said"),
    [
        (FakeTest(call_ns={}, fails={"base": "assert 1 == 2"}), Trouble.FAILED, "base", "assert 1 == 2"),
        (
            FakeTest(call_ns={}, dies="head"),
            Trouble.CLOSED,
            "head",
            "its process died; its last words: words of head",
        ),
        (FakeTest(call_ns={}, hangs="base"), Trouble.LATE, "base", "did not answer within 1 s"),
        (
            FakeTest(call_ns={"base": 1, "head": 1}, parts={"base": ("a",), "head": ("b",)}),
            Trouble.DIFFERS,
            "base",
            "measures 'a' where the present code measures 'b'",
        ),
        (
            FakeTest(call_ns={"base": 1, "head": 1}, parts={"base": (), "head": ("b",)}),
            Trouble.DIFFERS,
            "base",
            "measures None where",
        ),
    ],
    ids=["fails", "dies", "hangs", "other part", "no part"],
)
def test_trouble_names_side_and_reason(test: FakeTest, kind: Trouble, side: str, said: str) -> None:
    with pytest.raises(TroubleError, match=said) as caught:
        measure(test)
    assert (caught.value.kind, caught.value.side) == (kind, side)
    assert caught.value.ends_the_pair is (kind in (Trouble.CLOSED, Trouble.LATE))
