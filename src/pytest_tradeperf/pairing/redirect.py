"""An import finder that gives a process one side's code: every module of ``perf_source`` from one folder.

Whatever would be found below a source in rootdir (through ``sys.path``, ``pythonpath``, a ``.pth``
file or the finder of an editable install) is looked up again below the folder of that side. A module
that the side does not have is an ImportError there, never the other side's module. Test files,
conftests and overlays are rootdir's on both sides. Both sides use this finder, each with a
link as its folder, so that both import in the same way and at the same cost.
"""

import hashlib
import importlib.util
import marshal
import os
import sys
import sysconfig
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from pytest_tradeperf.pairing.shared import SharedFiles


class CachingLoader(SourceFileLoader):
    """Loads a module through a cache of compiled code outside the source folder.

    One side would else run byte code from ``__pycache__`` and the other freshly compiled code, whose
    objects lie elsewhere in memory.
    """

    def __init__(self, fullname: str, path: str, cache: Path) -> None:
        super().__init__(fullname, path)
        self._cache = cache

    def get_code(self, fullname: str) -> CodeType:
        """Return the module's code, compiled once and read back from the cache, also the first time."""
        path = self.get_filename(fullname)
        source = self.get_data(path)
        key = hashlib.sha256(os.fsencode(path) + b"\0" + source).hexdigest()
        cached = self._cache / f"{key}.{sys.implementation.cache_tag}.code"
        with suppress(OSError, ValueError, EOFError, TypeError):
            return _as_code(marshal.loads(cached.read_bytes()))  # noqa: S302 # nosec B302 - our own file, private folder
        data = marshal.dumps(self.source_to_code(source, path))
        with suppress(OSError):
            scratch = cached.with_suffix(f".{os.getpid()}")
            scratch.write_bytes(data)
            scratch.replace(cached)
        return _as_code(marshal.loads(data))  # noqa: S302 # nosec B302


def _as_code(value: object) -> CodeType:
    if not isinstance(value, CodeType):
        raise TypeError("not compiled code")
    return value


