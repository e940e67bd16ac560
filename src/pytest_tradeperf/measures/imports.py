"""What importing a package costs, each module in an interpreter of its own.

The set of modules loaded is exact and the memory retained nearly so; times are the minimum of several
processes and still only rough.
"""

import json
import os
import pkgutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures.import_tree import Node, belongs, chain, pulled_by, read_tree

FAST_NS: Final = 100_000_000
SLOW_NS: Final = 500_000_000
HEAVY_NS: Final = 20_000_000
_WAITS: Final = 4
TIMEOUT_S: Final = 120.0
REPEATS: Final = 3


class Band(StrEnum):
    """How long an import takes: under 100 ms, under 500 ms, or longer; or that it failed."""

    FAST = "fast"
    ACCEPTABLE = "acceptable"
    SLOW = "slow"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleImport:
    """One module imported in a fresh interpreter.

    ``loaded`` holds every module that appeared with the file it came from (None for built-in ones),
    ``memory_bytes`` the anonymous memory retained (None where the system does not tell), ``error`` the
    exception as text.
    """

    name: str
    error: str | None
    wall_ns: int
    cpu_ns: int
    memory_bytes: int | None
    loaded: dict[str, str | None]
    tree: tuple[Node, ...] = ()

    @property
    def band(self) -> Band:
        """How long it took, in words."""
        if self.error is not None:
            return Band.FAILED
        return (
            Band.FAST if self.cost_ns < FAST_NS else Band.ACCEPTABLE if self.cost_ns < SLOW_NS else Band.SLOW
        )

    @property
    def cost_ns(self) -> int:
        """CPU time, which a busy machine does not stretch; wall time for an import that mostly waits."""
        return self.cpu_ns if self.wall_ns < _WAITS * self.cpu_ns else self.wall_ns

    def outside(self) -> tuple[str, ...]:
        """Return the top-level names loaded from outside the module's own package, private ones left out."""
        own = self.name.partition(".")[0]
        tops = {name.partition(".")[0] for name in self.loaded}
        return tuple(sorted(name for name in tops if name != own and not name.startswith("_")))

    def forbidden(self, names: Iterable[str]) -> list[str]:
        """Return one line for each of ``names`` that was loaded, with the imports that led to it."""
        nodes = {node.name: node for node in self.tree}
        lines = []
        for name in names:
            loaded = sorted((m for m in self.loaded if belongs(m, name)), key=len)
            if loaded:
                first = next((node.name for node in self.tree if belongs(node.name, name)), loaded[0])
                way = " -> ".join(_brief(chain(nodes, name if name in nodes else first)))
                lines.append(f"{name} is imported ({way}; {len(loaded)} modules)")
        return lines


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """A package: the import of itself, and of its submodules where these were asked for."""

    package: str
    itself: ModuleImport
    submodules: tuple[ModuleImport, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[ModuleImport, ...]:
        """The package first, then its submodules."""
        return (self.itself, *self.submodules)

    @property
    def failures(self) -> tuple[ModuleImport, ...]:
        """What could not be imported."""
        return tuple(module for module in self.all if module.error is not None)

    @property
    def success_rate(self) -> float:
        """Share of modules that could be imported."""
        return 1 - len(self.failures) / len(self.all)

    @cached_property
    def third_party_share(self) -> float:
        """Share of the package's own import time that installed packages of others took."""
        total = sum(node.self_ns for node in self.itself.tree)
        foreign = sum(
            node.self_ns
            for node in self.itself.tree
            if not belongs(node.name, self.package) and _is_installed(self.itself.loaded.get(node.name))
        )
        return foreign / total if total else 0.0

    @cached_property
    def lazy_candidates(self) -> tuple[tuple[str, str, int], ...]:
        """What the package imports from outside and pays at least 20 ms for: (module, importer, ns)."""
        best: dict[str, tuple[str, str, int]] = {}
        for module in self.all:
            for entry in pulled_by(module.tree, self.package.partition(".")[0], HEAVY_NS):
                best[entry[0]] = max(best.get(entry[0], entry), entry, key=lambda e: e[2])
        return tuple(sorted(best.values(), key=lambda entry: -entry[2]))


Runner = Callable[[Sequence[str], float], "subprocess.CompletedProcess[str]"]


def import_report(
    package: str,
    *,
    submodules: bool = True,
    repeats: int = REPEATS,
    jobs: int | None = None,
    path: Sequence[str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> ImportReport:
    """Return what importing ``package`` costs.

    Parameters
    ----------
    package
        A dotted name that this interpreter can find.
    submodules
        Whether every module below it is imported too, once each, in a process of its own.
    repeats
        Processes for the package itself; the fastest counts.
    jobs
        Processes at a time for the submodules (default: one a CPU).
    path
        ``sys.path`` of the fresh interpreters (default: of this one).

    Raises
    ------
    MeasureError
        When there is no such package or module.
    """
    place = [entry or str(Path.cwd()) for entry in (sys.path if path is None else path)]
    names, skipped = _submodules(package, place)
    runs = [
        import_once(package, path=place, timeout_s=timeout_s, tree=i == 0) for i in range(max(1, repeats))
    ]
    itself = _fastest(runs)
    found: tuple[ModuleImport, ...] = ()
    if submodules and names:
        with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
            found = tuple(pool.map(lambda n: import_once(n, path=place, timeout_s=timeout_s), names))
    return ImportReport(package=package, itself=itself, submodules=found, skipped=tuple(skipped))


def import_once(
    name: str, *, path: Sequence[str], timeout_s: float = TIMEOUT_S, tree: bool = True
) -> ModuleImport:
    """Import ``name`` in a fresh interpreter and return what that cost; a crash is its error."""
    probe = Path(__file__).with_name("import_probe.py")
    with tempfile.TemporaryDirectory(prefix="tradeperf-") as folder:
        answer = Path(folder) / "answer.json"
        flags = ["-X", "importtime"] if tree else []
        command = [sys.executable, *flags, str(probe), name, str(answer), "\n".join(path)]
        error, stderr = None, ""
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
                env={**os.environ, "PYTHONHASHSEED": "0"},
            )
            stderr = done.stderr
            if not answer.exists():
                error = f"the interpreter ended with code {done.returncode} before the import was done"
        except subprocess.TimeoutExpired:
            error = f"took longer than {timeout_s:g} s"
        said: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8")) if error is None else {}
    return ModuleImport(
        name=name,
        error=error or said["error"],
        wall_ns=said.get("wall_ns", 0),
        cpu_ns=said.get("cpu_ns", 0),
        memory_bytes=said.get("memory_bytes"),
        loaded=said.get("modules", {}),
        tree=read_tree(stderr) if tree else (),
    )


def _fastest(runs: Sequence[ModuleImport]) -> ModuleImport:
    """Return the first run, which has the tree, with the smallest of each figure."""
    first = next((run for run in runs if run.error is not None), runs[0])
    memories = [run.memory_bytes for run in runs if run.memory_bytes is not None]
    return ModuleImport(
        name=first.name,
        error=first.error,
        wall_ns=min(run.wall_ns for run in runs),
        cpu_ns=min(run.cpu_ns for run in runs),
        memory_bytes=min(memories) if memories else None,
        loaded=first.loaded,
        tree=runs[0].tree,
    )


def _submodules(package: str, path: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the dotted names below ``package`` and those left out because importing them runs a program.

    Looks at files only: nothing of the package is imported into this process.
    """
    spec = _spec(package, path)
    folders = [(package, list(spec.submodule_search_locations or ()))]
    names: list[str] = []
    skipped: list[str] = []
    while folders:
        prefix, places = folders.pop()
        for found in pkgutil.iter_modules(places):
            name = f"{prefix}.{found.name}"
            (skipped if found.name == "__main__" else names).append(name)
            if found.ispkg:
                folders.append((name, [str(Path(place) / found.name) for place in places]))
    return sorted(names), sorted(skipped)


def _spec(package: str, path: Sequence[str]) -> ModuleSpec:
    """Return where ``package`` is; raises MeasureError when it is nowhere."""
    from importlib.machinery import PathFinder

    spec, places = None, list(path)
    so_far = ""
    for part in package.split("."):
        so_far = f"{so_far}.{part}" if so_far else part
        spec = PathFinder.find_spec(so_far, places)
        if spec is None and "." not in so_far:  # built in, or found by an editable install's own finder
            spec = find_spec(so_far) if so_far.isidentifier() else None
        if spec is None:
            raise MeasureError(
                f"there is no module {package!r} to import ({so_far!r} is not found): check the name, "
                "install it, or run from the folder that holds it"
            )
        places = list(spec.submodule_search_locations or ())
    if spec is None:
        raise MeasureError(f"{package!r} is not the dotted name of a module")
    return spec


def _is_installed(origin: str | None) -> bool:
    return origin is not None and any(
        part in ("site-packages", "dist-packages") for part in Path(origin).parts
    )


def _brief(names: Sequence[str]) -> Sequence[str]:
    return names if len(names) <= 6 else (*names[:3], "...", *names[-2:])  # noqa: PLR2004 - fits a line


def difference(old: Iterable[str], new: Iterable[str], counts: Counter[str] | None = None) -> str:
    """Return "+pandas (430 modules), -json" for two module sets, "" when they are equal."""
    before, after = set(old), set(new)
    counts = counts or Counter()
    added = [f"+{n}" + (f" ({counts[n]} modules)" if counts[n] > 1 else "") for n in sorted(after - before)]
    return ", ".join([*added, *(f"-{name}" for name in sorted(before - after))])
