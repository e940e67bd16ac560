"""What disturbed a measurement: the noise the kernel saw while it ran.

Nothing here is judged; it is what a person wants to know when a verdict is *undecided*.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Self

from pytest_tradeperf.measures.machine import cpu_quota, usable_cpus
from pytest_tradeperf.model import Json
from pytest_tradeperf.units import format_duration, format_percent

_WORTH_SAYING: Final = 0.01
"""Shares of time below this are left out of the text."""


class NoiseWitness:
    """Context manager: ``seen`` says what happened beside the block. Costs some file reads at each end.

    Keys of ``seen``, each present only where the system tells:

    ``wall_ns``
        Length of the block.
    ``involuntary_switches``
        How often the kernel took the CPU away from this process.
    ``steal``
        Share of all CPU time that the hypervisor gave to others.
    ``cpu_pressure``
        Share of the time in which something on this machine waited for a CPU.
    ``throttled_ns``
        How long the container's quota stopped its processes.
    ``thermal_throttles``
        How often a core slowed down for its temperature.
    ``frequency_mhz``
        (lowest, highest) present frequency of the cores, at the end.
    ``load``
        Load average of the last minute.
    ``cpus``, ``quota_cpus``
        CPUs this process may use and the container's quota.
    """

    def __init__(self, *, root: Path = Path("/"), clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._root, self._clock = root, clock
        self.seen: dict[str, Json] = {}

    def __enter__(self) -> Self:
        self._before = self._counters()
        return self

    def __exit__(self, *failure: object) -> None:
        after = self._counters()
        gone = {name: after[name] - start for name, start in self._before.items() if name in after}
        wall = max(gone.pop("wall_ns"), 1)
        seen: dict[str, Json] = {"wall_ns": wall, **gone}
        total, steal = seen.pop("cpu_ticks", 0), seen.pop("steal_ticks", None)
        if steal is not None and total:
            seen["steal"] = round(steal / total, 4)
        if "pressure_us" in seen:
            seen["cpu_pressure"] = round(min(1.0, seen.pop("pressure_us") * 1000 / wall), 4)
        self.seen = seen | self._state()

    def _counters(self) -> dict[str, int]:
        found = {"wall_ns": self._clock()}
        try:
            import resource
        except ImportError:  # Windows
            pass
        else:
            found["involuntary_switches"] = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        ticks = re.match(r"cpu\s+((?:\d+ ?)+)", self._text("proc/stat"))
        if ticks and len(fields := [int(f) for f in ticks[1].split()][:8]) == 8:  # noqa: PLR2004 - proc(5)
            found |= {"cpu_ticks": sum(fields), "steal_ticks": fields[7]}
        found |= self._number("pressure_us", "proc/pressure/cpu", r"some .*total=(\d+)")
        found |= self._throttled()
        counts = [self._int(path) for path in self._cpus("thermal_throttle/core_throttle_count")]
        if counts:
            found["thermal_throttles"] = sum(counts)
        return found

    def _throttled(self) -> dict[str, int]:
        place = re.search(r"^0::(/.*)$", self._text("proc/self/cgroup"), re.MULTILINE)
        folders = [f"sys/fs/cgroup{place[1]}"] if place else []
        for folder in (*folders, "sys/fs/cgroup"):
            found = self._number("throttled_us", f"{folder}/cpu.stat", r"throttled_usec (\d+)")
            if found:
                return {"throttled_ns": found["throttled_us"] * 1000}
        return self._number("throttled_ns", "sys/fs/cgroup/cpu/cpu.stat", r"throttled_time (\d+)")

    def _state(self) -> dict[str, Json]:
        state: dict[str, Json] = {"cpus": usable_cpus()}
        frequencies = [self._int(path) / 1000 for path in self._cpus("cpufreq/scaling_cur_freq")]
        if frequencies:
            state["frequency_mhz"] = [round(min(frequencies)), round(max(frequencies))]
        if hasattr(os, "getloadavg"):
            state["load"] = round(os.getloadavg()[0], 2)
        quota = cpu_quota(self._root)
        return state | ({"quota_cpus": quota} if quota is not None else {})

    def _cpus(self, name: str) -> list[Path]:
        return sorted((self._root / "sys/devices/system/cpu").glob(f"cpu[0-9]*/{name}"))

    def _int(self, path: Path) -> int:
        try:
            return int(path.read_text())
        except (OSError, ValueError):
            return 0

    def _text(self, name: str) -> str:
        try:
            return (self._root / name).read_text(errors="replace")
        except OSError:
            return ""

    def _number(self, key: str, name: str, pattern: str) -> dict[str, int]:
        found = re.search(pattern, self._text(name))
        return {key: int(found[1])} if found else {}


def describe(seen: Mapping[str, Json]) -> str:
    """Return the noise in one line, "" when there was none worth mentioning.

    Examples
    --------
    >>> describe({"wall_ns": 10**9, "steal": 0.042, "involuntary_switches": 312, "cpus": 2, "load": 11.3})
    'CPU stolen 4.2 %, 312 involuntary switches/s, load 11.3 on 2 CPUs'
    """
    seconds = max(seen.get("wall_ns", 0) / 1e9, 1e-9)
    parts = []
    for key, text in (("steal", "CPU stolen"), ("cpu_pressure", "waiting for a CPU")):
        if seen.get(key, 0) >= _WORTH_SAYING:
            parts.append(f"{text} {format_percent(seen[key])}")
    if seen.get("throttled_ns"):
        quota = f" (quota {seen['quota_cpus']:g} CPUs)" if "quota_cpus" in seen else ""
        parts.append(f"container throttled for {format_duration(seen['throttled_ns'])}{quota}")
    if seen.get("thermal_throttles"):
        parts.append(f"{seen['thermal_throttles']} thermal throttles")
    low, high = seen.get("frequency_mhz", (1, 1))
    if low < 0.7 * high:
        parts.append(f"cores between {low} and {high} MHz")
    rate = seen.get("involuntary_switches", 0) / seconds
    if rate >= 1:
        parts.append(f"{rate:.0f} involuntary switches/s")
    if seen.get("load", 0) > seen.get("cpus", 1):
        parts.append(f"load {seen['load']:g} on {seen['cpus']} CPUs")
    return ", ".join(parts)
