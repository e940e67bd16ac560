import math
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from fake_sides import FakeTest, pairs_of

from pytest_tradeperf.pairing import ahead
from pytest_tradeperf.pairing.controller import measure_pairs
from pytest_tradeperf.pairing.cpus import QuietCpu
from pytest_tradeperf.pairing.outcomes import Clock, End, Outcome
from pytest_tradeperf.pairing.pace import Pace
from pytest_tradeperf.pairing.pair import PairPlan
from pytest_tradeperf.pairing.request import Progress, Request, Suspect
from pytest_tradeperf.stats.sequential import Answer, Design

DESIGN = Design(alpha=0.01)


class Clockwork:
    """A clock that moves on by ``step`` whenever it is read."""

    def __init__(self, step: float = 0.01) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def run(
    tests: dict[str, FakeTest], *, seconds: float = 1000.0, step: float = 0.01, ready: Any = None, **more: Any
) -> tuple[dict[str, Outcome], list[Any]]:
    log: list[Any] = []
    plan = PairPlan(
        head=Path("project"),
        base=Path("base"),
        sources=("src",),
        entry="",
        payload={},
        scratch=Path(),
        cwd=Path(),
    )
    suspects = tuple(
        more.pop("suspects", [Suspect(test=name, threshold=0.02, call_seconds=1e-6) for name in tests])
    )
    request = Request(
        suspects=suspects,
        plan=plan,
        design=DESIGN,
        seconds=seconds,
        seed=1,
        pace=Pace(side_ns=4_000_000),
        pairs=more.pop("pairs", None),
        most_regressions=more.pop("most_regressions", 0),
        quota=more.pop("quota", math.inf),
    )
    outcomes = measure_pairs(request, clock=Clockwork(step), start_pair=pairs_of(tests, log, ready), **more)
    return outcomes, log


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests mean the same on a machine with a single CPU."""
    monkeypatch.setattr(QuietCpu, "allowed", property(lambda _: [0, 1]))


def starts(log: list[Any]) -> list[Any]:
    return [m for who, m in log if who == "start"]


def begun(log: list[Any], test: str) -> list[Any]:
    return [m for who, m in log if who == "base" and m.get("do") == "test" and m["test"] == test]


SLOW = FakeTest(call_ns={"base": 1000, "head": 1100})
SAME = FakeTest(call_ns={"base": 1000, "head": 1000})
BOTH = FakeTest(call_ns={"base": 1000, "head": 1000}, cpu_share=1.8)


def test_tests_leave_when_they_are_decided_and_share_pairs_until_then() -> None:
    outcomes, log = run({"slow": SLOW, "same": SAME})
    assert outcomes["slow"].answers(DESIGN) == [Answer.REGRESSED]
    assert outcomes["same"].answers(DESIGN) == [Answer.OK]
    assert outcomes["slow"].pairs == DESIGN.fewest
    assert outcomes["same"].pairs < outcomes["slow"].pairs
    assert len(starts(log)) == DESIGN.fewest + 2, "one had begun to start, one more runs under the profiler"
    assert starts(log)[-1]["tests"] == ["slow"]
    assert outcomes["slow"].growths[""] == []


def test_every_pair_has_another_seed() -> None:
    _, log = run({"slow": SLOW})
    seeds = [m["seed"] for m in starts(log)]
    assert len(set(seeds)) == len(seeds)


def test_a_fixed_number_of_pairs_is_kept_to() -> None:
    outcomes, log = run({"slow": SLOW, "same": SAME}, pairs=5)
    assert [o.pairs for o in outcomes.values()] == [5, 5]
    assert len(starts(log)) == 5


def what(log: list[Any]) -> list[str]:
    """Return what happens on the base: starts and the messages that are no rounds."""
    said = [m.get("do", who) for who, m in log if who in ("start", "base")]
    return [do for do in said if do not in ("burst", "finish")]


def test_next_pair_starts_on_the_other_cpus_while_one_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    others = []

    def kept_on(cpus: list[int]) -> AbstractContextManager[None]:
        others.append(cpus)
        return nullcontext()

    monkeypatch.setattr(ahead, "kept_on", kept_on)
    _, log = run({"same": SAME}, pairs=2)
    assert what(log) == [
        *("start", "pin", "start", "test", "modules", "bye"),
        *("move", "pin", "test", "bye"),
    ]
    assert [m["cpus"] for who, m in log if m.get("do") == "move"] == [sorted(os.sched_getaffinity(0))]
    first, _ = (m["cpus"] for who, m in log if who == "base" and m["do"] == "pin")
    assert [*first, *others[0]] in ([0, 1], [1, 0])


def test_pair_that_nobody_needed_is_told_to_end() -> None:
    outcomes, log = run({"slow": SLOW}, most_regressions=1)
    pairs = outcomes["slow"].pairs
    assert what(log).count("start") == what(log).count("bye") == pairs + 2


@pytest.mark.parametrize("kind", ["one CPU", "quota", "parallel", "not pinned", "large", "holds a GPU"])
def test_no_pair_starts_beside_one_that_leaves_it_nothing(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    if kind == "one CPU":
        monkeypatch.setattr(QuietCpu, "allowed", property(lambda _: [3]))
    share = 1.8 if kind == "parallel" else 1.0
    test = FakeTest(call_ns={"base": 1000, "head": 1000}, can_be_pinned=kind != "not pinned", cpu_share=share)
    suspect = Suspect(test="t", threshold=0.02, call_seconds=1e-6, is_parallel=kind == "parallel")

    def ready(side: str) -> dict[str, Any]:
        said = {"is": "ready", "tests": ["t"], "problems": {}, "absent": {}}
        size = 10**18 if (kind, side) == ("large", "head") else 1
        return said | {"bytes": size, "device": (kind, side) == ("holds a GPU", "base")}

    quota = 1.5 if kind == "quota" else math.inf
    _, log = run({"t": test}, suspects=[suspect], pairs=2, ready=ready, quota=quota)
    assert what(log) == [*("start", "pin", "test", "modules", "bye"), *("start", "pin", "test", "bye")]


def test_waiting_code_is_decided_by_wall_time_and_computing_code_by_cpu_time() -> None:
    waiting = FakeTest(call_ns={"base": 1e6, "head": 1e6}, cpu_share=0.1)
    outcomes, _ = run({"waiting": waiting, "same": SAME})
    assert outcomes["waiting"].series[""].clock is Clock.WALL
    assert outcomes["same"].series[""].clock is Clock.CPU


def test_cpu_is_kept_awake_for_code_that_was_seen_to_wait() -> None:
    tests = {"waiting": FakeTest(call_ns={"base": 1e6, "head": 1e6}, cpu_share=0.1), "same": SAME}
    _, log = run(tests, pairs=2)
    assert [do for do in what(log) if do in ("watch", "sleep", "test")] == [
        *("test", "test"),
        *("watch", "test", "sleep", "test"),
    ]
    pins = [m["cpus"] for who, m in log if who == "base" and m["do"] == "pin"]
    assert [m["cpus"] for who, m in log if m.get("do") == "watch"] == pins[1:]


def test_cpu_whose_time_is_limited_is_not_kept_awake() -> None:
    waiting = FakeTest(call_ns={"base": 1e6, "head": 1e6}, cpu_share=0.1)
    _, log = run({"waiting": waiting}, pairs=2, quota=1.5)
    assert "watch" not in what(log)


@pytest.mark.parametrize(
    ("threshold", "unevenness", "later"),
    [(0.02, 0.0, {2}), (0.02, 0.005, {2, 4}), (0.02, 0.05, {8, 10}), (0.0, 0.0, {2}), (0.0, 0.001, {8, 10})],
)
def test_pairs_that_differ_much_last_longer(threshold: float, unevenness: float, later: set[int]) -> None:
    test = FakeTest(call_ns={"base": 1e5, "head": 1e5})
    lengths = []

    def on_pair(_: str, pair: Any) -> None:
        lengths.append(len(pair.parts[""]["base"].bursts))
        test.call_ns["head"] = 1e5 * (1 + unevenness * (-1) ** len(lengths))

    suspect = Suspect(test="t", threshold=threshold, call_seconds=1e-6)
    run({"t": test}, suspects=[suspect], pairs=9, on_pair=on_pair)
    assert set(lengths[:5]) <= {2, 4}, "rounded up to an even number"
    assert set(lengths[5:]) <= later


def test_parallel_tests_run_apart_and_are_decided_by_wall_time() -> None:
    suspects = [Suspect(test="same", threshold=0.02), Suspect(test="both", threshold=0.02, is_parallel=True)]
    outcomes, log = run({"same": SAME, "both": BOTH}, suspects=suspects)
    assert outcomes["both"].series[""].clock is Clock.WALL
    assert {(tuple(m["tests"]), m["parallel"]) for m in starts(log)} == {
        (("same",), False),
        (("both",), True),
    }
    pins = [m["cpus"] for _, m in log if m.get("do") == "pin"]
    assert len(pins[0]) <= 1 <= len(pins[-1])


def test_test_whose_first_call_alone_was_parallel_is_measured_as_a_serial_one() -> None:
    suspect = Suspect(test="slow", threshold=0.02, is_parallel=True)
    outcomes, log = run({"slow": SLOW}, suspects=[suspect])
    assert outcomes["slow"].series[""].clock is Clock.CPU
    assert outcomes["slow"].answers(DESIGN) == [Answer.REGRESSED]
    assert outcomes["slow"].pairs == DESIGN.fewest, "the pair that showed it does not count"
    assert outcomes["slow"].growths[""] == []
    assert [m["parallel"] for m in starts(log)] == [True] + [False] * (DESIGN.fewest + 2)


@pytest.mark.parametrize("side", ["base", "head"])
def test_code_that_computes_in_threads_on_one_side_is_measured_on_all_cpus(side: str) -> None:
    shares = {"t": FakeTest(call_ns={"base": 1000, "head": 1100}, threaded=frozenset({side}), cpu_share=1.8)}
    outcomes, log = run(shares)
    assert [m["parallel"] for m in starts(log)] == [False] * 2 + [True] * (DESIGN.fewest + 1)
    assert outcomes["t"].series[""].clock is Clock.WALL
    assert outcomes["t"].pairs == DESIGN.fewest, "the pair on one CPU does not count"


def test_threads_that_compute_one_after_the_other_are_measured_as_serial_code() -> None:
    test = FakeTest(call_ns={"base": 1000, "head": 1100}, threaded=frozenset({"base", "head"}))
    for is_parallel in (False, True):
        outcomes, _ = run({"t": test}, suspects=[Suspect(test="t", threshold=0.02, is_parallel=is_parallel)])
        assert outcomes["t"].series[""].clock is Clock.CPU
        assert outcomes["t"].answers(DESIGN) == [Answer.REGRESSED]


def test_long_calls_in_each_others_way_take_turns_from_the_next_pair_on() -> None:
    outcomes, log = run({"t": FakeTest(call_ns={"base": 20e6, "head": 20e6}, collides=True)}, pairs=3)
    assert (outcomes["t"].pairs, outcomes["t"].end) == (3, End.HORIZON)
    assert len(starts(log)) == 4


@pytest.mark.parametrize("kind", ["computes", "is_parallel", "records_times"])
def test_long_calls_that_read_clocks_or_use_all_cpus_take_turns(kind: str) -> None:
    suspect = Suspect(test="t", threshold=0.02, **({} if kind == "computes" else {kind: True}))
    test = FakeTest(call_ns={"base": 20e6, "head": 20e6}, cpu_share=1.8 if kind == "is_parallel" else 1.0)
    outcomes, _ = run({"t": test}, suspects=[suspect], pairs=1)
    assert outcomes["t"].series[""].at_once is (kind == "computes")


def test_long_calls_take_turns_where_no_process_can_be_kept_on_one_cpu() -> None:
    outcomes, _ = run({"t": FakeTest(call_ns={"base": 20e6, "head": 20e6}, can_be_pinned=False)}, pairs=1)
    assert not outcomes["t"].series[""].at_once


def test_long_call_that_fails_at_once_and_in_turns_has_failed() -> None:
    outcomes, log = run({"t": FakeTest(call_ns={"base": 20e6, "head": 20e6}, breaks={"head": 2})})
    assert (outcomes["t"].end, outcomes["t"].side) == (End.FAILED, "head")
    assert len(begun(log, "t")) == 2


@pytest.mark.parametrize(
    ("test", "end", "side"),
    [
        (FakeTest(call_ns={}, fails={"base": "boom"}), End.FAILED, "base"),
        (FakeTest(call_ns={"base": 1}, fails={"head": "boom"}), End.FAILED, "head"),
        (FakeTest(call_ns={}, dies="base"), End.ERROR, "base"),
        (FakeTest(call_ns={}, hangs="head"), End.ERROR, "head"),
        (
            FakeTest(call_ns={"base": 1, "head": 1}, parts={"base": ("a",), "head": ("b",)}),
            End.ABSENT,
            "base",
        ),
    ],
    ids=["fails in base", "fails in head", "dies", "hangs", "differs"],
)
def test_trouble_of_one_test_ends_that_test_alone(test: FakeTest, end: End, side: str) -> None:
    outcomes, _ = run({"bad": test, "same": SAME})
    assert (outcomes["bad"].end, outcomes["bad"].side) == (end, side)
    assert outcomes["same"].end is End.DECIDED


def test_answer_may_take_as_long_as_set_up_did_in_the_test_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    from fake_sides import FakeChannel

    waited: list[float | None] = []
    usual = FakeChannel.receive

    def receive(self: FakeChannel, seconds: float | None = None) -> Any:
        waited.append(seconds)
        return usual(self, seconds)

    monkeypatch.setattr(FakeChannel, "receive", receive)
    suspect = Suspect(test="slow", threshold=0.02, call_seconds=0.1, run_seconds=6.0)
    run({"slow": SLOW}, suspects=[suspect], pairs=1)
    assert 5 + 20 * 0.1 + 3 * 6.0 in waited


def test_test_that_measures_otherwise_when_run_again_is_an_error_and_no_new_one() -> None:
    fickle = FakeTest(call_ns={"base": 1e6, "head": 1e6}, kind="async", is_fickle=True)
    outcomes, _ = run({"bad": fickle, "same": SAME})
    assert outcomes["bad"].end is End.ERROR
    assert outcomes["same"].end is End.DECIDED


def test_recorded_rate_that_falls_is_a_regression() -> None:
    values = {"base": {"rate": 110.0}, "head": {"rate": 100.0}}
    test = FakeTest(call_ns={"base": 1000, "head": 1000}, values=values)
    suspect = Suspect(test="t", threshold=0.02, call_seconds=1e-6, higher_is_better=frozenset({"rate"}))
    outcomes, _ = run({"t": test}, suspects=[suspect])
    assert outcomes["t"].answers(DESIGN) == [Answer.OK, Answer.REGRESSED]


def test_what_would_take_longer_than_there_is_time_is_not_begun() -> None:
    suspects = [Suspect(test="slow", threshold=0.02, call_seconds=10), Suspect(test="same", threshold=0.02)]
    outcomes, log = run({"slow": SLOW, "same": SAME}, seconds=200.0, suspects=suspects)
    assert outcomes["slow"].end is End.TIME
    assert "would take about" in outcomes["slow"].message
    assert outcomes["same"].end is End.DECIDED
    assert begun(log, "same")
    assert not begun(log, "slow")


def test_time_that_runs_out_ends_with_what_there_is() -> None:
    outcomes, _ = run({"slow": SLOW}, seconds=40.0, step=1.0)
    assert outcomes["slow"].end is End.TIME
    assert 0 < outcomes["slow"].pairs < DESIGN.fewest


@pytest.mark.parametrize(
    ("kind", "side", "end"),
    [("absent", "base", End.ABSENT), ("broken", "base", End.BROKEN), ("broken", "head", End.ERROR)],
)
def test_side_that_cannot_start_ends_all_its_tests(kind: str, side: str, end: End) -> None:
    def ready(name: str) -> dict[str, Any]:
        ended = {"is": "ended", "kind": kind, "message": "ImportError: no"}
        return ended if name == side else {"is": "ready", "tests": ["same"], "problems": {}}

    outcomes, log = run({"same": SAME}, ready=ready)
    assert (outcomes["same"].end, outcomes["same"].side, outcomes["same"].message) == (
        end,
        side,
        "ImportError: no",
    )
    assert len(starts(log)) == 1


def test_pytest_that_does_not_start_is_an_error_with_its_last_words_not_the_bases_fault() -> None:
    outcomes, _ = run(
        {"same": SAME}, ready=lambda _: {"is": "ended", "kind": "silent", "message": "pytest ended with 4"}
    )
    assert outcomes["same"].end is End.ERROR
    assert outcomes["same"].message == "pytest ended with 4: words of base"


def test_test_that_the_base_does_not_collect_is_absent_with_the_reason() -> None:
    def ready(name: str) -> dict[str, Any]:
        problems = (
            {"tests/test_new.py": ("absent", "ImportError: cannot import name 'new'")}
            if name == "base"
            else {}
        )
        tests = (
            ["same"] if name == "base" else ["same", "tests/test_new.py::test_a", "tests/test_b.py::test_b"]
        )
        return {"is": "ready", "tests": tests, "problems": problems}

    names = {"same": SAME, "tests/test_new.py::test_a": SAME, "tests/test_b.py::test_b": SAME}
    outcomes, _ = run(names, ready=ready)
    assert outcomes["tests/test_new.py::test_a"].end is End.ABSENT
    assert "cannot import name" in outcomes["tests/test_new.py::test_a"].message
    assert outcomes["tests/test_b.py::test_b"].message == "the test is not collected there"
    assert outcomes["same"].end is End.DECIDED


@pytest.mark.parametrize(
    ("wrong", "right", "end"), [(["pkg.core"], ["pkg"], End.ERROR), ([], [], End.UNTOUCHED)]
)
def test_sides_that_did_not_run_two_codes_decide_nothing(
    monkeypatch: pytest.MonkeyPatch, wrong: list[str], right: list[str], end: End
) -> None:
    from fake_sides import FakeChannel

    usual = FakeChannel.answer

    def answer(self: FakeChannel, message: dict[str, Any]) -> Any:
        if message["do"] == "modules":
            wrongly = wrong if self.name == "base" else []
            return {"is": "modules", "right": right, "wrong": wrongly, "absent": {}}
        return usual(self, message)

    monkeypatch.setattr(FakeChannel, "answer", answer)
    outcomes, _ = run({"slow": SLOW})
    assert outcomes["slow"].end is end
    assert outcomes["slow"].series == {}


def test_first_regression_ends_the_measuring_when_asked() -> None:
    suspects = [Suspect(test="slow", threshold=0.02), Suspect(test="both", threshold=0.02, is_parallel=True)]
    outcomes, _ = run({"slow": SLOW, "both": SLOW}, suspects=suspects, most_regressions=1)
    assert outcomes["slow"].end is End.DECIDED
    assert outcomes["both"].end is End.STOPPED
    assert outcomes["both"].pairs == 0
    assert "stopped after 1 regressions" in outcomes["both"].message


def test_progress_names_the_worst_and_the_time_left() -> None:
    seen: list[Progress] = []
    run({"slow": SLOW, "same": SAME}, on_progress=seen.append)
    assert seen[0].pairs == 1
    assert seen[0].pending == 2
    assert seen[0].test == "slow"
    assert seen[0].change == pytest.approx(0.1)
    assert seen[-1].seconds_left < seen[0].seconds_left
