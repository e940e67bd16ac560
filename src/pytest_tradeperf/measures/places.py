"""Places in code as people name them: ``feeds/io.py:12 in load``, in their own code where there is any."""

import os
import sysconfig
from collections.abc import Iterable
from pathlib import Path


class Places:
    """Tells the user's own code from libraries and writes places without machine paths."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root}{os.sep}"
        paths = sysconfig.get_paths()
        self._stdlib = tuple(dict.fromkeys(f"{paths[name]}{os.sep}" for name in ("stdlib", "platstdlib")))
        package = Path(__file__).parent.parent
        self._ours = tuple(f"{package / name}{os.sep}" for name in ("measures", "plugin"))

    def of(self, stack: Iterable[tuple[str, str, int]]) -> str:
        """Return the innermost frame of the user's code, else the innermost of all.

        ``stack`` holds (function, file, line), innermost first.
        """
        innermost = None
        for function, file, line in stack:
            if file.startswith((*self._ours, "<frozen")):
                continue
            innermost = innermost or (function, file, line)
            if not file.startswith(self._stdlib) and _installed(file) is None:
                return self._named(function, file, line)
        return self._named(*innermost) if innermost else "outside Python code"

    def _named(self, function: str, file: str, line: int) -> str:
        short = _installed(file)
        if short is None:
            prefix = next((p for p in (self._root, *self._stdlib) if file.startswith(p)), "")
            short = file.removeprefix(prefix)
        return f"{short}:{line} in {function}"


def _installed(file: str) -> str | None:
    """Return the path inside the folder of installed packages, or None for a file that is not in one."""
    for folder in ("site-packages", "dist-packages"):
        _, found, tail = file.rpartition(f"{os.sep}{folder}{os.sep}")
        if found:
            return tail
    return None
