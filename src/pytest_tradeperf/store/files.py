"""Files that appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def replace_files(texts: Mapping[Path, str]) -> None:
    """Give every path its new text (UTF-8, lines end in LF); raises OSError.

    All are written beside their places and flushed to disk before the first is renamed, so a full
    disk or a folder that cannot be written leaves every file as it was.
    """
    staged: dict[Path, Path] = {}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
            staged[path] = Path(name)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            staged[path].chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        for path, temporary in staged.items():
            temporary.replace(path)
    finally:
        for temporary in staged.values():
            with contextlib.suppress(OSError):
                temporary.unlink()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
