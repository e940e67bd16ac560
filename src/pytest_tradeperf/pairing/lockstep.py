"""One test on one process pair: which side runs next, how much, and what both sides' rounds were."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

from pytest_tradeperf.errors import WorkerError
from pytest_tradeperf.pairing.pair import SIDES
from pytest_tradeperf.pairing.profiles import least
from pytest_tradeperf.pairing.protocol import Channel, ClosedError, LateError, Message
from pytest_tradeperf.stats.turns import paired_log_ratio

_MOST_ITERATIONS: Final = 10_000_000
_BLOCKS: Final = 4
_PROFILES: Final = 3
_LOOK: Final = 20
"""Turns between two looks at the precision; even, so that both sides were first equally often."""

_WHOLE_SECONDS: Final = 2.0
"""Most time for repeating a whole test on both sides; set-up and tear-down take most of it."""

_FEWEST_WHOLE: Final = 4
"""Turns that a whole test gets in any case."""

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
    """How long a round, a burst of rounds and all of a side's bursts last.

    Rounds are short, because what a machine does to a process comes in bursts too: of many short
    rounds some are undisturbed. A burst keeps the cost of taking turns small.
    """

    round_ns: int = 250_000
    burst_ns: int = 2_000_000
    side_ns: int = 500_000_000
    least: int = 2
    most: int = 400

    def bursts(self, burst_ns: float) -> int:
        """Return an even number of bursts a side."""
        wanted = min(max(self.side_ns / max(burst_ns, 1.0), self.least), self.most)
        return 2 * math.ceil(wanted / 2)

    def rounds(self, round_ns: float) -> int:
        """Return how many rounds make a burst."""
        return max(1, round(self.burst_ns / max(round_ns, 1.0)))

    def iterations(self, call_ns: float) -> int:
        """Return how many calls make a round."""
        return min(max(1, round(self.round_ns / max(call_ns, 1.0))), _MOST_ITERATIONS)


PACE: Final = Pace()


Burst: TypeAlias = list[tuple[int, int, int]]
"""Rounds run in one go: (wall, CPU, time in the run queue) in ns."""


@dataclass(slots=True)
class Rounds:
    """The bursts of one part on one side, ``iterations`` calls in each of their rounds."""

    iterations: int = 1
    bursts: list[Burst] = field(default_factory=list)


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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channels, self._pace, self._profile = channels, pace, profile
        self._last_words, self._clock = last_words, clock
        self._seconds, self._precision = 60.0, 0.0

    def measure(self, test: str, *, first: str, seconds: float, precision: float = 0.0) -> TestPair:
        """Measure ``test`` until the standard error of its log ratio is below ``precision``, or long enough.

        ``first`` is the side that begins, ``seconds`` the most any answer may take.

        Raises
        ------
        TroubleError
            The test failed, differs between the sides, hung, or took its process with it.
        """
        self._seconds, self._precision = seconds, precision
        order = (first, *(side for side in SIDES if side != first))
        result = TestPair()
        said = {side: self._ask(side, do="test", test=test) for side in order}
        is_alone = self._is_in_the_way(said, order)
        if is_alone:
            said = {side: self._ask(side, do="test", test=test, alone=True) for side in order}
        while any(said[side]["is"] == "part" for side in order):
            part = self._agreed_part(said, order)
            result.parts[part] = self._rounds(order, is_cold=said[first]["cold"], result=result, part=part)
            said = {side: self._ask(side, do="finish") for side in order}
        self._check_done(said, order)
        if said[first]["blocks"]:
            self._blocks(test, order, said, result, is_alone=is_alone)
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
        calls = {side: self._burst(side, 1)[0] for side in order}
        if is_cold:
            for side in order:
                found[side].bursts.append([calls[side]])
            return found
        iterations = self._calibrate(order[0], calls[order[0]][0])
        round_ns = min(wall for wall, _, _ in self._burst(order[1], iterations, 2))
        rounds = self._pace.rounds(round_ns)
        for turn in range(self._pace.bursts(round_ns * rounds)):
            for side in order if turn % 2 == 0 else reversed(order):
                found[side].bursts.append(self._burst(side, iterations, rounds))
            if turn % _LOOK == _LOOK - 1 and self._is_precise(found):
                break
        for side in order:
            found[side].iterations = iterations
            if self._profile:
                said = [self._ask(side, do="profile", n=max(1, iterations)) for _ in range(_PROFILES)]
                result.functions.setdefault(part, {})[side] = least([answer["functions"] for answer in said])
        return found

    def _calibrate(self, side: str, call_ns: int) -> int:
        """Return the iterations of a round, found on one side and used on both."""
        iterations, wall = 1, call_ns
        while wall < self._pace.round_ns and iterations < _MOST_ITERATIONS:
            grown = iterations * 1.2 * self._pace.round_ns / max(wall, 1)
            iterations = min(max(iterations + 1, round(min(grown, iterations * 100))), _MOST_ITERATIONS)
            wall = self._burst(side, iterations)[0][0]
        if iterations == 1:
            wall = self._burst(side, 1)[0][0]  # the first call was the warm-up
            iterations = self._pace.iterations(wall)
        return iterations

    def _blocks(
        self,
        test: str,
        order: Sequence[str],
        said: Mapping[str, Message],
        result: TestPair,
        *,
        is_alone: bool,
    ) -> None:
        """Alternate whole runs of a test that measures inside an event loop, or that wants to be alone."""
        plan = {}
        for part, block in said[order[0]]["blocks"].items():
            call_ns = min(cost[0] for cost in block["costs"])
            iterations = self._pace.iterations(call_ns)
            rounds = max(1, self._pace.bursts(call_ns * iterations) // _BLOCKS)
            plan[part] = [iterations, rounds, call_ns < _WARM_NS]
        found = {part: {side: Rounds(iterations=plan[part][0]) for side in order} for part in plan}
        for turn in range(_BLOCKS):
            for side in order if turn % 2 == 0 else reversed(order):
                answer = self._done(side, do="test", test=test, block=plan, alone=is_alone)
                for part in plan:
                    if part not in answer["blocks"]:
                        raise TroubleError(Trouble.DIFFERS, side, f"measures {part!r} only sometimes")
                    found[part][side].bursts.append(_burst(answer["blocks"][part]["costs"]))
        if self._profile:
            for side in order:
                answers = [
                    self._done(side, do="test", test=test, block=plan, alone=is_alone, profile=True)["blocks"]
                    for _ in range(_PROFILES)
                ]
                for part in answers[0]:
                    profiles = [blocks[part]["functions"] for blocks in answers if part in blocks]
                    result.functions.setdefault(part, {})[side] = least(profiles)
        result.parts |= found

    def _whole(self, test: str, order: Sequence[str], said: Mapping[str, Message], result: TestPair) -> None:
        """Alternate whole runs of a test that measures nothing itself; only its body is timed."""
        call_ns = max(1, min(said[side]["costs"][0][0] for side in order))
        iterations = self._pace.iterations(call_ns)
        times = iterations * self._pace.rounds(call_ns * iterations)
        found = {side: Rounds() for side in order}
        began = self._clock()
        for turn in range(self._pace.bursts(call_ns * times)):
            for side in order if turn % 2 == 0 else reversed(order):
                answer = self._done(side, do="test", test=test, times=times)
                found[side].bursts.append(_burst(answer["costs"]))
            if turn % _LOOK == _LOOK - 1 and self._is_precise(found):
                break
            is_fair = turn % 2 == 1 and turn + 1 >= _FEWEST_WHOLE
            if is_fair and self._clock() - began > _WHOLE_SECONDS:
                break
        if self._profile:
            for side in order:
                answers = [
                    self._done(side, do="test", test=test, times=1, profile=True) for _ in range(_PROFILES)
                ]
                result.functions.setdefault("", {})[side] = least([answer["functions"] for answer in answers])
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

    def _burst(self, side: str, iterations: int, rounds: int = 1) -> Burst:
        return _burst(self._ask(side, do="burst", n=iterations, rounds=rounds)["costs"])

    def _is_precise(self, found: Part) -> bool:
        """Return whether more turns would add little; the sign of the difference plays no part."""
        least = {side: [min(cpu for _, cpu, _ in burst) for burst in r.bursts] for side, r in found.items()}
        if any(cost <= 0 for costs in least.values() for cost in costs):
            return False
        return paired_log_ratio(least["base"], least["head"]).error < self._precision

    def _done(self, side: str, **message: Any) -> Message:
        answer = self._ask(side, **message)
        if answer["is"] != "done":
            raise TroubleError(Trouble.DIFFERS, side, "measures other parts when it is run again")
        if answer["outcome"] != "passed":
            raise TroubleError(Trouble.FAILED, side, answer["message"])
        return answer

    def _is_in_the_way(self, said: Mapping[str, Message], order: Sequence[str]) -> bool:
        """Return whether the second side failed beside the first, which then has left.

        Both sides hold their fixtures at once: a port or a lock of the first is taken for the second.
        """
        first, second = order
        is_suspicious = said[first]["is"] == "part" and said[second].get("outcome") == "failed"
        if is_suspicious:
            self._ask(first, do="abort")
        return is_suspicious

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


def _burst(costs: Sequence[Sequence[int]]) -> Burst:
    return [(wall, cpu, delay) for wall, cpu, delay in costs]
