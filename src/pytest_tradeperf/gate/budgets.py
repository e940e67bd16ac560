"""What ``@pytest.mark.perf_budget(...)`` says, and whether a measurement keeps to it."""

import datetime as dt
import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pytest_tradeperf.errors import MarkerError, UnitError
from pytest_tradeperf.model import Measurement, Row, Verdict, Waiver
from pytest_tradeperf.units import UNITS, Limit, format_percent, format_quantity, parse_fraction, parse_limit

LIMIT_UNITS: Final = {
    "wall": "ns",
    "cpu": "ns",
    "peak_rss": "B",
    "peak_memory": "B",
    "allocations": "1",
    "instructions": "1",
    "loop_lag": "ns",
    "gpu_memory": "B",
    "gpu_utilization": "fraction",
    "gpu_energy": "J",
    "gpu_time": "ns",
}
"""Marker arguments that are limits, with their dimension."""

_OTHERS: Final = (
    "limits",
    "threshold",
    "rounds",
    "cache",
    "accept",
    "reason",
    "until",
    "heap",
    "include_fixtures",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpec:
    """The merged budget of one test: limits by metric name, and how it is measured and gated.

    ``measured`` names what is measured and gated without a limit, ``heap`` what counts as an allocation
    (``python`` or ``malloc``), ``include_fixtures`` whether the set-up belongs to the heap figures.
    """

    limits: Mapping[str, Limit] = field(default_factory=dict)
    measured: frozenset[str] = frozenset()
    threshold: float | None = None
    rounds: int | None = None
    cache: str | None = None
    waiver: Waiver | None = None
    heap: str = "python"
    include_fixtures: bool = False

    def asked(self, *, is_kept: bool) -> frozenset[str]:
        """Return what is measured: what has a limit and, where values are stored or judged, the rest too."""
        return self.measured.union(self.limits) if is_kept else frozenset(self.limits)

    def only(self, names: Collection[str]) -> "BudgetSpec":
        """Return this budget for some metrics alone."""
        limits = {name: limit for name, limit in self.limits.items() if name in names}
        return replace(self, limits=limits, measured=self.measured.intersection(names))


def read_budget(markers: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> BudgetSpec:
    """Return the budget that markers say together, the nearest first: it wins, limits merge.

    ``markers`` holds the (args, kwargs) of each marker. ``True`` for a limit measures without one.

    Raises
    ------
    MarkerError
        For a positional or unknown argument, a value that cannot be read or is out of range, or an
        incomplete waiver.

    Examples
    --------
    >>> spec = read_budget([((), {"wall": "1 s"}), ((), {"wall": "9 s", "cpu": "2 s"})])
    >>> {name: str(limit) for name, limit in spec.limits.items()}
    {'wall': '<= 1.00 s', 'cpu': '<= 2.00 s'}
    """
    merged: dict[str, Any] = {}
    limits: dict[str, Limit | None] = {}
    for args, kwargs in markers:
        if args:
            raise MarkerError(
                f"perf_budget takes keyword arguments only, not {args[0]!r}: write perf_budget(wall='250 ms')"
            )
        for name, value in kwargs.items():
            if name in LIMIT_UNITS:
                limits.setdefault(name, None if value is True else _limit_of(name, value))
            elif name == "limits":
                for metric, limit in _named_limits(value).items():
                    limits.setdefault(metric, limit)
            elif name in _OTHERS:
                merged.setdefault(name, value)
            else:
                raise MarkerError(_unknown(name))
    return BudgetSpec(
        limits={name: limit for name, limit in limits.items() if limit is not None},
        measured=frozenset(name for name, limit in limits.items() if limit is None),
        threshold=_fraction("threshold", merged["threshold"]) if "threshold" in merged else None,
        rounds=_rounds(merged.get("rounds")),
        cache=_cache(merged.get("cache")),
        waiver=_waiver(merged),
        heap=_heap(merged.get("heap", "python")),
        include_fixtures=_flag("include_fixtures", merged.get("include_fixtures", False)),
    )


def breaches(
    spec: BudgetSpec,
    measurements: Iterable[Measurement],
    test: str,
    unavailable: Mapping[str, str] | None = None,
) -> list[Row]:
    """Return a row for every limit that was exceeded; ``error`` for one that cannot be judged.

    That is a limit on what was not measured, on a digest, or in another dimension than the metric. A
    limit on what ``unavailable`` gives a reason for (by metric name) is ``undecided``, and so is what was
    to be measured without one.
    """
    measured = {m.metric.name: m for m in measurements}
    rows = []
    for name in (*spec.limits, *sorted(spec.measured)):
        found, limit = _measured_for(name, measured), spec.limits.get(name)
        if not found:
            rows.append(_unjudged(test, name, limit, _reason(name, unavailable or {}), measured))
        elif limit is not None:
            rows += [row for m in found if (row := _beyond(test, m, limit)) is not None]
    return rows


def unmeasured(unavailable: Mapping[str, str], judged: Iterable[Row], test: str) -> list[Row]:
    """Return an undecided row for each measure, by metric name, that no row of ``judged`` is about."""
    told = {row.metric for row in judged}
    return [
        Row(test=test, metric=name, verdict=Verdict.UNDECIDED, note=f"not measured: {why}")
        for name, why in unavailable.items()
        if told.isdisjoint((name, _plain(name)))
    ]


def _reason(name: str, unavailable: Mapping[str, str]) -> str | None:
    """Return why what a limit applies to was not measured: that name, or the first part's."""
    return next((why for full, why in unavailable.items() if name in (full, _plain(full))), None)


def _plain(name: str) -> str:
    """Return ``peak_memory`` of ``report.peak_memory@malloc``."""
    return name.partition("@")[0].rpartition(".")[2]


def _unjudged(
    test: str, name: str, limit: Limit | None, reason: str | None, measured: Collection[str]
) -> Row:
    """Return the row of what should have been measured: undecided with a reason, else an error."""
    if reason is not None:
        what = "not measured" if limit is None else f"limit {limit} not judged"
        unit = LIMIT_UNITS[name] if limit is None else limit.unit
        note = f"{what}: {reason}"
        return Row(test=test, metric=name, verdict=Verdict.UNDECIDED, unit=unit, note=note)
    asked = f"{name}=True" if limit is None else f"limit on {name!r}"
    note = f"{asked}, but the test measured only: {', '.join(measured) or 'nothing'}"
    return Row(test=test, metric=name, verdict=Verdict.ERROR, note=note)


def _beyond(test: str, measurement: Measurement, limit: Limit) -> Row | None:
    """Return the row of a value that breaks its limit or cannot be held against it, else None."""
    metric, value = measurement.metric, measurement.value
    if isinstance(value, str) or not _is_comparable(limit.unit, metric.unit):
        kind = "an answer" if isinstance(value, str) else f"measured in {metric.unit!r}"
        note = f"limit {limit} on {metric.name!r}, which is {kind}"
        return Row(test=test, metric=metric.name, verdict=Verdict.ERROR, note=note)
    if limit.allows(value):
        return None
    change = value / limit.value - 1 if limit.value else None
    how_far = f" ({format_percent(change, sign=True)})" if change is not None else ""
    return Row(
        test=test,
        metric=metric.name,
        verdict=Verdict.OVER_BUDGET,
        unit=metric.unit,
        accepted=limit.value,
        measured=value,
        change=change,
        note=f"{metric.name} {format_quantity(value, metric.unit)}, limit {limit}{how_far}",
    )


def _is_comparable(limit: str, metric: str) -> bool:
    """Return whether a limit's unit bounds a metric's: the same, or for a label a number or a rate."""
    if limit == metric:
        return True
    is_label = metric not in UNITS
    return is_label and (limit == "1" or (limit == "1/s" and metric.endswith("/s")))


def _measured_for(name: str, measured: Mapping[str, Measurement]) -> list[Measurement]:
    """Return the measurements a limit applies to: that name, or every part's and cache state's."""
    if name in measured:
        return [measured[name]]
    plain = {full: full.split("@")[0] for full in measured}
    return [m for full, m in measured.items() if name in (plain[full], plain[full].split(".", 1)[-1])]


def _unknown(name: str) -> str:
    known = [*LIMIT_UNITS, *_OTHERS]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return f"perf_budget has no argument {name!r}; {hint}"


def _limit_of(name: str, value: object) -> Limit:
    where = f"perf_budget({name}=...)"
    if value is False:
        raise MarkerError(f"{where}: write True to measure it, a limit, or leave it out")
    if LIMIT_UNITS[name] == "1" and isinstance(value, int):  # a count needs no unit, so no quotes either
        value = str(value)
    return _limit(where, value, LIMIT_UNITS[name])


def _limit(where: str, value: object, unit: str | None) -> Limit:
    try:
        limit = parse_limit(value, unit)
    except UnitError as error:
        raise MarkerError(f"{where}: {error}") from error
    if limit.value == 0 and not limit.at_least and limit.unit in ("ns", "B"):
        raise MarkerError(f"{where}: a limit of {value!r} can never be kept; leave it out or raise it")
    return limit


def _named_limits(value: object) -> dict[str, Limit]:
    if not isinstance(value, Mapping):
        raise MarkerError(
            f"perf_budget(limits={value!r}): write a mapping such as {{'bars_per_second': '>= 1000/s'}}"
        )
    return {str(k): _limit(f"perf_budget(limits={{{k!r}: ...}})", v, None) for k, v in value.items()}


def _fraction(name: str, value: object) -> float:
    try:
        return parse_fraction(value)
    except UnitError as error:
        raise MarkerError(f"perf_budget({name}=...): {error}") from error


def _rounds(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise MarkerError(f"perf_budget(rounds={value!r}): write a whole number of at least 1")


def _heap(value: object) -> str:
    if isinstance(value, str) and value in ("python", "malloc"):
        return value
    raise MarkerError(
        f"perf_budget(heap={value!r}): write 'python' (every object) or 'malloc' (quicker, coarser)"
    )


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise MarkerError(f"perf_budget({name}={value!r}): write True or False")


def _cache(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value in ("cold", "warm")):
        return value
    raise MarkerError(f"perf_budget(cache={value!r}): write 'cold' or 'warm'")


def _waiver(merged: Mapping[str, Any]) -> Waiver | None:
    given = [name for name in ("accept", "reason", "until") if name in merged]
    if not given:
        return None
    absent = [name for name in ("accept", "reason", "until") if name not in merged]
    if absent:
        raise MarkerError(
            f"perf_budget({given[0]}=...) needs {' and '.join(absent)} too: "
            "accept='3%', reason='...', until='2027-01-31'"
        )
    reason, until = merged["reason"], merged["until"]
    if not isinstance(reason, str) or not reason.strip():
        raise MarkerError(f"perf_budget(reason={reason!r}): say why the loss is accepted")
    try:
        text = until.isoformat()[:10] if isinstance(until, dt.date) else until
        day = dt.date.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise MarkerError(f"perf_budget(until={until!r}): write a date such as '2027-01-31'") from error
    return Waiver(fraction=_fraction("accept", merged["accept"]), reason=reason, until=day.isoformat())
