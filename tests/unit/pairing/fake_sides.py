"""Sides that answer from a table instead of measuring: the controller's other end without processes."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from pytest_tradeperf.pairing.protocol import ClosedError, LateError


@dataclass
class FakeTest:
    """``call_ns`` is one call's cost by side, ``setup_ns`` what it takes besides.

    ``kind`` is part, async, whole, or mixed: parts, and an async one beside them. One that ``is_exclusive``
    fails while the other side is its ``holder``. One that ``is_fickle`` has a part only when it is run
    again, one that ``breaks`` on a side fails there after so many bursts, one that ``collides`` fails where
    both sides run at once. One that ``has_device`` has a GPU open; ``threaded`` are the sides on which other
    threads compute.
    """

    call_ns: dict[str, float]
    setup_ns: float = 0.0
    kind: str = "part"
    parts: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"base": ("",), "head": ("",)})
    fails: dict[str, str] = field(default_factory=dict)
    dies: str = ""
    hangs: str = ""
    cold: bool = False
    holder: str | None = None
    is_exclusive: bool = False
    is_fickle: bool = False
    collides: bool = False
    has_device: bool = False
    threaded: frozenset[str] = frozenset()
    can_be_pinned: bool = True
    running: set[str] = field(default_factory=set)
    breaks: dict[str, int] = field(default_factory=dict)
    cpu_share: float = 1.0
    values: dict[str, dict[str, float]] = field(default_factory=lambda: {"base": {}, "head": {}})


class FakeChannel:
    """One side. ``log`` collects (side, message) of both, in order."""

    def __init__(self, name: str, tests: dict[str, FakeTest], log: list[Any], first: dict[str, Any]) -> None:
        self.name, self.tests, self.log = name, tests, log
        self.answers: deque[Any] = deque([first])
        self.waiting: deque[str] = deque()
        self.test: FakeTest | None = None
        self.can_be_pinned = all(test.can_be_pinned for test in tests.values())
        self.is_waiting, self.bursts = False, 0

    def send(self, message: dict[str, Any]) -> None:
        self.log.append((self.name, message))
        assert self.is_waiting or message["do"] not in ("burst", "profile", "finish", "abort"), message
        assert not self.is_waiting or message["do"] != "test", "left waiting inside a part"
        answer = self.answer(message)
        if isinstance(answer, dict) and answer["is"] in ("part", "done"):
            self.is_waiting = answer["is"] == "part"
        self.answers.append(answer)
        if self.test is not None and message["do"] != "bye":
            self.test.running.add(self.name)

    def receive(self, seconds: float | None = None) -> Any:
        answer = self.answers.popleft()
        if self.test is not None:
            self.test.running.discard(self.name)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.log.append((self.name, {"do": "close"}))

    def cost(self, test: FakeTest, calls: int) -> list[int]:
        wall = round(test.call_ns[self.name] * calls)
        return [wall, round(wall * test.cpu_share), 0]

    def answer(self, message: dict[str, Any]) -> Any:  # noqa: PLR0911 - a table
        match message["do"]:
            case "test":
                return self.begin(message)
            case "burst":
                assert self.test is not None
                self.bursts += 1
                if self.collides or self.bursts > self.test.breaks.get(self.name, self.bursts):
                    return {"is": "done", "outcome": "failed", "message": "boom"}
                calls = message["n"] * message["rounds"]
                costs = [self.cost(self.test, message["n"])] * message["rounds"]
                answer = {"is": "costs", "costs": costs, "setup": self.test.setup_ns * calls}
                return answer | ({"device": self.test.has_device} if self.bursts == 1 else {})
            case "profile":
                return {"is": "profile", "functions": {"\0f": [1.0, 1.0, 1]}}
            case "finish":
                return self.next_part()
            case "abort":
                assert self.test is not None
                self.test.holder = None
                return {"is": "done", "outcome": "failed", "message": "aborted"}
            case "pin":
                return {"is": "pinned", "ok": self.can_be_pinned}
            case "modules":
                return {"is": "modules", "right": ["pkg"], "wrong": [], "absent": {}}
            case _:
                return {"is": "bye"}

    @property
    def collides(self) -> bool:
        """Whether the other side runs now."""
        return self.test is not None and self.test.collides and bool(self.test.running - {self.name})

    def begin(self, message: dict[str, Any]) -> Any:  # noqa: PLR0911 - a table
        test = self.test = self.tests[message["test"]]
        if test.dies == self.name:
            return ClosedError("gone")
        if self.collides:
            return {"is": "done", "outcome": "failed", "message": "the file is in use"}
        if test.hangs == self.name:
            return LateError("late")
        if self.name in test.fails:
            return {"is": "done", "outcome": "failed", "message": test.fails[self.name]}
        if test.is_exclusive and not message.get("alone"):
            if test.holder is not None:
                return {"is": "done", "outcome": "failed", "message": "Address already in use"}
            test.holder = self.name
        is_again = test.is_fickle and any(m.get("do") == "test" for s, m in self.log[:-1] if s == self.name)
        if is_again:
            self.waiting = deque(["again"])
            self.message = message
            return self.next_part()
        self.waiting = deque(test.parts[self.name]) if self.is_interactive(message) else deque()
        self.message = message
        return self.next_part()

    def is_interactive(self, message: dict[str, Any]) -> bool:
        assert self.test is not None
        return self.test.kind in ("part", "mixed") and not message.get("alone")

    def next_part(self) -> Any:
        assert self.test is not None
        if self.waiting:
            return {"is": "part", "part": self.waiting.popleft(), "cold": self.test.cold}
        times = self.message.get("times", 1)
        blocks = {}
        if self.test.kind in ("async", "mixed") or self.message.get("alone"):
            name = "async" if self.test.kind == "mixed" else ""
            n, rounds, _ = self.message.get("block", {}).get(name, [1, 1, False])
            costs = [self.cost(self.test, n)] * rounds
            blocks = {name: {"n": n, "costs": costs, "setup": self.test.setup_ns, "functions": {}}}
        return {
            "is": "done",
            "outcome": "passed",
            "costs": [self.cost(self.test, 1)] * times,
            "setup": self.test.setup_ns,
            "device": self.test.has_device,
            "threads": self.name in self.test.threaded,
            "values": self.test.values[self.name],
            "blocks": blocks,
            "functions": {},
        }


class FakePair:
    """Stands in for ProcessPair."""

    def __init__(self, channels: dict[str, FakeChannel]) -> None:
        self.channels, self.is_gone = channels, False

    def move(self, cpus: list[int]) -> None:
        self.channels["base"].log.append(("base", {"do": "move", "cpus": cpus}))

    def metronome(self, cpus: list[int]) -> AbstractContextManager[None]:
        del cpus
        return nullcontext()

    @contextmanager
    def kept_awake(self, cpus: list[int]) -> Iterator[None]:
        self.channels["base"].log.append(("base", {"do": "watch", "cpus": cpus}))
        yield
        self.channels["base"].log.append(("base", {"do": "sleep"}))

    def farewell(self, seconds: float) -> None:
        del seconds
        if not self.is_gone:
            for channel in self.channels.values():
                channel.send({"do": "bye"})
        self.is_gone = True

    def last_words(self, name: str) -> str:
        return f"words of {name}"


def pairs_of(
    tests: dict[str, FakeTest], log: list[Any], ready: Callable[[str], dict[str, Any]] | None = None
) -> Callable[..., Any]:
    """Return what measure_pairs starts instead of processes; ``log`` counts the starts too."""

    def usual(side: str) -> dict[str, Any]:
        del side
        return {"is": "ready", "tests": list(tests), "problems": {}}

    @contextmanager
    def start(plan: Any, *, seed: int, parallel: bool) -> Iterator[FakePair]:
        log.append(("start", {"tests": plan.payload["tests"], "seed": seed, "parallel": parallel}))
        first = {s: {"bytes": 1, "device": False} | (ready or usual)(s) for s in ("base", "head")}
        yield FakePair({s: FakeChannel(s, tests, log, first[s]) for s in first})

    return start
