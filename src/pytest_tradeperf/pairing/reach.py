"""What of the project a process has loaded: something of ``perf_source``, and what lies beside it."""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from pytest_tradeperf.pairing.redirect import defined_names, installed_folders
from pytest_tradeperf.pairing.shared import SharedFiles
from pytest_tradeperf.pairing.trees import NOT_SOURCE, is_tool_or_test

_OWN: Final = f"{Path(__file__).resolve().parents[1]}{os.sep}"
_NOT_CODE: Final = frozenset({"tests", "test", "site-packages", "dist-packages"})
"""Folders, at any depth, that hold tests or libraries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What the tests of a session loaded.

    Where nothing of the sources ``is_inside``, unchanged sources say nothing of the code under test.
    ``outside`` names modules of the project that no comparison sees, those inside a named one left out.
    """

    is_inside: bool = False
    outside: tuple[str, ...] = ()

    def __or__(self, other: "Reach") -> "Reach":
        """Return what two processes loaded together."""
        outside = tuple(sorted({*self.outside, *other.outside}))
        return Reach(is_inside=self.is_inside or other.is_inside, outside=outside)


def reach(
    modules: Mapping[str, object],
    *,
    root: Path,
    sources: Sequence[str],
    tests: Collection[str],
    tooling: Collection[str] = (),
    prefix: str = sys.prefix,
) -> Reach:
    """Return what of the project at ``root`` is among ``modules``.

    ``tests`` are the collected files relative to ``root``, ``tooling`` the modules that were loaded before
    any conftest. Neither tests, with the helpers beside them, nor libraries, nor an environment inside
    rootdir are outside, nor is the script that runs pytest. About 10 ms for a thousand modules.
    """
    top = f"{os.path.realpath(root)}{os.sep}"
    environment = f"{os.path.realpath(prefix)}{os.sep}"
    shared = SharedFiles(tests, sources=sources)
    beside = {
        folder
        for folder in (PurePosixPath(test).parent for test in tests)
        if not (root / folder / "__init__.py").is_file()  # a package that holds its own tests is code
    }
    names, installed = defined_names(root, sources), installed_folders()
    real: dict[str, str] = {}
    is_inside, outside = False, set[str]()
    for name, module in list(modules.items()):
        file = getattr(module, "__file__", None)
        if name == "__main__" or not isinstance(file, str):
            continue
        folder, name_in_it = os.path.split(file)
        if folder not in real:
            real[folder] = os.path.realpath(folder)
        path = os.path.join(real[folder], name_in_it)  # noqa: PTH118 - one of a thousand
        if path.startswith(installed):
            is_inside = is_inside or _has_prefix(name, names)  # an installed copy stands for its source
        elif path.startswith(top):
            path = os.path.realpath(path)  # a link may lead out of the sources
            inner = path.removeprefix(top).replace(os.sep, "/")
            if any(inner == source or inner.startswith(f"{source}/") for source in sources):
                is_inside = is_inside or inner not in shared
            elif not (
                name in tooling
                or path.startswith(_OWN)
                or (environment.startswith(top) and path.startswith(environment))
                or _is_beside_the_code(inner, beside)
            ):
                outside.add(name)
    outermost = {name for name in outside if not _has_prefix(name.rpartition(".")[0], outside)}
    return Reach(is_inside=is_inside, outside=tuple(sorted(outermost)))


def _has_prefix(name: str, names: Collection[str]) -> bool:
    """Return whether a module or a package around it is one of ``names``."""
    parts = name.split(".")
    return any(".".join(parts[:n]) in names for n in range(1, len(parts) + 1))


def _is_beside_the_code(inner: str, beside: Collection[PurePosixPath]) -> bool:
    """Return whether a file is of tests, tools or libraries by where it lies; ``beside`` holds tests."""
    place = PurePosixPath(inner)
    if place.suffix != ".py" or is_tool_or_test(place.name):
        return True
    folders = place.parent.parts
    if any(name in _NOT_CODE or name.startswith(".") for name in folders) or {*folders[:1]} & NOT_SOURCE:
        return True
    return place.parent in beside or any(folder in beside for folder in place.parent.parents if folder.parts)
