"""How much a side runs in one turn, and how many turns a test gets."""

import math
from dataclasses import dataclass, replace
from typing import Final, Self

MOST_ITERATIONS: Final = 10_000_000

_FEW_PAIRS: Final = 5
_SPREAD: Final = 0.6
_LONGEST: Final = 4.0
"""After so many pairs they last longer, up to so many times, where they spread by more of the threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a round, a burst of rounds and all of a side's bursts last.

    Rounds are short, because what a machine does to a process comes in bursts too: of many short
    rounds some are undisturbed. A burst keeps the cost of taking turns small. What is not timed, the
    set-up of a call, may take up to ``room_ns`` of a burst and with all bursts four times ``side_ns``.

    A call of ``long_ns`` or more cannot take turns that fast: both sides run it at once, in bursts of at
    least ``long_burst_ns``, for ``long_side_ns``.
    """

    round_ns: int = 250_000
    burst_ns: int = 2_000_000
    long_ns: int = 5_000_000
    long_burst_ns: int = 30_000_000
    side_ns: int = 250_000_000
    long_side_ns: int = 500_000_000
    room_ns: int = 50_000_000
    least: int = 2
    most: int = 400

    def after(self, pairs: int, spread: float, threshold: float) -> Self:
        """Return the pace of the pair that follows ``pairs`` with this ``spread``, so that turns even it out.

        Only earlier pairs decide that, so it leaves the next one's sign the probability that is built on.
        """
        wanted = _SPREAD * threshold
        if pairs < _FEW_PAIRS or spread <= wanted:
            return self
        times = _LONGEST if spread >= wanted * math.sqrt(_LONGEST) else (spread / wanted) ** 2
        return replace(
            self,
            side_ns=round(self.side_ns * times),
            long_side_ns=round(self.long_side_ns * times),
            most=round(self.most * times),
        )

    def bursts(self, burst_ns: float, setup_ns: float = 0.0, *, at_once: bool = False) -> int:
        """Return an even number of bursts a side; ``setup_ns`` is what one takes besides."""
        wanted = (self.long_side_ns if at_once else self.side_ns) / max(burst_ns, 1.0)
        if setup_ns:
            wanted = min(wanted, 4 * self.side_ns / (burst_ns + setup_ns))
        return 2 * math.ceil(min(max(wanted, self.least), self.most) / 2)

    def rounds(self, round_ns: float, setup_ns: float = 0.0, *, at_once: bool = False) -> int:
        """Return how many rounds make a burst, of both sides ``at_once`` or of one."""
        burst_ns = self.long_burst_ns if at_once else self.burst_ns
        wanted = max(1, round(burst_ns / max(round_ns, 1.0)))
        return min(wanted, self.fitting(round_ns, setup_ns))

    def iterations(self, call_ns: float, setup_ns: float = 0.0) -> int:
        """Return how many calls make a round."""
        wanted = min(max(1, round(self.round_ns / max(call_ns, 1.0))), MOST_ITERATIONS)
        return min(wanted, self.fitting(call_ns, setup_ns))

    def fitting(self, call_ns: float, setup_ns: float) -> int:
        """Return how many calls, or rounds, have room in a burst together with their set-up."""
        return max(1, int(self.room_ns / (call_ns + setup_ns))) if setup_ns else MOST_ITERATIONS


PACE: Final = Pace()
