"""One test on one process pair: which side runs next, how much, and what both sides' rounds were."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pytest_tradeperf.errors import WorkerError
from pytest_tradeperf.pairing.pair import SIDES
from pytest_tradeperf.pairing.protocol import Channel, ClosedError, LateError, Message

_MOST_ITERATIONS: Final = 10_000_000
_WARM_NS: Final = 20_000_000
"""A call this long needs no further warm-up inside a block."""


class Trouble(StrEnum):
    """Why a test gives no number on a pair."""

    FAILED = "failed"
    DIFFERS = "differs"
    LATE = "late"
    CLOSED = "closed"


class TroubleError(WorkerError):
    """A test cannot be measured on this pair; says on which side and why."""

    def __init__(self, kind: Trouble, side: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.side = kind, side

    @property
    def ends_the_pair(self) -> bool:
        """Whether the processes are of no further use."""
        return self.kind in (Trouble.LATE, Trouble.CLOSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a round and a side's rounds of one part last.

    Rounds of a few milliseconds fit into one time slice of the scheduler, so that many of them are
    undisturbed even when another process wants this CPU.
    """

    round_ns: int = 2_000_000
    side_ns: int = 120_000_000
    least: int = 2
    most: int = 60

    def rounds(self, round_ns: float) -> int:
        """Return an even number of rounds a side."""
        wanted = min(max(self.side_ns / max(round_ns, 1.0), self.least), self.most)
        return 2 * math.ceil(wanted / 2)

    def iterations(self, call_ns: float) -> int:
        """Return how many calls make a round."""
        return min(max(1, round(self.round_ns / max(call_ns, 1.0))), _MOST_ITERATIONS)


PACE: Final = Pace()


@dataclass(slots=True)
class Rounds:
    """The rounds of one part on one side: (wall, CPU, time in the run queue) in ns, ``iterations`` each."""

    iterations: int = 1
    costs: list[tuple[int, int, int]] = field(default_factory=list)


Part = dict[str, Rounds]
"""Rounds by side."""


@dataclass(slots=True)
class TestPair:
    """What one pair shows of one test: rounds by part, and recorded values by name, each by side."""

    __test__ = False

    parts: dict[str, Part] = field(default_factory=dict)
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    functions: dict[str, dict[str, Any]] = field(default_factory=dict)


