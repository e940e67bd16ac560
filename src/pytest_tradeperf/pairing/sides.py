"""Asking the sides of a pair: one after the other or both at once, and what keeps them from answering."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from typing import Any

from pytest_tradeperf.errors import WorkerError
from pytest_tradeperf.pairing.protocol import Channel, ClosedError, LateError, Message


class Trouble(StrEnum):
    """Why a test gives no number on a pair."""

    FAILED = "failed"
    DIFFERS = "differs"
    UNSTEADY = "unsteady"
    LATE = "late"
    CLOSED = "closed"


class TroubleError(WorkerError):
    """A test cannot be measured on this pair; says on which side and why.

    ``at_once``: both sides had run it at once, and may have been in each other's way, at a file or in memory.
    """

    def __init__(self, kind: Trouble, side: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.side, self.at_once = kind, side, False

    @property
    def ends_the_pair(self) -> bool:
        """Whether the processes are of no further use."""
        return self.kind in (Trouble.LATE, Trouble.CLOSED)


class Sides:
    """Both ends of a pair, as far as one test needs them.

    ``seconds`` is the most any answer may take; nothing is asked after ``ends`` on the clock.
    ``have_overlapped`` tells whether both have run measured code at once, which they do inside ``together``.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        *,
        last_words: Callable[[str], str],
        clock: Callable[[], float],
        together: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._channels, self._last_words, self._clock = channels, last_words, clock
        self._together = together
        self.seconds, self.ends = 60.0, math.inf
        self.have_overlapped = False

    def ask(self, side: str, **message: Any) -> Message:
        """Return the answer of one side; raises TroubleError when there is none in time."""
        return self._ask_all((side,), message)[side]

    def within(
        self, sides: Sequence[str], order: Sequence[str], do: str, **message: Any
    ) -> dict[str, Message]:
        """Ask ``sides`` at once for something inside a part; when that ends the test, end it on all."""
        answers = self._ask_all(sides, {"do": do, **message})
        ended = [side for side in sides if answers[side]["is"] == "done"]
        if ended:
            for other in order:
                if other not in ended:
                    self.ask(other, do="abort")
            self.check_done({side: answers[side] for side in ended}, ended)
            raise TroubleError(Trouble.FAILED, ended[0], "its call raised what the test expects")
        return answers

    def run(self, sides: Sequence[str], test: str, **message: Any) -> dict[str, Message]:
        """Run a whole test on ``sides`` at once and return what they say when it is done."""
        answers = self._ask_all(sides, {"do": "test", "test": test, **message})
        for side in sides:
            if answers[side]["is"] != "done":
                self.ask(side, do="abort")
        for side in sides:
            if answers[side]["is"] != "done":
                raise TroubleError(Trouble.UNSTEADY, side, "measures other parts when it is run again")
        self.check_done(answers, sides)
        return answers

    @staticmethod
    def check_done(said: Mapping[str, Message], order: Sequence[str]) -> None:
        """Raise TroubleError for the first side in ``order`` whose test did not pass."""
        for side in order:
            if side in said and said[side]["outcome"] != "passed":
                raise TroubleError(Trouble.FAILED, side, said[side]["message"])

    def _ask_all(self, sides: Sequence[str], message: Message) -> dict[str, Message]:
        at_once = len(sides) > 1
        self.have_overlapped |= at_once
        if self._clock() > self.ends:
            raise TroubleError(Trouble.LATE, sides[0], "the time for measuring was spent")
        answers = {}
        with self._together() if at_once else nullcontext():
            for side in sides:
                with self._troubles(side):
                    self._channels[side].send(message)
            for side in sides:
                with self._troubles(side):
                    answers[side] = self._channels[side].receive(self.seconds)
        return answers

    @contextmanager
    def _troubles(self, side: str) -> Iterator[None]:
        """Say which side is late or gone."""
        try:
            yield
        except LateError as error:
            text = f"did not answer within {self.seconds:.0f} s and was ended"
            raise TroubleError(Trouble.LATE, side, text) from error
        except ClosedError as error:
            words = self._last_words(side)
            text = "its process died" + (f"; its last words: {words}" if words else "")
            raise TroubleError(Trouble.CLOSED, side, text) from error
