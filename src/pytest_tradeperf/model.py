"""The records that travel between the rungs: what was measured, what was accepted, what was decided.

Frozen and free of behaviour beyond checking themselves. How they are measured, stored, judged and
shown lives in ``measures``, ``store``, ``gate`` and ``report``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Json: TypeAlias = Any
"""Anything the json module can write."""


class Kind(StrEnum):
    """How a metric is judged: by paired measurement, by tolerance, by equality, or by limits alone.

    A gauge depends on what else the process did: it is recorded, never stored or gated.
    """

    TIMING = "timing"
    COUNTER = "counter"
    DIGEST = "digest"
    GAUGE = "gauge"


class Better(StrEnum):
    """Which direction of change is an improvement."""

    LOWER = "lower"
    HIGHER = "higher"
    SAME = "same"


class Verdict(StrEnum):
    """The nine answers, most severe first."""

    REGRESSED = "regressed"
    OVER_BUDGET = "over_budget"
    ERROR = "error"
    UNDECIDED = "undecided"
    MISMATCH = "mismatch"
    MISSING = "missing"
    NEW = "new"
    IMPROVED = "improved"
    OK = "ok"

    @property
    def severity(self) -> int:
        """0 for the most severe."""
        return list(Verdict).index(self)

    @property
    def is_failure(self) -> bool:
        """Whether the verdict fails its test without ``--perf-strict``."""
        return self in (Verdict.REGRESSED, Verdict.OVER_BUDGET)

    @property
    def is_strict_failure(self) -> bool:
        """Whether the verdict fails its test under ``--perf-strict``."""
        return self.is_failure or self in (
            Verdict.UNDECIDED,
            Verdict.MISMATCH,
            Verdict.MISSING,
            Verdict.NEW,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a number is: its name within a test, how it is judged, its unit, its good direction.

    ``name`` is ``[part.]measure[@cache]``: ``wall``, ``parse.cpu``, ``wall@cold``, ``digest:signals``.
    A counter is unchanged within ``relative * accepted + absolute``.
    """

    name: str
    kind: Kind
    unit: str = "1"
    better: Better = Better.LOWER
    relative: float = 0.0
    absolute: float = 0.0
    portable: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a metric needs a name")
        if not (0 <= self.relative < math.inf and 0 <= self.absolute < math.inf):
            raise ValueError(f"tolerances of {self.name!r} must be finite and at or above zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The rounds of one measured callable in one process.

    ``wall_ns`` and ``cpu_ns`` hold one total per round, each for ``iterations`` calls.
    """

    iterations: int
    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.iterations < 1 or not self.wall_ns or len(self.wall_ns) != len(self.cpu_ns):
            raise ValueError(f"a sample needs rounds of at least one iteration, not {self!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One metric of one test in one run.

    ``value`` is per iteration. ``low`` and ``high`` bound what the rounds showed (equal to ``value``
    where there is no spread). ``text`` is the canonical value behind a digest, at most 64 KiB.
    """

    metric: Metric
    value: float | str
    low: float | None = None
    high: float | None = None
    text: str | None = None
    detail: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRecord:
    """Everything measured in one test: its measurements and its stages.

    ``stages`` holds (path, calls, wall ns) with nested names joined by ``/``, ``unavailable`` why a measure
    that was asked for is not among the measurements, ``code`` a digest of the test itself.
    """

    __test__ = False

    test: str
    measurements: tuple[Measurement, ...] = ()
    stages: tuple[tuple[str, int, int], ...] = ()
    threshold: float | None = None
    accept: "Waiver | None" = None
    unavailable: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None

    def lacks(self, metric: str) -> bool:
        """Return whether a metric is one that could not be measured: ``parse.instructions@cold`` too."""
        plain = metric.partition("@")[0]
        return plain in self.unavailable or plain.rpartition(".")[2] in self.unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A known, accepted loss: a larger threshold until a day (ISO date)."""

    fraction: float
    reason: str
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a run happened; what decides whether two numbers may be compared."""

    platform: str
    arch: str
    python: str
    machine: str
    pytest_tradeperf: str = ""
    dependencies: Mapping[str, str] = field(default_factory=dict)
    source_tree: str | None = None
    commit: str | None = None
    created: str = ""
    witness: Mapping[str, Json] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The stem of the baseline file for this environment."""
        return f"{self.platform}-{self.arch}-{self.python}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineLine:
    """One accepted (test, metric). Timings also say on which machine class, source tree and test code.

    A counter that depends on more than the code says on what as its ``machine``. ``noise`` is the
    relative spread of the rounds at acceptance, ``text`` the canonical value behind a digest,
    ``dependencies`` the versions it was accepted with.
    """

    test: str
    metric: Metric
    value: float | str
    noise: float | None = None
    machine: str | None = None
    tree: str | None = None
    code: str | None = None
    text: str | None = None
    dependencies: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """What one line is unique by."""
        return (self.test, self.metric.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One decided (test, metric).

    ``change`` is (measured - accepted) / |accepted| with its interval ``change_low``..``change_high``;
    ``detectable`` the smallest change that could have been seen, ``threshold`` the allowed one.
    ``note`` is one line for the table, ``detail`` the lines of a failure report. A follower takes its
    verdict from another clock of the same test.
    """

    test: str
    metric: str
    verdict: Verdict
    unit: str = "1"
    accepted: float | str | None = None
    measured: float | str | None = None
    change: float | None = None
    change_low: float | None = None
    change_high: float | None = None
    detectable: float | None = None
    threshold: float | None = None
    pairs: int = 0
    is_follower: bool = False
    note: str = ""
    detail: tuple[str, ...] = ()
    evidence: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Everything measured and decided in one session: the one exchange format."""

    environment: Environment
    tests: tuple[TestRecord, ...] = ()
    verdicts: tuple[Row, ...] = ()
    settings: Mapping[str, Json] = field(default_factory=dict)