class Lockstep:
    """Leads both sides through tests; exactly one of them runs measured code at a time."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        *,
        pace: Pace,
        last_words: Callable[[str], str],
        profile: bool = False,
    ) -> None:
        self._channels, self._pace, self._profile = channels, pace, profile
        self._last_words = last_words
        self._seconds = 60.0

    def measure(self, test: str, *, first: str, seconds: float) -> TestPair:
        """Measure ``test``; ``first`` is the side that begins, ``seconds`` the most any answer may take.

        Raises
        ------
        TroubleError
            The test failed, differs between the sides, hung, or took its process with it.
        """
        self._seconds = seconds
        order = (first, *(side for side in SIDES if side != first))
        result = TestPair()
        said = {side: self._ask(side, do="test", test=test) for side in order}
        while any(said[side]["is"] == "part" for side in order):
            part = self._agreed_part(said, order)
            result.parts[part] = self._rounds(order, is_cold=said[first]["cold"], result=result, part=part)
            said = {side: self._ask(side, do="finish") for side in order}
        self._check_done(said, order)
        if said[first]["blocks"]:
            self._blocks(test, order, said, result)
        elif not result.parts:
            self._whole(test, order, said, result)
        for name, value in said["head"]["values"].items():
            if name in said["base"]["values"]:
                result.values[name] = {"base": said["base"]["values"][name], "head": value}
        return result

    # -- the ways to measure

    def _rounds(self, order: Sequence[str], *, is_cold: bool, result: TestPair, part: str) -> Part:
        """Alternate rounds inside one ``perf`` call of each side."""
        found = {side: Rounds() for side in order}
        calls = {side: self._cost(side, 1) for side in order}
        if is_cold:
            for side in order:
                found[side].costs.append(calls[side])
            return found
        iterations = self._calibrate(order[0], calls[order[0]][0])
        cost = self._cost(order[1], iterations)  # its warm-up
        for turn in range(self._pace.rounds(cost[0])):
            for side in order if turn % 2 == 0 else reversed(order):
                found[side].costs.append(self._cost(side, iterations))
        for side in order:
            found[side].iterations = iterations
            if self._profile:
                message = self._ask(side, do="profile", n=max(1, iterations))
                result.functions.setdefault(part, {})[side] = message["functions"]
        return found

    def _calibrate(self, side: str, call_ns: int) -> int:
        """Return the iterations of a round, found on one side and used on both."""
        iterations, wall = 1, call_ns
        while wall < self._pace.round_ns and iterations < _MOST_ITERATIONS:
            grown = iterations * 1.2 * self._pace.round_ns / max(wall, 1)
            iterations = min(max(iterations + 1, round(min(grown, iterations * 100))), _MOST_ITERATIONS)
            wall = self._cost(side, iterations)[0]
        if iterations == 1:
            wall = self._cost(side, 1)[0]  # the first call was the warm-up
            iterations = self._pace.iterations(wall)
        return iterations

    def _blocks(self, test: str, order: Sequence[str], said: Mapping[str, Message], result: TestPair) -> None:
        """Alternate whole runs of a test that measures inside an event loop."""
        plan = {}
        for part, block in said[order[0]]["blocks"].items():
            call_ns = min(cost[0] for cost in block["costs"])
            iterations = self._pace.iterations(call_ns)
            rounds = max(1, self._pace.rounds(call_ns * iterations) // 4)
            plan[part] = [iterations, rounds, call_ns < _WARM_NS]
        found = {part: {side: Rounds(iterations=plan[part][0]) for side in order} for part in plan}
        for turn in range(4):
            for side in order if turn % 2 == 0 else reversed(order):
                answer = self._done(side, do="test", test=test, block=plan)
                for part in plan:
                    if part not in answer["blocks"]:
                        raise TroubleError(Trouble.DIFFERS, side, f"measures {part!r} only sometimes")
                    found[part][side].costs += [tuple(c) for c in answer["blocks"][part]["costs"]]
        if self._profile:
            for side in order:
                answer = self._done(side, do="test", test=test, block=plan, profile=True)
                for part, block in answer["blocks"].items():
                    result.functions.setdefault(part, {})[side] = block["functions"]
        result.parts |= found

    def _whole(self, test: str, order: Sequence[str], said: Mapping[str, Message], result: TestPair) -> None:
        """Alternate whole runs of a test that measures nothing itself; only its body is timed."""
        call_ns = max(1, min(said[side]["cost"][0] for side in order))
        iterations = self._pace.iterations(call_ns)
        found = {side: Rounds(iterations=iterations) for side in order}
        for turn in range(self._pace.rounds(call_ns * iterations)):
            for side in order if turn % 2 == 0 else reversed(order):
                answer = self._done(side, do="test", test=test, times=iterations)
                found[side].costs.append(tuple(answer["cost"]))
        if self._profile:
            for side in order:
                answer = self._done(side, do="test", test=test, times=iterations, profile=True)
                result.functions.setdefault("", {})[side] = answer["functions"]
        result.parts[""] = found

    # -- messages

    def _ask(self, side: str, **message: Any) -> Message:
        try:
            self._channels[side].send(message)
            return self._channels[side].receive(self._seconds)
        except LateError as error:
            text = f"did not answer within {self._seconds:.0f} s and was ended"
            raise TroubleError(Trouble.LATE, side, text) from error
        except ClosedError as error:
            words = self._last_words(side)
            text = "its process died" + (f"; its last words: {words}" if words else "")
            raise TroubleError(Trouble.CLOSED, side, text) from error

    def _cost(self, side: str, iterations: int) -> tuple[int, int, int]:
        wall, cpu, delay = self._ask(side, do="rounds", n=iterations)["cost"]
        return wall, cpu, delay

    def _done(self, side: str, **message: Any) -> Message:
        answer = self._ask(side, **message)
        if answer["is"] != "done":
            raise TroubleError(Trouble.DIFFERS, side, "measures other parts when it is run again")
        if answer["outcome"] != "passed":
            raise TroubleError(Trouble.FAILED, side, answer["message"])
        return answer

    def _agreed_part(self, said: Mapping[str, Message], order: Sequence[str]) -> str:
        parts = {side: said[side].get("part") for side in order}
        if len(set(parts.values())) == 1:
            return str(parts[order[0]])
        for side in order:
            if parts[side] is not None:
                self._ask(side, do="abort")
        self._check_done({s: m for s, m in said.items() if m["is"] == "done"}, order)
        raise TroubleError(
            Trouble.DIFFERS,
            "base",
            f"measures {parts['base']!r} where the present code measures {parts['head']!r}",
        )

    def _check_done(self, said: Mapping[str, Message], order: Sequence[str]) -> None:
        for side in order:
            if side in said and said[side]["outcome"] != "passed":
                raise TroubleError(Trouble.FAILED, side, said[side]["message"])
