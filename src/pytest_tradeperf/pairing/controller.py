"""Pairs after pairs until every test is decided or time is up.

One process pair serves all pending tests one after the other, so its start is shared; the next pair
is a fresh one. Cheap tests first: a test joins only when what it needs still fits into the time.
"""

import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final

import psutil

from pytest_tradeperf.pairing.ahead import PairsAhead
from pytest_tradeperf.pairing.bursts import TestPair
from pytest_tradeperf.pairing.cpus import QuietCpu
from pytest_tradeperf.pairing.lockstep import Lockstep
from pytest_tradeperf.pairing.outcomes import Clock, End, Outcome
from pytest_tradeperf.pairing.pair import SIDES, ProcessPair
from pytest_tradeperf.pairing.profiles import growths
from pytest_tradeperf.pairing.protocol import ClosedError, LateError, Message
from pytest_tradeperf.pairing.request import OnPair, OnProgress, Progress, Request, Suspect
from pytest_tradeperf.pairing.sides import Trouble, TroubleError
from pytest_tradeperf.pairing.verification import end_of_problem, problem_of_code, why_absent
from pytest_tradeperf.stats.sequential import Answer

_START_SECONDS: Final = 120.0
_HANG_SECONDS: Final = 5.0
_HANG_FACTOR: Final = 20.0
_HANG_RUNS: Final = 3.0
_LEAST_COST: Final = 0.7
_START_COST: Final = 1.0
_PRECISION: Final = 0.25
"""Standard error within a pair, as a share of the threshold, below which more turns add little:
what differs from process to process is then larger."""

_CALLS: Final = 8.0
"""Calls of a long test that one pair makes: first calls, two rounds on both sides, and set-up besides."""


StartPair = Callable[..., ProcessPair]


class _OutOfTimeError(Exception):
    """The time for all measuring is spent."""


def measure_pairs(
    request: Request,
    *,
    on_progress: OnProgress = lambda _: None,
    on_pair: OnPair = lambda *_: None,
    clock: Callable[[], float] = time.monotonic,
    start_pair: StartPair = ProcessPair,
) -> dict[str, Outcome]:
    """Measure every suspect on process pairs and return what came out, by test; never raises WorkerError."""
    measuring = _Measuring(request, on_progress, on_pair, clock=clock, start_pair=start_pair)
    for is_parallel in (False, True, False):  # the last is for those that only seemed to be parallel
        measuring.run(is_parallel=is_parallel)
    return measuring.outcomes


