import sys
import threading
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_tradeperf.pairing import side


class Cost(NamedTuple):
    wall_ns: int
    cpu_ns: int
    untimed_ns: int = 0


class Script:
    """A channel whose other end says these messages in turn."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages, self.sent = deque(messages), []  # type: ignore[var-annotated]

    def receive(self) -> dict[str, Any]:
        return self.messages.popleft()

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


@pytest.mark.parametrize(
    ("process", "thread", "said"), [(1000, 920, False), (1000, 880, True), (0, 0, False)]
)
def test_threads_that_compute_show_in_the_time_of_the_process(
    monkeypatch: pytest.MonkeyPatch, process: int, thread: int, said: bool
) -> None:
    clocks = {"_process_ns": iter((5, 5 + process)), "_thread_ns": iter((7, 7 + thread))}
    for name, times in clocks.items():
        monkeypatch.setattr(side, name, partial(next, times))
    assert side.OtherThreads().compute() is said


def drive(schedule: side.Schedule) -> tuple[list[int], Any]:
    """Run a schedule; a call costs 10 ns."""
    asked: list[int] = []
    try:
        iterations = next(schedule)
        while True:
            asked.append(iterations)
            iterations = schedule.send(Cost(10 * iterations, 9 * iterations))
    except StopIteration as finished:
        return asked, finished.value


@pytest.fixture
def run_queue(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The times in the run queue that a side reads, in turn; 0 when there are no more."""
    times: list[int] = []
    monkeypatch.setattr(side.RunQueue, "delay_ns", lambda _: times.pop(0) if times else 0)
    return times


@pytest.mark.usefixtures("run_queue")
def test_rounds_are_run_on_demand_and_the_last_size_is_the_sample() -> None:
    channel = Script(
        {"do": "burst", "n": 1, "rounds": 1}, {"do": "burst", "n": 5, "rounds": 3}, {"do": "finish"}
    )
    asked, sample = drive(side.lockstep(channel, "parse", is_cold=False))  # type: ignore[arg-type]
    assert asked == [1, 5, 5, 5]
    assert channel.sent[0] == {"is": "part", "part": "parse", "cold": False}
    assert [cost[:2] for cost in channel.sent[2]["costs"]] == [(50, 45)] * 3
    assert (sample.iterations, sample.wall_ns) == (5, (50, 50, 50))


def test_what_the_test_sees_leaves_out_the_time_that_others_had_the_cpu(run_queue: list[int]) -> None:
    run_queue += [0, 0, 100, 130]
    channel = Script({"do": "burst", "n": 5, "rounds": 2}, {"do": "finish"})
    _, sample = drive(side.lockstep(channel, "", is_cold=False))  # type: ignore[arg-type]
    assert sample.wall_ns == (50, 20)
    assert [delay for _, _, delay in channel.sent[1]["costs"]] == [0, 30]
    run_queue += [0, 10]
    assert drive(side.Block((4, 1, False)).schedule())[1].wall_ns == (30,)


def test_open_gpu_is_seen(tmp_path: Path) -> None:
    assert not side.holds_device(tmp_path)
    (tmp_path / "0").symlink_to("/dev/null")
    (tmp_path / "1").write_text("no link")
    assert not side.holds_device(tmp_path)
    (tmp_path / "2").symlink_to("/dev/nvidia0")
    assert side.holds_device(tmp_path)
    assert not side.holds_device(tmp_path / "none")


@pytest.mark.usefixtures("run_queue")
def test_profile_is_no_round() -> None:
    channel = Script({"do": "burst", "n": 2, "rounds": 1}, {"do": "profile", "n": 2}, {"do": "finish"})
    asked, sample = drive(side.lockstep(channel, "", is_cold=False))  # type: ignore[arg-type]
    assert asked == [2, 2]
    assert sample.wall_ns == (20,)
    assert channel.sent[-1]["is"] == "profile"


def test_abort_ends_the_test_through_any_except_exception() -> None:
    schedule = side.lockstep(Script({"do": "abort"}), "", is_cold=False)  # type: ignore[arg-type]
    with pytest.raises(side.AbortedError) as caught:
        next(schedule)
    assert not isinstance(caught.value, Exception)


def test_block_runs_without_waiting_for_anyone() -> None:
    block = side.Block((4, 2, True))
    asked, sample = drive(block.schedule())
    assert asked == [1, 4, 4]
    assert [cost[:2] for cost in block.costs] == [[40, 36], [40, 36]]
    assert sample.iterations == 4


def test_affinity_that_is_not_allowed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, cpus: list[int]) -> None:
        raise PermissionError(pid, cpus)

    monkeypatch.setattr("os.sched_setaffinity", refuse, raising=False)
    assert side.pin([0], others=[0]) is False


def test_kernel_that_does_not_tell_the_run_queue_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise FileNotFoundError

    monkeypatch.setattr("os.open", refuse)
    assert side.RunQueue().delay_ns() == 0


def test_time_in_the_run_queue_never_falls() -> None:
    queue = side.RunQueue()
    assert 0 <= queue.delay_ns() <= queue.delay_ns()


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_threads_started_before_may_run_where_others_may(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: dict[int, list[int]] = {}
    monkeypatch.setattr("os.sched_setaffinity", lambda thread, cpus: moved.update({thread: cpus}))
    is_over = threading.Event()
    thread = threading.Thread(target=is_over.wait)
    thread.start()
    try:
        assert side.pin([1], others=[0, 1])
    finally:
        is_over.set()
        thread.join()
    assert moved[0] == [1]
    assert moved[thread.native_id or 0] == [0, 1]
    assert threading.get_native_id() not in moved
