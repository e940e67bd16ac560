"""The folder of one confirmation outside the project: the accepted code, compiled code, output of the sides.

Its name carries the process that made it, so that the next confirmation can sweep away what a
killed one left behind.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"tradeperf-pairs-(\d+)-(\d+)-\w+")
_LONGEST_NAME: Final = 200


@contextmanager
def session_folder() -> Iterator[Path]:
    """Give a new private folder, removed with all its content whatever happens."""
    parent = Path(tempfile.gettempdir()).resolve()
    sweep(parent)
    pid = os.getpid()
    folder = Path(tempfile.mkdtemp(prefix=f"tradeperf-pairs-{pid}-{_started(pid)}-", dir=parent))
    try:
        yield folder
    finally:
        _remove(folder)


def place_as_deep_as(root: Path, folder: Path) -> Path:
    """Return a path in ``folder``, if that lets it, with as many parts as ``root`` and as long.

    Both sides import through a link, and code that resolves ``__file__`` looks at every part.
    """
    between = max(len(root.parts) - len(folder.parts) - 1, 0)
    length = min(len(str(root)) - len(str(folder)) - 2 * between - 1, _LONGEST_NAME)
    return folder.joinpath(*"a" * between, "accepted".ljust(length, "_")[: max(length, 1)])


def sweep(parent: Path) -> list[Path]:
    """Remove and return the folders of this user in ``parent`` whose process is gone."""
    removed = []
    for folder in parent.glob("tradeperf-pairs-*"):
        found = _NAME.fullmatch(folder.name)
        try:
            is_mine = folder.stat().st_uid == os.getuid()
        except OSError:
            continue
        if found and is_mine and _started(int(found[1])) != int(found[2]):
            _remove(folder)
            removed.append(folder)
    return removed


def _remove(folder: Path) -> None:
    # What perf_prepare built may hold read-only folders.
    for path, _, _ in os.walk(folder):
        if not Path(path).is_symlink():
            Path(path).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _started(pid: int) -> int:
    """Return when a process started, in hundredths of a second or 0; -1 for one that is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _started_elsewhere(pid)
    return int(stat.rpartition(")")[2].split()[19])  # proc(5): starttime, the 20th after the name


def _started_elsewhere(pid: int) -> int:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return -1
    except PermissionError:
        return 0
    return -1 if Path("/proc/self/stat").exists() else 0