class _Measuring:
    def __init__(
        self,
        request: Request,
        on_progress: OnProgress,
        on_pair: OnPair,
        *,
        clock: Callable[[], float],
        start_pair: StartPair,
    ) -> None:
        self._start_pair = start_pair
        self._request, self._on_progress, self._on_pair = request, on_progress, on_pair
        self._clock, self._deadline = clock, clock() + request.seconds
        self._dice = random.Random(request.seed)
        self._cpus = QuietCpu(request.seed, quota=request.quota)
        self._is_verified = False
        self._taking_turns: set[str] = set()
        self._parallel = {s.test for s in request.suspects if s.is_parallel}
        self._tried_parallel = set(self._parallel)
        self._costs = {
            s.test: max(_LEAST_COST * s.parts, _CALLS * s.call_seconds, len(SIDES) * s.run_seconds)
            for s in request.suspects
        }
        self._start_cost = _START_COST
        self._pairs = 0
        self.outcomes = {s.test: Outcome(test=s.test, threshold=s.threshold) for s in request.suspects}

    def run(self, *, is_parallel: bool) -> None:
        """Measure all open suspects that are serial, or all that are parallel, until none is open."""
        pending = partial(self._pending, is_parallel=is_parallel)
        suspects = pending()
        with PairsAhead(lambda: self._new_pair(pending(), is_parallel=is_parallel)) as pairs:
            while batch := self._batch(pending()):
                self._pairs += 1
                try:
                    self._pair(pairs, batch, is_parallel=is_parallel, profile=False)
                except _OutOfTimeError:
                    self._end(suspects, End.TIME, "", "")
                except (ClosedError, LateError) as error:
                    self._end(batch, End.ERROR, "head", str(error))
                self._report()
                self._stop_early()
        regressed = [
            s
            for s in suspects
            if self._is_parallel(s) is is_parallel
            and Answer.REGRESSED in self.outcomes[s.test].answers(self._request.design)
        ]
        if regressed and self._request.pairs is None:
            self._profile(regressed, is_parallel=is_parallel)

    # -- which tests next

    def _batch(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        """Return the open tests that still fit into the time, cheap ones first; the rest is out of time."""
        left = self._deadline - self._clock()
        wanted = self._request.pairs or self._request.design.fewest
        batch: list[Suspect] = []
        together = self._start_cost
        for suspect in sorted(self._open(suspects), key=lambda s: self._costs[s.test]):
            together += self._costs[suspect.test]
            missing = max(1, wanted - self.outcomes[suspect.test].pairs)
            if together * missing > left and (batch or self.outcomes[suspect.test].pairs == 0):
                if not batch:
                    need = (self._costs[suspect.test] + self._start_cost) * missing
                    self._end([suspect], End.TIME, "", f"{missing} pairs would take about {need:.0f} s")
                    together -= self._costs[suspect.test]
                continue
            if left <= 0:
                self._end([suspect], End.TIME, "", "")
                continue
            batch.append(suspect)
        return batch

    def _may_need_more(self, batch: Iterable[Suspect]) -> bool:
        """Return whether some test of ``batch`` may be open after this pair."""
        wanted = self._request.pairs or self._request.design.horizon
        return any(self.outcomes[s.test].pairs + 1 < wanted for s in batch)

    def _open(self, suspects: Iterable[Suspect]) -> list[Suspect]:
        return [s for s in suspects if self.outcomes[s.test].end is None]

    def _pending(self, *, is_parallel: bool) -> list[Suspect]:
        return [s for s in self._open(self._request.suspects) if self._is_parallel(s) is is_parallel]

    def _is_parallel(self, suspect: Suspect) -> bool:
        return suspect.test in self._parallel

    def _end(self, suspects: Iterable[Suspect], end: End, side: str, message: str) -> None:
        for suspect in self._open(suspects):
            outcome = self.outcomes[suspect.test]
            outcome.end, outcome.side, outcome.message = end, side, message

    def _stop_early(self) -> None:
        """End all tests once as many have regressed as the user wants to see."""
        most, design = self._request.most_regressions, self._request.design
        failed = sum(Answer.REGRESSED in o.answers(design) for o in self.outcomes.values()) if most else 0
        if most and failed >= most:
            self._end(
                self._request.suspects, End.STOPPED, "", f"stopped after {failed} regressions, as asked"
            )

    # -- one pair

    def _new_pair(self, suspects: Sequence[Suspect], *, is_parallel: bool) -> ProcessPair:
        plan = self._request.plan
        payload = {**plan.payload, "tests": [s.test for s in suspects]}
        seed = self._dice.getrandbits(48)
        return self._start_pair(replace(plan, payload=payload), seed=seed, parallel=is_parallel)

    def _pair(self, pairs: PairsAhead, batch: Sequence[Suspect], *, is_parallel: bool, profile: bool) -> None:
        """Measure ``batch`` on the next pair while the one after it starts."""
        began = self._clock()
        with pairs.next() as pair:
            ready = {side: self._start(pair, side, batch) for side in SIDES}
            if not all(ready.values()):
                return
            self._start_cost = self._clock() - began
            self._compare_collections(batch, ready)
            cpus = self._cpus.allowed if is_parallel else self._cpus.choose()
            others = self._cpus.allowed
            pinned = [self._say(pair, side, do="pin", cpus=cpus, others=others)["ok"] for side in SIDES]
            for suspect in batch:
                self.outcomes[suspect.test].is_pinned = all(pinned)
            free = self._cpus.beside(cpus)
            if free and all(pinned) and _has_room(ready) and not profile and self._may_need_more(batch):
                pairs.prepare(free)
            lockstep = Lockstep(
                pair.channels,
                last_words=pair.last_words,
                profile=profile,
                together=lambda: pair.metronome(cpus),
            )
            for suspect in batch:
                if self.outcomes[suspect.test].end not in (None, End.DECIDED if profile else None):
                    continue
                if self._clock() >= self._deadline:
                    raise _OutOfTimeError
                with pair.kept_awake(cpus) if self._waits(suspect) else nullcontext():
                    can_go_on = self._test(lockstep, suspect, profile=profile)
                if not can_go_on:
                    return
            self._verify(pair, batch)
            self._part(pair, batch)

    def _part(self, pair: ProcessPair, batch: Sequence[Suspect]) -> None:
        """End a pair; what its fixtures take for tearing down counts as part of its start."""
        began = self._clock()
        seconds = _HANG_RUNS * max(suspect.run_seconds for suspect in batch)
        pair.farewell(min(seconds, max(self._deadline - began, 0.0)) + _HANG_SECONDS)
        self._start_cost += self._clock() - began

    def _test(self, lockstep: Lockstep, suspect: Suspect, *, profile: bool) -> bool:
        """Measure one test; return whether the processes can go on to the next."""
        outcome, design = self.outcomes[suspect.test], self._request.design
        began = self._clock()
        seconds = _HANG_SECONDS + _HANG_FACTOR * suspect.call_seconds + _HANG_RUNS * suspect.run_seconds
        left = self._deadline - began
        try:
            pair = lockstep.measure(
                suspect.test,
                first=self._dice.choice(SIDES),
                pace=self._request.pace.after(outcome.pairs, outcome.spread, suspect.threshold),
                seconds=min(seconds, left + _HANG_SECONDS),
                left=left,
                precision=_PRECISION * suspect.threshold,
                may_overlap=self._may_overlap(suspect),
            )
        except TroubleError as trouble:
            if trouble.kind is Trouble.LATE and self._clock() > self._deadline:
                raise _OutOfTimeError from trouble
            if trouble.at_once:
                self._taking_turns.add(suspect.test)  # from the next pair on, where this may not happen
            elif not profile:
                self._end([suspect], _ENDS[trouble.kind], trouble.side, str(trouble))
            return not trouble.ends_the_pair
        if profile:
            outcome.growths = {
                part: growths(
                    sides["base"],
                    sides["head"],
                    base_folder=os.path.realpath(self._request.plan.base),
                    head_folder=os.path.realpath(self._request.plan.head),
                )
                for part, sides in pair.functions.items()
            }
            return True
        spent = self._clock() - began
        self._costs[suspect.test] = max(spent, 0.01)
        is_parallel = self._is_parallel(suspect)
        if not outcome.pairs and self._belongs_elsewhere(suspect, pair):
            return True
        outcome.seconds += spent
        self._on_pair(suspect.test, pair)
        outcome.add(pair, is_parallel=is_parallel, higher_is_better=suspect.higher_is_better)
        wanted = self._request.pairs
        if wanted is None and outcome.is_decided(design):
            outcome.end = End.DECIDED
        elif outcome.pairs >= (wanted or design.horizon):
            outcome.end = End.HORIZON
        return True

    def _belongs_elsewhere(self, suspect: Suspect, pair: TestPair) -> bool:
        """Return whether a test's first pair shows that it is not as parallel, or as serial, as it seemed.

        In the test loop its first call may have been parallel alone, as importing a library may be, and
        the accepted code did not run there: on one CPU its threads show by their CPU time.
        """
        test = suspect.test
        if test in self._parallel:
            if not pair.runs_in_parallel:
                self._parallel.remove(test)
                return True
        elif pair.has_threads and test not in self._tried_parallel:
            self._parallel.add(test)
            self._tried_parallel.add(test)
            return True
        return False

    def _may_overlap(self, suspect: Suspect) -> bool:
        """Return whether both sides may run a test at once, which compares them only on one CPU."""
        is_apart = self._is_parallel(suspect) or suspect.records_times or suspect.test in self._taking_turns
        return self.outcomes[suspect.test].is_pinned and not is_apart

    def _waits(self, suspect: Suspect) -> bool:
        """Return whether a test, as earlier pairs showed, waits on the one CPU of its sides."""
        outcome = self.outcomes[suspect.test]
        is_waiting = any(series.clock is Clock.WALL for series in outcome.series.values())
        is_on_one_cpu = outcome.is_pinned and not self._is_parallel(suspect)
        return is_waiting and is_on_one_cpu and self._cpus.may_stay_awake

    # -- starting and verifying

    def _start(self, pair: ProcessPair, side: str, batch: Sequence[Suspect]) -> Message | None:
        """Return a side's first message; None when it cannot serve, which ends the batch's tests."""
        left = self._deadline - self._clock()
        try:
            message = pair.channels[side].receive(min(_START_SECONDS, max(left, 0.0) + _HANG_SECONDS))
        except LateError as error:
            if self._clock() >= self._deadline:
                raise _OutOfTimeError from error
            self._end(batch, End.ERROR, side, f"pytest did not start within {_START_SECONDS:.0f} s")
            return None
        except ClosedError:
            words = pair.last_words(side)
            self._end(batch, End.ERROR, side, "pytest died while starting" + (f": {words}" if words else ""))
            return None
        if message["is"] == "ready":
            return message
        text, words = message["message"], pair.last_words(side) if message["kind"] == "silent" else ""
        self._end(batch, end_of_problem(message["kind"], side), side, text + (f": {words}" if words else ""))
        return None

    def _compare_collections(self, batch: Sequence[Suspect], ready: Mapping[str, Any]) -> None:
        """End the tests that one side does not have."""
        for suspect in batch:
            for side in SIDES:
                if suspect.test not in ready[side]["tests"]:
                    end, text = why_absent(suspect.test, side, ready[side]["problems"])
                    self._end([suspect], end, side, text)

    def _verify(self, pair: ProcessPair, batch: Sequence[Suspect]) -> None:
        """Check once that each side ran its own code; what was measured else means nothing."""
        if self._is_verified:
            return
        modules = {side: self._say(pair, side, do="modules") for side in SIDES}
        problem = problem_of_code(modules, self._request.plan.sources, self._request.ignored)
        if problem is not None:
            self._restart(batch, *problem)
        self._is_verified = True

    def _restart(self, batch: Sequence[Suspect], end: End, side: str, text: str) -> None:
        for suspect in batch:
            outcome = self.outcomes[suspect.test]
            if outcome.pairs:
                outcome.series, outcome.pairs, outcome.end = {}, 0, None
        self._end(batch, end, side, text)

    def _say(self, pair: ProcessPair, side: str, **message: Any) -> Message:
        channel = pair.channels[side]
        channel.send(message)
        return channel.receive(_START_SECONDS)

    # -- afterwards

    def _profile(self, regressed: Sequence[Suspect], *, is_parallel: bool) -> None:
        """Run one more pair under the profiler, for where to look; nothing depends on it."""
        try:
            with PairsAhead(lambda: self._new_pair(regressed, is_parallel=is_parallel)) as pairs:
                self._pair(pairs, regressed, is_parallel=is_parallel, profile=True)
        except (_OutOfTimeError, ClosedError, LateError):
            return

    def _report(self) -> None:
        pending = self._open(self._request.suspects)
        worst, change = "", None
        for outcome in (self.outcomes[s.test] for s in pending):
            for series in outcome.series.values():
                look = series.look(self._request.design, outcome.threshold)
                if look is not None and (change is None or look.change > change):
                    worst, change = outcome.test, look.change
        self._on_progress(
            Progress(
                pairs=self._pairs,
                pending=len(pending),
                test=worst,
                change=change,
                seconds_left=max(0.0, self._deadline - self._clock()),
            )
        )


_ENDS: Final = {
    Trouble.FAILED: End.FAILED,
    Trouble.DIFFERS: End.ABSENT,
    Trouble.UNSTEADY: End.ERROR,
    Trouble.LATE: End.ERROR,
    Trouble.CLOSED: End.ERROR,
}


def _has_room(ready: dict[str, Any]) -> bool:
    """Return whether another pair as large as this one may start beside it; a GPU is not shared."""
    needed = sum(said["bytes"] for said in ready.values())
    return not any(said["device"] for said in ready.values()) and needed < psutil.virtual_memory().available
