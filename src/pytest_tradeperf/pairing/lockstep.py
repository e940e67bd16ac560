"""One test on one process pair: which side runs next, how much, and what both sides' rounds were."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

from pytest_tradeperf.errors import WorkerError
from pytest_tradeperf.pairing.pace import MOST_ITERATIONS, Pace
from pytest_tradeperf.pairing.pair import SIDES
from pytest_tradeperf.pairing.profiles import least
from pytest_tradeperf.pairing.protocol import Channel, ClosedError, LateError, Message
from pytest_tradeperf.stats.turns import paired_log_ratio

_BLOCKS: Final = 4
_PROFILES: Final = 3
_LOOK: Final = 20
"""Turns between two looks at the precision; even, so that both sides were first equally often."""

_WHOLE_SECONDS: Final = 2.0
"""Most time for repeating a whole test on both sides; set-up and tear-down take most of it."""

_ROUNDS_SECONDS: Final = 4.0
"""Most time for the rounds of one part on both sides: several times what their pace asks for."""

_FEWEST_WHOLE: Final = 4
"""Turns that a whole test gets in any case."""

_WARM_NS: Final = 20_000_000
"""A call this long needs no further warm-up inside a block."""


class Trouble(StrEnum):
    """Why a test gives no number on a pair."""

    FAILED = "failed"
    DIFFERS = "differs"
    UNSTEADY = "unsteady"
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


Burst: TypeAlias = list[tuple[int, int, int]]
"""Rounds run in one go: (wall, CPU, time in the run queue) in ns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a side did in one go: its rounds, and what their set-up took besides."""

    burst: Burst
    setup_ns: int

    @property
    def round_ns(self) -> int:
        """The wall time of the first round."""
        return self.burst[0][0]


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
        self._seconds, self._precision, self._ends = 60.0, 0.0, math.inf

    def measure(
        self, test: str, *, first: str, seconds: float, left: float = math.inf, precision: float = 0.0
    ) -> TestPair:
        """Measure ``test`` until the standard error of its log ratio is below ``precision``, or long enough.

        ``first`` is the side that begins, ``seconds`` the most any answer may take, ``left`` the most that
        all may take together.

        Raises
        ------
        TroubleError
            The test failed, differs between the sides, hung, or took its process with it.
        """
        self._seconds, self._precision, self._ends = seconds, precision, self._clock() + left
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
        if said[first]["blocks"] or said[order[1]]["blocks"]:
            # Parts already measured would ask for rounds again where only the blocks are wanted.
            self._blocks(test, order, said, result, is_alone=is_alone or bool(result.parts))
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
        calls = {side: self._turn(side, order, 1) for side in order}
        if is_cold:
            for side in order:
                found[side].bursts.append(calls[side].burst)
            return found
        iterations = self._calibrate(order, calls[order[0]])
        probe = self._turn(order[1], order, iterations, 2)
        round_ns, setup_ns = min(wall for wall, _, _ in probe.burst), probe.setup_ns / 2
        rounds = self._pace.rounds(round_ns, setup_ns)
        began = self._clock()
        for turn in range(self._pace.bursts(round_ns * rounds, setup_ns * rounds)):
            for side in order if turn % 2 == 0 else reversed(order):
                found[side].bursts.append(self._turn(side, order, iterations, rounds).burst)
            if turn % _LOOK == _LOOK - 1 and self._is_precise(found):
                break
            if turn % 2 == 1 and self._clock() - began > _ROUNDS_SECONDS:
                break
        for side in order:
            found[side].iterations = iterations
            if self._profile:
                said = [
                    self._within(side, order, "profile", n=max(1, iterations))["functions"]
                    for _ in range(_PROFILES)
                ]
                result.functions.setdefault(part, {})[side] = least(said)
        return found

    def _calibrate(self, order: Sequence[str], call: Turn) -> int:
        """Return the iterations of a round, found on one side and used on both."""
        side, pace = order[0], self._pace
        iterations, turn = 1, call
        most = pace.fitting(turn.round_ns, turn.setup_ns)
        while turn.round_ns < pace.round_ns and iterations < most:
            grown = iterations * 1.2 * pace.round_ns / max(turn.round_ns, 1)
            iterations = min(max(iterations + 1, round(min(grown, iterations * 100))), most)
            turn = self._turn(side, order, iterations)
            most = min(MOST_ITERATIONS, iterations * pace.fitting(turn.round_ns, turn.setup_ns))
        if iterations == 1:
            turn = self._turn(side, order, 1)  # the first call was the warm-up
            iterations = pace.iterations(turn.round_ns, turn.setup_ns)
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
        parts = {side: sorted(said[side]["blocks"]) for side in order}
        if parts[order[0]] != parts[order[1]]:
            raise _differs(parts)
        for part, block in said[order[0]]["blocks"].items():
            call_ns, setup_ns = min(cost[0] for cost in block["costs"]), block["setup"]
            iterations = self._pace.iterations(call_ns, setup_ns)
            bursts = self._pace.bursts(call_ns * iterations, setup_ns * iterations)
            rounds = max(1, bursts // _BLOCKS)
            plan[part] = [iterations, rounds, call_ns < _WARM_NS]
        found = {part: {side: Rounds(iterations=plan[part][0]) for side in order} for part in plan}
        for turn in range(_BLOCKS):
            for side in order if turn % 2 == 0 else reversed(order):
                answer = self._done(side, do="test", test=test, block=plan, alone=is_alone)
                for part in plan:
                    if part not in answer["blocks"]:
                        raise TroubleError(Trouble.UNSTEADY, side, f"measures {part!r} only sometimes")
                    found[part][side].bursts.append(_burst(answer["blocks"][part]["costs"]))
        if self._profile:
            for side in order:
                answers = [
                    self._done(side, do="test", test=test, block=plan, alone=is_alone, profile=True)["blocks"]
                    for _ in range(_PROFILES)
                ]
                for part in plan:
                    profiles = [blocks[part]["functions"] for blocks in answers if part in blocks]
                    result.functions.setdefault(part, {})[side] = least(profiles)
        result.parts |= found

    def _whole(self, test: str, order: Sequence[str], said: Mapping[str, Message], result: TestPair) -> None:
        """Alternate whole runs of a test that measures nothing itself; only its body is timed."""
        call_ns = max(1, min(said[side]["costs"][0][0] for side in order))
        setup_ns = said[order[0]]["setup"]
        if setup_ns > self._pace.room_ns:  # fixtures of a wider scope, perhaps, which are set up only once
            setup_ns = self._done(order[0], do="test", test=test)["setup"]
        iterations = self._pace.iterations(call_ns)
        times = iterations * self._pace.rounds(call_ns * iterations)
        times = min(times, self._pace.fitting(call_ns, setup_ns))
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
        if self._clock() > self._ends:
            raise TroubleError(Trouble.LATE, side, "the time for measuring was spent")
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

    def _turn(self, side: str, order: Sequence[str], iterations: int, rounds: int = 1) -> Turn:
        answer = self._within(side, order, "burst", n=iterations, rounds=rounds)
        return Turn(burst=_burst(answer["costs"]), setup_ns=answer["setup"])

    def _within(self, side: str, order: Sequence[str], do: str, **message: Any) -> Message:
        """Ask ``side`` for something inside a part; when that ends the test there, end it on all sides."""
        answer = self._ask(side, do=do, **message)
        if answer["is"] == "done":
            for other in order:
                if other != side:
                    self._ask(other, do="abort")
            text = (
                answer["message"]
                if answer["outcome"] != "passed"
                else "its call raised what the test expects"
            )
            raise TroubleError(Trouble.FAILED, side, text)
        return answer

    def _is_precise(self, found: Part) -> bool:
        """Return whether more turns would add little; the sign of the difference plays no part."""
        least = {side: [min(cpu for _, cpu, _ in burst) for burst in r.bursts] for side, r in found.items()}
        if any(cost <= 0 for costs in least.values() for cost in costs):
            return False
        return paired_log_ratio(least["base"], least["head"]).error < self._precision

    def _done(self, side: str, **message: Any) -> Message:
        answer = self._ask(side, **message)
        if answer["is"] != "done":
            self._ask(side, do="abort")
            raise TroubleError(Trouble.UNSTEADY, side, "measures other parts when it is run again")
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
        raise _differs(parts)

    def _check_done(self, said: Mapping[str, Message], order: Sequence[str]) -> None:
        for side in order:
            if side in said and said[side]["outcome"] != "passed":
                raise TroubleError(Trouble.FAILED, side, said[side]["message"])


def _burst(costs: Sequence[Sequence[int]]) -> Burst:
    return [(wall, cpu, delay) for wall, cpu, delay in costs]


def _differs(parts: Mapping[str, Any]) -> TroubleError:
    text = f"measures {parts['base']!r} where the present code measures {parts['head']!r}"
    return TroubleError(Trouble.DIFFERS, "base", text)
