"""Which CPU both sides share: the one that others left idle most since the last look; who keeps off it."""

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


class QuietCpu:
    """Chooses among the CPUs this process may use."""

    def __init__(self, seed: int, *, stat: Path = Path("/proc/stat")) -> None:
        self._dice, self._stat = random.Random(seed), stat
        self._before = self._read()

    @property
    def allowed(self) -> list[int]:
        """All CPUs this process may use; empty where the system does not tell."""
        return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def choose(self) -> list[int]:
        """Return the quietest CPU as a list of one; ties and no information are settled by chance."""
        now, allowed = self._read(), self.allowed
        if not allowed:
            return []
        idle = {cpu: now.get(cpu, 0) - self._before.get(cpu, 0) for cpu in allowed}
        self._before = now
        self._dice.shuffle(allowed)
        return [max(allowed, key=lambda cpu: idle[cpu])]

    def _read(self) -> dict[int, int]:
        """Return idle time by CPU, in ticks."""
        try:
            lines = self._stat.read_text().splitlines()
        except OSError:
            return {}
        fields = [line.split() for line in lines if line.startswith("cpu") and line[3:4].isdigit()]
        return {int(f[0][3:]): int(f[4]) for f in fields}


@contextmanager
def kept_on(cpus: Sequence[int]) -> Iterator[None]:
    """Let processes that the block starts run on ``cpus`` alone, where that is allowed."""
    before = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, before)