class Redirect:
    """The finder of one side.

    Parameters
    ----------
    head
        Rootdir: where modules are found today.
    side
        The folder this side takes them from; a link, on the present side to ``head``, whose path is as
        long as the other's, or the two would allocate differently and lie differently in memory.
    sources
        ``perf_source``, relative to ``head``.
    shared
        The files that are rootdir's on both sides.
    cache
        Folder for compiled code.
    """

    def __init__(
        self, *, head: Path, side: Path, sources: Sequence[str], shared: SharedFiles, cache: Path
    ) -> None:
        self._head, self._side = Path(os.path.realpath(head)), Path(os.path.realpath(side))
        self._link = side.absolute()
        self._sources = tuple(sources)
        self._shared_files = shared
        self._cache = cache
        self._busy = threading.local()
        self._installed = installed_folders()
        self._names = defined_names(self._head, self._sources)
        self.absent: dict[str, str] = {}

    def install(self) -> None:
        """Put this finder before all others."""
        self.keep_first()

    def keep_first(self) -> None:
        """Move this finder to the front again, before what was put there since."""
        with suppress(ValueError):
            sys.meta_path.remove(self)
        sys.meta_path.insert(0, self)

    # -- what was loaded

    def is_own(self, file: str) -> bool:
        """Return whether ``file`` is code of this side's sources, not a test."""
        inner = self._source_path(os.path.realpath(file), self._side)
        return inner is not None and not self._is_shared(inner)

    def loaded(self) -> tuple[list[str], list[str]]:
        """Return the modules loaded from this side's sources, and those wrongly from rootdir's."""
        right: list[str] = []
        wrong: list[str] = []
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if not isinstance(file, str):
                continue
            path = os.path.realpath(file)
            for folder, names in ((self._side, right), (self._head, wrong)):
                inner = self._source_path(path, folder)
                if inner is not None:
                    if not self._is_shared(inner):
                        names.append(name)
                    break
        return sorted(right), sorted(wrong)

    # -- the import protocol

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where this side has the module; None for modules that are not the project's.

        Raises
        ------
        ModuleNotFoundError
            The module is below ``perf_source`` in rootdir, and this side does not have it.
        """
        busy: set[str] = self._busy.__dict__.setdefault("names", set())
        if name in busy:
            return None
        busy.add(name)
        try:
            return self._find(name, path, target)
        finally:
            busy.discard(name)

    def _find(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        spec = self._ask_others(name, path, target)
        if spec is None:
            return self._only_here(name, path)
        if spec.origin is None or not spec.has_location:
            return self._namespace(name, spec)
        origin = os.path.realpath(spec.origin)
        here = self._source_path(origin, self._side)
        inner = here if here is not None else self._source_path(origin, self._head)
        if inner is None and name in self._names and origin.startswith(self._installed):
            inner = self._names[name]  # an installed copy of the project stands for its source
        if inner is None:
            if self._source_path(spec.origin, self._link) is None:  # else a link that leads outside
                self._refuse_stray(name, path, origin)
            return spec
        if self._is_shared(inner):
            return self._shared(name, spec, inner)
        is_placed = here is not None and spec.origin.startswith(f"{self._link}{os.sep}")
        found = spec if is_placed else self._same_place(name, spec, inner)
        if found is None:
            self.absent[name] = inner
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return self._cached(name, found)

    def _ask_others(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in list(sys.meta_path):
            find: Any = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                return spec
        return None

    def _same_place(self, name: str, spec: ModuleSpec, inner: str) -> ModuleSpec | None:
        """Find the module on this side beside where rootdir has it, as a file or as a folder."""
        place = self._link / inner
        folder = place.parent.parent if spec.submodule_search_locations is not None else place.parent
        found = PathFinder.find_spec(name, [str(folder)])
        if found is not None and found.origin is not None:
            return found
        if not place.is_file():  # also for a package whose folder has another name than it
            return None
        locations = [str(place.parent)] if spec.submodule_search_locations is not None else None
        return importlib.util.spec_from_file_location(name, place, submodule_search_locations=locations)

    def _only_here(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """Find a module that rootdir no longer has, or a test folder that this side does not have yet."""
        if path is None:
            if self._side == self._head:
                return None
            folders = [folder for s in self._sources for folder in (self._link / s, (self._link / s).parent)]
            found = PathFinder.find_spec(name, [str(f) for f in folders if f.is_dir()])
            inner = (
                self._source_path(os.path.realpath(found.origin), self._side)
                if found and found.origin
                else None
            )
            return self._cached(name, found) if found is not None and inner is not None else None
        for folder in path:
            inner = self._source_path(os.path.realpath(folder), self._side)
            if inner is None:
                continue
            found = PathFinder.find_spec(name, [str(self._head / inner)])
            theirs = (
                self._source_path(os.path.realpath(found.origin), self._head)
                if found and found.origin
                else None
            )
            if theirs is None:
                continue
            if self._is_shared(theirs):
                return found
            self.absent[name] = theirs
        return None

    def _namespace(self, name: str, spec: ModuleSpec) -> ModuleSpec:
        """Return a namespace package whose portions below the sources are this side's."""
        if spec.submodule_search_locations is None:  # built in
            return spec
        portions = []
        for portion in list(spec.submodule_search_locations):
            real = os.path.realpath(portion)
            inner = self._source_path(real, self._head) or self._source_path(real, self._side)
            if inner is None or self._is_shared(f"{inner}/"):
                portions.append(portion)
            elif (self._link / inner).is_dir():
                portions.append(str(self._link / inner))
        if portions == list(spec.submodule_search_locations):
            return spec
        if not portions:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        moved = ModuleSpec(name, None, is_package=True)
        moved.submodule_search_locations = portions
        return moved

    def _shared(self, name: str, spec: ModuleSpec, inner: str) -> ModuleSpec | None:
        """Return rootdir's own module for a test file found on the other side."""
        if self._source_path(os.path.realpath(spec.origin or ""), self._head) is not None:
            return spec
        place = self._head / inner
        folder = place.parent.parent if spec.submodule_search_locations is not None else place.parent
        return PathFinder.find_spec(name, [str(folder)])

    def _cached(self, name: str, spec: ModuleSpec) -> ModuleSpec:
        if spec.origin is None or isinstance(spec.loader, ExtensionFileLoader | CachingLoader):
            return spec
        if not spec.origin.endswith(".py"):
            return spec
        locations = spec.submodule_search_locations
        cached = importlib.util.spec_from_file_location(
            name,
            spec.origin,
            loader=CachingLoader(name, spec.origin, self._cache),
            submodule_search_locations=None if locations is None else list(locations),
        )
        return spec if cached is None else cached

    def _refuse_stray(self, name: str, path: Sequence[str] | None, origin: str) -> None:
        """Refuse a compiled module that an editable install takes from a build folder of rootdir."""
        is_ours = any(self._source_path(os.path.realpath(p), self._side) is not None for p in path or ())
        if is_ours and self._side != self._head and Path(origin).is_relative_to(self._head):
            self.absent[name] = os.path.relpath(origin, self._head)
            raise ModuleNotFoundError(
                f"No module named {name!r} in the base (rootdir has it at {self.absent[name]}): "
                "set perf_prepare to build it there",
                name=name,
            )

    # -- paths

    def _is_shared(self, inner: str) -> bool:
        """Return whether a path below the sources is rootdir's on both sides."""
        return inner in self._shared_files

    def _source_path(self, path: str | None, folder: Path) -> str | None:
        """Return ``path`` relative to ``folder`` when it lies at or below a source there."""
        prefix = f"{folder}{os.sep}"
        if path is None or not path.startswith(prefix):
            return None
        inner = path[len(prefix) :].replace(os.sep, "/")
        return inner if any(inner == s or inner.startswith(f"{s}/") for s in self._sources) else None


def installed_folders() -> tuple[str, ...]:
    """Return the folders of installed packages, each with a separator at its end."""
    return tuple(f"{os.path.realpath(sysconfig.get_path(p))}{os.sep}" for p in ("purelib", "platlib"))


def defined_names(root: Path, sources: Sequence[str]) -> dict[str, str]:
    """Return the file of each module that the sources define at their top, by dotted name."""
    found = {}
    for source in sources:
        place = root / source
        is_container = place.is_dir() and not (place / "__init__.py").is_file()
        for entry in sorted(place.iterdir()) if is_container else [place]:
            file = entry / "__init__.py" if entry.is_dir() else entry
            if file.suffix != ".py" or not file.is_file():
                continue
            parts, parent = [entry.stem], entry.parent
            while (parent / "__init__.py").is_file():
                parts.insert(0, parent.name)
                parent = parent.parent
            found[".".join(parts)] = file.relative_to(root).as_posix()
    return found
