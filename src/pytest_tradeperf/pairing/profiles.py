"""Where the time of each side went, and which functions grew: a hint where to look, not a measurement."""

import cProfile
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

_SHOWN: Final = 3
_RUNNERS: Final = (
    "/_pytest/",
    "/pluggy/",
    "pytest_tradeperf/measures/",
    "pytest_tradeperf/plugin/",
    "pytest_tradeperf/pairing/",
)
_SHARE: Final = 0.1
"""Least share of the whole growth that makes a function worth naming."""


class Profiler:
    """Profiles the calls made while it is entered."""

    def __enter__(self) -> Self:
        self._profile = cProfile.Profile()
        self._profile.enable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._profile.disable()

    def functions(self, iterations: int) -> dict[str, list[float]]:
        """Return (own seconds, calls, line) an iteration, by file and function with a NUL between."""
        found: dict[str, list[float]] = {}
        entries: Sequence[Any] = self._profile.getstats()  # of the C base class
        for entry in entries:
            code = entry.code
            if isinstance(code, str):
                key, line = f"\0{code}", 0
            else:
                key, line = f"{os.path.realpath(code.co_filename)}\0{code.co_qualname}", code.co_firstlineno
            seconds, calls, _ = found.get(key, (0.0, 0.0, 0))
            found[key] = [seconds + entry.inlinetime / iterations, calls + entry.callcount / iterations, line]
        return found


def least(profiles: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """Return every function's cheapest profile: whoever interrupts, interrupts another one next time."""
    found: dict[str, list[float]] = {}
    for profile in profiles:
        for key, cost in profile.items():
            found[key] = min(found.get(key, cost), cost)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One function that costs more now: own seconds and calls an iteration, before and after."""

    function: str
    file: str
    line: int
    seconds: tuple[float, float]
    calls: tuple[float, float]

    def __str__(self) -> str:
        before, after = self.seconds
        times = f"{before * 1e6:.4g} -> {after * 1e6:.4g} us" if before else f"new, {after * 1e6:.4g} us"
        calls = "" if self.calls[0] == self.calls[1] else f", calls {self.calls[0]:g} -> {self.calls[1]:g}"
        where = f" ({self.file}:{self.line})" if self.file else ""
        return f"{self.function}{where}: {times} an iteration{calls}"


def growths(
    base: Mapping[str, Sequence[float]],
    head: Mapping[str, Sequence[float]],
    *,
    base_folder: str,
    head_folder: str,
) -> list[Growth]:
    """Return up to three functions whose own time grew most, files relative to their side's folder."""
    before = {_relative(key, base_folder): value for key, value in base.items()}
    after = {_relative(key, head_folder): value for key, value in head.items()}
    found = []
    for key, (seconds, calls, line) in after.items():
        old_seconds, old_calls, _ = before.get(key, (0.0, 0.0, 0))
        file, _, name = key.partition("\0")
        found.append(
            Growth(
                function=name,
                file=file,
                line=int(line),
                seconds=(old_seconds, seconds),
                calls=(old_calls, calls),
            )
        )
    found = [growth for growth in found if not _is_ours(growth.file, growth.function)]
    grown = sorted(found, key=lambda g: g.seconds[0] - g.seconds[1])
    total = sum(g.seconds[1] - g.seconds[0] for g in grown if g.seconds[1] > g.seconds[0])
    return [g for g in grown[:_SHOWN] if g.seconds[1] - g.seconds[0] > _SHARE * total]


def _is_ours(file: str, name: str) -> bool:
    """Return whether a function belongs to what runs the test, or to no file at all."""
    inner = file.replace(os.sep, "/")
    return inner.startswith("<") or "_lsprof" in name or any(part in inner for part in _RUNNERS)


def _relative(key: str, folder: str) -> str:
    file, _, name = key.partition("\0")
    inner = file.removeprefix(f"{folder}{os.sep}") if file.startswith(f"{folder}{os.sep}") else file
    return f"{inner}\0{name}"
