"""What the command line and the ini file say together, checked once before the first test."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from pytest_tradeperf.errors import SettingsError, UnitError
from pytest_tradeperf.units import parse_duration_ns, parse_fraction

CHILD_VARIABLE: Final = "PYTEST_TRADEPERF_CHILD"
"""Set for the processes a gate starts itself: the path their run record goes to."""

_T = TypeVar("_T")


class Mode(StrEnum):
    """What a session is for."""

    PLAIN = "plain"
    GATE = "gate"
    UPDATE = "update"
    AGAINST = "against"
    SELFTEST = "selftest"
    CHILD = "child"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of one session, each in the package's own unit."""

    mode: Mode
    root: Path
    baselines: Path
    sources: tuple[str, ...]
    threshold: float
    alpha: float
    time_ns: int
    overlay: tuple[str, ...] = ()
    prepare: str = ""
    against: str | None = None
    prune: bool = False
    strict: bool = False
    record: Path | None = None
    is_xdist_worker: bool = False
    is_xdist_controller: bool = False

    @property
    def is_careful(self) -> bool:
        """Whether values are kept, not only held against limits; the gate itself only takes a look."""
        return self.mode in (Mode.UPDATE, Mode.CHILD) or (self.mode is Mode.PLAIN and self.record is not None)

    @property
    def is_holding(self) -> bool:
        """Whether reports of measured tests wait for a judgement after the last test."""
        return self.mode in (Mode.GATE, Mode.AGAINST, Mode.SELFTEST)

    @property
    def has_answer(self) -> bool:
        """Whether something follows the tests: a judgement, an acceptance or a record."""
        return self.mode is not Mode.PLAIN or self.record is not None

    @property
    def keeps_values(self) -> bool:
        """Whether what is measured beside time is stored, judged against stored values or recorded.

        Pairs judge timings alone; beside them only limits are enforced.
        """
        return self.mode in (Mode.GATE, Mode.UPDATE) or self.record is not None


def read_settings(config: pytest.Config) -> Settings:
    """Return the settings of this session; raises SettingsError naming option, value and cure."""
    child = os.environ.get(CHILD_VARIABLE)
    flags = {name: _flag(config, name) for name in ("gate", "update", "prune", "selftest", "strict")}
    against = config.getoption("perf_against") or config.getini("perf_against") or None
    is_worker = hasattr(config, "workerinput")
    is_controller = not is_worker and config.getoption("dist", "no") != "no"
    mode = _mode(config, flags, against)
    if child:
        mode = Mode.CHILD
    elif mode is Mode.UPDATE and is_controller:
        raise SettingsError("--perf-update stores timings, which parallel workers disturb: run it with -n 0")
    elif mode is Mode.UPDATE and config.pluginmanager.hasplugin("_cov") and not config.getoption("no_cov"):
        raise SettingsError("--perf-update stores timings, which coverage tracing distorts: add --no-cov")
    return Settings(
        mode=mode,
        root=config.rootpath,
        baselines=config.rootpath / str(config.getini("perf_baselines")),
        sources=tuple(config.getini("perf_source") or ()),
        threshold=_parsed("perf_threshold", config.getini("perf_threshold"), parse_fraction),
        alpha=_alpha(config.getini("perf_alpha")),
        time_ns=_time(config),
        overlay=tuple(config.getini("perf_overlay") or ()),
        prepare=str(config.getini("perf_prepare")),
        against=against,
        prune=flags["prune"],
        strict=flags["strict"],
        record=Path(child) if child else _record(config),
        is_xdist_worker=is_worker,
        is_xdist_controller=is_controller,
    )


def _mode(config: pytest.Config, flags: dict[str, bool], against: str | None) -> Mode:
    """Return what the session is for; raises SettingsError where two purposes are asked for."""
    asked = {
        "--perf-gate": (Mode.GATE, flags["gate"], config.getoption("perf_gate")),
        "--perf-update": (Mode.UPDATE, flags["update"], config.getoption("perf_update")),
        "--perf-prune": (Mode.UPDATE, flags["prune"], config.getoption("perf_prune")),
        "--perf-against": (Mode.AGAINST, against is not None, config.getoption("perf_against")),
        "--perf-selftest": (Mode.SELFTEST, flags["selftest"], config.getoption("perf_selftest")),
    }
    named = {name: mode for name, (mode, is_set, _) in asked.items() if is_set}
    given = {name: mode for name, (mode, _, is_given) in asked.items() if is_given}
    measuring = {Mode.AGAINST, Mode.SELFTEST}
    # Looking (against, selftest) may follow an ini file that gates; storing beside judging may not.
    chosen = given if measuring & set(given.values()) else named
    if len(set(chosen.values())) > 1:
        first, *_, last = chosen
        cure = "judge first, then accept" if Mode.UPDATE in chosen.values() else "ask for one of them"
        raise SettingsError(f"{first} and {last} contradict each other: {cure}")
    return next(iter(chosen.values()), Mode.PLAIN)


def _flag(config: pytest.Config, name: str) -> bool:
    return bool(config.getoption(f"perf_{name}") or config.getini(f"perf_{name}"))


def _parsed(where: str, value: Any, parse: Callable[[object], _T]) -> _T:
    try:
        return parse(value)
    except UnitError as error:
        raise SettingsError(f"{where}: {error}") from error


def _alpha(value: Any) -> float:
    alpha = _parsed("perf_alpha", value, parse_fraction)
    if not 0 < alpha < 1:
        raise SettingsError(f"perf_alpha: {value!r} is no probability: write a percentage such as '1%'")
    return alpha


def _time(config: pytest.Config) -> int:
    given = config.getoption("perf_time")
    where, value = ("--perf-time", given) if given is not None else ("perf_time", config.getini("perf_time"))
    return _parsed(where, value, parse_duration_ns)


def _record(config: pytest.Config) -> Path | None:
    given = config.getoption("perf_report") or config.getini("perf_report")
    path = None
    for value in given:
        form, _, target = value.partition("=")
        if form != "json" or not target:
            raise SettingsError(f"--perf-report {value!r}: write json=PATH, for example json=perf.json")
        path = Path(config.invocation_params.dir) / target
    return path
