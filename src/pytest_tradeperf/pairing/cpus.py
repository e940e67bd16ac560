"""Which CPU both sides share: the one that others left idle most since the last look; who keeps off it."""

import math
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_AWAKE_QUOTA: Final = 2.0


class QuietCpu:
    """Chooses among the CPUs this process may use, of which all together may be busy as much as ``quota``."""

    def __init__(self, seed: int, *, quota: float = math.inf, stat: Path = Path("/proc/stat")) -> None:
        self._dice, self._quota, self._stat = random.Random(seed), quota, stat
        self._before = self._read()

    @property
    def allowed(self) -> list[int]:
        """All CPUs this process may use; empty where the system does not tell."""
        return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def beside(self, cpus: Sequence[int]) -> list[int]:
        """Return other CPUs than ``cpus``, as many as the quota lets be busy beside them."""
        rest = [cpu for cpu in self.allowed if cpu not in cpus]
        return rest[: max(0, int(min(self._quota, len(self.allowed))) - len(cpus))]

    @property
    def may_stay_awake(self) -> bool:
        """Whether a CPU may be kept from idling: whatever does so uses up a quota as others do."""
        return self._quota >= _AWAKE_QUOTA

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
