"""Sides that answer from a table instead of measuring: the controller's other end without processes."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pytest_tradeperf.pairing.protocol import ClosedError, LateError


@dataclass
class FakeTest:
    """``call_ns`` is one call's cost by side; ``kind`` is part, async or whole.

    One that ``is_exclusive`` fails while the other side is its ``holder``.
    """

    call_ns: dict[str, float]
    kind: str = "part"
    parts: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"base": ("",), "head": ("",)})
    fails: dict[str, str] = field(default_factory=dict)
    dies: str = ""
    hangs: str = ""
    cold: bool = False
    holder: str | None = None
    is_exclusive: bool = False
    cpu_share: float = 1.0
    values: dict[str, dict[str, float]] = field(default_factory=lambda: {"base": {}, "head": {}})


class FakeChannel:
    """One side. ``log`` collects (side, message) of both, in order."""

    def __init__(self, name: str, tests: dict[str, FakeTest], log: list[Any], first: dict[str, Any]) -> None:
        self.name, self.tests, self.log = name, tests, log
        self.answers: deque[Any] = deque([first])
        self.waiting: deque[str] = deque()
        self.test: FakeTest | None = None

    def send(self, message: dict[str, Any]) -> None:
        self.log.append((self.name, message))
        self.answers.append(self.answer(message))

    def receive(self, seconds: float | None = None) -> Any:
        answer = self.answers.popleft()
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
                return {"is": "costs", "costs": [self.cost(self.test, message["n"])] * message["rounds"]}
            case "profile":
                return {"is": "profile", "functions": {"\0f": [1.0, 1.0, 1]}}
            case "finish":
                return self.next_part()
            case "abort":
                assert self.test is not None
                self.test.holder = None
                return {"is": "done", "outcome": "failed", "message": "aborted"}
            case "pin":
                return {"is": "pinned", "ok": True}
            case "modules":
                return {"is": "modules", "right": ["pkg"], "wrong": []}
            case _:
                return {"is": "bye"}

    def begin(self, message: dict[str, Any]) -> Any:
        test = self.test = self.tests[message["test"]]
        if test.dies == self.name:
            return ClosedError("gone")
        if test.hangs == self.name:
            return LateError("late")
        if self.name in test.fails:
            return {"is": "done", "outcome": "failed", "message": test.fails[self.name]}
        if test.is_exclusive and not message.get("alone"):
            if test.holder is not None:
                return {"is": "done", "outcome": "failed", "message": "Address already in use"}
            test.holder = self.name
        self.waiting = deque(test.parts[self.name]) if self.is_interactive(message) else deque()
        self.message = message
        return self.next_part()

    def is_interactive(self, message: dict[str, Any]) -> bool:
        assert self.test is not None
        return self.test.kind == "part" and not message.get("alone")

    def next_part(self) -> Any:
        assert self.test is not None
        if self.waiting:
            return {"is": "part", "part": self.waiting.popleft(), "cold": self.test.cold}
        times = self.message.get("times", 1)
        blocks = {}
        if self.test.kind == "async" or self.message.get("alone"):
            n, rounds, _ = self.message.get("block", {}).get("", [1, 1, False])
            blocks = {"": {"n": n, "costs": [self.cost(self.test, n)] * rounds, "functions": {}}}
        return {
            "is": "done",
            "outcome": "passed",
            "costs": [self.cost(self.test, 1)] * times,
            "values": self.test.values[self.name],
            "blocks": blocks,
            "functions": {},
        }


class FakePair:
    """Stands in for ProcessPair."""

    def __init__(self, channels: dict[str, FakeChannel]) -> None:
        self.channels = channels

    def last_words(self, name: str) -> str:
        return f"words of {name}"


def pairs_of(
    tests: dict[str, FakeTest], log: list[Any], ready: Callable[[str], dict[str, Any]] | None = None
) -> Callable[..., Any]:
    """Return what measure_pairs starts instead of processes; ``log`` counts the starts too."""

    def usual(side: str) -> dict[str, Any]:
        del side
        return {"is": "ready", "tests": list(tests), "problems": {}, "absent": {}}

    @contextmanager
    def start(plan: Any, *, seed: int, parallel: bool) -> Iterator[FakePair]:
        log.append(("start", {"tests": plan.payload["tests"], "seed": seed, "parallel": parallel}))
        yield FakePair({s: FakeChannel(s, tests, log, (ready or usual)(s)) for s in ("base", "head")})

    return start
