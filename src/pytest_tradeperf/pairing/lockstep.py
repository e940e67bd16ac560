"""One test on one process pair: which side runs next, how much, and what both sides' rounds were."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from pytest_tradeperf.pairing.bursts import CPU_BOUND, Burst, Part, Rounds, TestPair, Turn, cpu_share
from pytest_tradeperf.pairing.pace import MOST_ITERATIONS, PACE, Pace
from pytest_tradeperf.pairing.pair import SIDES
from pytest_tradeperf.pairing.profiles import least
from pytest_tradeperf.pairing.protocol import Channel, Message
from pytest_tradeperf.pairing.sides import Sides, Trouble, TroubleError
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

_TIMES: Final = 10
"""How many times as long the first call of a side must take for rounds to go by that side."""

_WARM_NS: Final = 20_000_000
"""A call this long needs no further warm-up inside a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How one part is measured: ``bursts`` a side, of ``rounds`` with ``iterations`` calls each."""

    iterations: int
    rounds: int
    bursts: int
    at_once: bool


class Lockstep:
    """Leads both sides through tests: in turns, or long calls that keep the CPU busy at once on one CPU.

    What runs at once does so inside the context that ``together`` gives.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        *,
        last_words: Callable[[str], str],
        profile: bool = False,
        clock: Callable[[], float] = time.monotonic,
        together: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._sides = Sides(channels, last_words=last_words, clock=clock, together=together)
        self._profile, self._clock = profile, clock
        self._pace, self._overlaps, self._precision = PACE, True, 0.0

    def measure(
        self,
        test: str,
        *,
        first: str,
        seconds: float,
        pace: Pace = PACE,
        left: float = math.inf,
        precision: float = 0.0,
        may_overlap: bool = True,
    ) -> TestPair:
        """Measure ``test`` until the standard error of its log ratio is below ``precision``, or long enough.

        ``pace`` says how long that is. ``first`` is the side that begins, ``seconds`` the most any answer
        may take, ``left`` the most that all may take together. Without ``may_overlap`` the sides take turns
        whatever a call takes.

        Raises
        ------
        TroubleError
            The test failed, differs between the sides, hung, or took its process with it.
        """
        self._sides.seconds, self._sides.ends = seconds, self._clock() + left
        self._sides.have_overlapped = False
        self._pace, self._overlaps, self._precision = pace, may_overlap, precision
        try:
            return self._measure(test, (first, *(side for side in SIDES if side != first)))
        except TroubleError as trouble:
            trouble.at_once = self._sides.have_overlapped
            raise

    def _measure(self, test: str, order: Sequence[str]) -> TestPair:
        result, first = TestPair(), order[0]
        said = {side: self._sides.ask(side, do="test", test=test) for side in order}
        is_alone = self._is_in_the_way(said, order)
        if is_alone:
            said = {side: self._sides.ask(side, do="test", test=test, alone=True) for side in order}
        while any(said[side]["is"] == "part" for side in order):
            part = self._agreed_part(said, order)
            result.parts[part] = self._rounds(order, is_cold=said[first]["cold"], result=result, part=part)
            said = {side: self._sides.ask(side, do="finish") for side in order}
        self._sides.check_done(said, order)
        result.has_threads = any(said[side]["threads"] for side in order)
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
        plan = self._long_calls(order, calls, found) or self._short_calls(order, calls)
        began = self._clock()
        for number in range(len(found[order[0]].bursts), plan.bursts):
            for sides in _turn_of(number, order, at_once=plan.at_once):
                for side, turn in self._turns(sides, order, plan.iterations, plan.rounds).items():
                    found[side].bursts.append(turn.burst)
            if not plan.at_once and number % _LOOK == _LOOK - 1 and self._is_precise(found):
                break
            if number % 2 == 1 and self._clock() - began > _ROUNDS_SECONDS:
                break
        for side in order:
            found[side].iterations, found[side].are_at_once = plan.iterations, plan.at_once
        for side in order if self._profile else ():
            said = [
                self._sides.within((side,), order, "profile", n=plan.iterations)[side]["functions"]
                for _ in range(_PROFILES)
            ]
            result.functions.setdefault(part, {})[side] = least(said)
        return found

    def _long_calls(self, order: Sequence[str], calls: Mapping[str, Turn], found: Part) -> _Plan | None:
        """Plan calls that both sides run at once, which take a warm-up and nothing else; None for others."""
        has_device = any(calls[side].has_device for side in order)
        if has_device or not self._may_be_long([calls[side].burst for side in order]):
            return None
        probe = self._turns(order, order, 1)
        if not self._are_long([probe[side].burst for side in order]):
            return None
        call_ns = max(cpu for turn in probe.values() for _, cpu, _ in turn.burst)
        setup_ns = max(turn.setup_ns for turn in probe.values())
        rounds = self._pace.rounds(call_ns, setup_ns, at_once=True)
        if rounds == 1:  # of calls so long none is thrown away
            for side in order:
                found[side].bursts.append(probe[side].burst)
        bursts = self._pace.bursts(call_ns * rounds, setup_ns * rounds, at_once=True)
        return _Plan(iterations=1, rounds=rounds, bursts=bursts, at_once=True)

    def _short_calls(self, order: Sequence[str], calls: Mapping[str, Turn]) -> _Plan:
        """Plan calls by which sides take turns."""
        first, other = order
        fast, slow = sorted(order, key=lambda side: calls[side].round_ns)
        if calls[slow].round_ns > _TIMES * calls[fast].round_ns:
            first = other = slow  # what is a burst for the faster side may take the other minutes
        iterations = self._calibrate(first, order, calls[first])
        probe = self._turn(other, order, iterations, 2)
        round_ns, setup_ns = min(wall for wall, _, _ in probe.burst), probe.setup_ns / 2
        rounds = self._pace.rounds(round_ns, setup_ns)
        bursts = self._pace.bursts(round_ns * rounds, setup_ns * rounds)
        return _Plan(iterations=iterations, rounds=rounds, bursts=bursts, at_once=False)

    def _runs_at_once(
        self,
        test: str,
        order: Sequence[str],
        said: Mapping[str, Message],
        bursts: Callable[[Message], list[Burst]],
    ) -> bool:
        """Return whether whole runs are long and keep the CPU busy, as one more of both at once shows."""
        has_device = any(said[side]["device"] for side in order)
        if has_device or not self._may_be_long([burst for side in order for burst in bursts(said[side])]):
            return False
        again = self._sides.run(order, test)
        return self._are_long([burst for side in order for burst in bursts(again[side])])

    def _may_be_long(self, first: Sequence[Burst]) -> bool:
        """Return whether it is worth asking for calls at once, after ``first`` calls, which may import."""
        return self._overlaps and min(cpu for burst in first for _, cpu, _ in burst) >= self._pace.long_ns

    def _are_long(self, bursts: Sequence[Burst]) -> bool:
        """Return whether calls, one a round, keep the CPU busy so long that both sides run them at once.

        One side decides, because what the host takes away shows as waiting.
        """
        return self._may_be_long(bursts) and max(map(cpu_share, bursts)) >= CPU_BOUND

    def _calibrate(self, side: str, order: Sequence[str], call: Turn) -> int:
        """Return the iterations of a round, found on one side and used on both."""
        pace = self._pace
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
        at_once = not is_alone and self._runs_at_once(
            test, order, said, lambda answer: [block["costs"] for block in answer["blocks"].values()]
        )
        found = {
            part: {side: Rounds(iterations=plan[part][0], are_at_once=at_once) for side in order}
            for part in plan
        }
        for turn in range(_BLOCKS):
            for sides in _turn_of(turn, order, at_once=at_once):
                for side, answer in self._sides.run(sides, test, block=plan, alone=is_alone).items():
                    for part in plan:
                        found[part][side].bursts.append(_block(answer, side, part))
        if self._profile:
            for side in order:
                answers = [
                    self._sides.run((side,), test, block=plan, alone=is_alone, profile=True)[side]["blocks"]
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
            setup_ns = self._sides.run(order[:1], test)[order[0]]["setup"]
        at_once = setup_ns <= call_ns and self._runs_at_once(
            test, order, said, lambda answer: [answer["costs"]]
        )
        iterations = self._pace.iterations(call_ns)
        times = iterations * self._pace.rounds(call_ns * iterations, at_once=at_once)
        times = min(times, self._pace.fitting(call_ns, setup_ns))
        found = {side: Rounds(are_at_once=at_once) for side in order}
        began = self._clock()
        for turn in range(self._pace.bursts(call_ns * times, at_once=at_once)):
            for sides in _turn_of(turn, order, at_once=at_once):
                for side, answer in self._sides.run(sides, test, times=times).items():
                    found[side].bursts.append(_burst(answer["costs"]))
            if not at_once and turn % _LOOK == _LOOK - 1 and self._is_precise(found):
                break
            is_fair = turn % 2 == 1 and turn + 1 >= _FEWEST_WHOLE
            if is_fair and self._clock() - began > _WHOLE_SECONDS:
                break
        if self._profile:
            for side in order:
                answers = [
                    self._sides.run((side,), test, times=1, profile=True)[side] for _ in range(_PROFILES)
                ]
                result.functions.setdefault("", {})[side] = least([answer["functions"] for answer in answers])
        result.parts[""] = found

    def _turn(self, side: str, order: Sequence[str], iterations: int, rounds: int = 1) -> Turn:
        return self._turns((side,), order, iterations, rounds)[side]

    def _turns(
        self, sides: Sequence[str], order: Sequence[str], iterations: int, rounds: int = 1
    ) -> dict[str, Turn]:
        answers = self._sides.within(sides, order, "burst", n=iterations, rounds=rounds)
        return {
            side: Turn(
                burst=_burst(answer["costs"]),
                setup_ns=answer["setup"],
                has_device=answer.get("device", False),
            )
            for side, answer in answers.items()
        }

    def _is_precise(self, found: Part) -> bool:
        """Return whether more turns would add little; the sign of the difference plays no part."""
        least = {side: [min(cpu for _, cpu, _ in burst) for burst in r.bursts] for side, r in found.items()}
        if any(cost <= 0 for costs in least.values() for cost in costs):
            return False
        return paired_log_ratio(least["base"], least["head"]).error < self._precision

    def _is_in_the_way(self, said: Mapping[str, Message], order: Sequence[str]) -> bool:
        """Return whether the second side failed beside the first, which then has left.

        Both sides hold their fixtures at once: a port or a lock of the first is taken for the second.
        """
        first, second = order
        is_suspicious = said[first]["is"] == "part" and said[second].get("outcome") == "failed"
        if is_suspicious:
            self._sides.ask(first, do="abort")
        return is_suspicious

    def _agreed_part(self, said: Mapping[str, Message], order: Sequence[str]) -> str:
        parts = {side: said[side].get("part") for side in order}
        if len(set(parts.values())) == 1:
            return str(parts[order[0]])
        for side in order:
            if parts[side] is not None:
                self._sides.ask(side, do="abort")
        self._sides.check_done({s: m for s, m in said.items() if m["is"] == "done"}, order)
        raise _differs(parts)


def _block(answer: Message, side: str, part: str) -> Burst:
    if part not in answer["blocks"]:
        raise TroubleError(Trouble.UNSTEADY, side, f"measures {part!r} only sometimes")
    return _burst(answer["blocks"][part]["costs"])


def _turn_of(number: int, order: Sequence[str], *, at_once: bool) -> list[Sequence[str]]:
    """Return which sides run after each other in a turn, or both at once; the next turn the other begins."""
    sides = order if number % 2 == 0 else order[::-1]
    return [sides] if at_once else [(side,) for side in sides]


def _burst(costs: Sequence[Sequence[int]]) -> Burst:
    return [(wall, cpu, delay) for wall, cpu, delay in costs]


def _differs(parts: Mapping[str, Any]) -> TroubleError:
    text = f"measures {parts['base']!r} where the present code measures {parts['head']!r}"
    return TroubleError(Trouble.DIFFERS, "base", text)
