"""What ``@pytest.mark.perf_leak(...)`` says."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pytest_tradeperf.errors import MarkerError, UnitError
from pytest_tradeperf.units import parse_duration_ns, parse_size_bytes

_ARGUMENTS: Final = ("calls", "allow", "time")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakSpec:
    """How a test is searched for leaks; None leaves the choice to the search.

    ``calls`` per round, ``allow_bytes`` of growth per call that are tolerated, ``limit_ns`` for it all.
    """

    calls: int | None = None
    allow_bytes: float | None = None
    limit_ns: int | None = None


def read_leak(markers: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> LeakSpec | None:
    """Return what the markers (args, kwargs) say together, the nearest first; None for no marker.

    Raises
    ------
    MarkerError
        For a positional or unknown argument or a value that cannot be read.

    Examples
    --------
    >>> read_leak([((), {"calls": 50, "allow": "16 B"})])
    LeakSpec(calls=50, allow_bytes=16, limit_ns=None)
    """
    merged: dict[str, Any] = {}
    marked = False
    for args, kwargs in markers:
        marked = True
        if args:
            raise MarkerError(
                f"perf_leak takes keyword arguments only, not {args[0]!r}: write perf_leak(calls=100)"
            )
        for name, value in kwargs.items():
            if name not in _ARGUMENTS:
                close = difflib.get_close_matches(name, _ARGUMENTS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(_ARGUMENTS)}"
                raise MarkerError(f"perf_leak has no argument {name!r}; {hint}")
            merged.setdefault(name, value)
    if not marked:
        return None
    calls = merged.get("calls")
    if calls is not None and (isinstance(calls, bool) or not isinstance(calls, int) or calls < 1):
        raise MarkerError(f"perf_leak(calls={calls!r}): write a whole number of at least 1")
    try:
        return LeakSpec(
            calls=calls,
            allow_bytes=parse_size_bytes(merged["allow"]) if "allow" in merged else None,
            limit_ns=parse_duration_ns(merged["time"]) if "time" in merged else None,
        )
    except UnitError as error:
        raise MarkerError(f"perf_leak: {error}") from error
