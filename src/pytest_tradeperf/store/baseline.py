"""The committed baseline folder: one JSON line per (test, metric), sorted, so that git can merge it.

``<platform>-<arch>-<python>.jsonl`` holds what depends on where it was measured, ``any.jsonl`` what is
the same everywhere (digests). The first line of a file is its format and the dependency versions it was
accepted with; a line carries only those that differ from it (null for one it does not have).
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pytest_tradeperf.errors import BaselineError
from pytest_tradeperf.model import BaselineLine
from pytest_tradeperf.store.files import replace_files
from pytest_tradeperf.store.lines import RESTORE, parse, render

PORTABLE: Final = "any.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What is accepted for one environment: lines by (test, metric)."""

    folder: Path
    key: str
    lines: Mapping[tuple[str, str], BaselineLine] = field(default_factory=dict)
    exists: bool = False
    others: tuple[str, ...] = ()
    heads: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _by_test: dict[str, dict[str, BaselineLine]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        for (test, metric), line in self.lines.items():
            self._by_test.setdefault(test, {})[metric] = line

    @property
    def path(self) -> Path:
        """The file of this environment."""
        return self.folder / f"{self.key}.jsonl"

    def of(self, test: str) -> dict[str, BaselineLine]:
        """Return the lines of one test by metric name."""
        return dict(self._by_test.get(test, {}))


def load(folder: Path, key: str) -> Baseline:
    """Return what ``folder`` holds for the environment ``key``; an absent folder is empty.

    Raises
    ------
    BaselineError
        For a folder that is a file, a file that cannot be read, is truncated, comes from a newer
        version, holds merge conflict marks or two lines for one key.
    """
    try:
        if not folder.exists():
            return Baseline(folder=folder, key=key)
        if not folder.is_dir():
            raise BaselineError(
                f"{folder} is a file, not a folder: remove it or set perf_baselines elsewhere"
            )
        names = sorted(p.name for p in folder.glob("*.jsonl"))
    except OSError as error:
        raise BaselineError(f"cannot read the folder {folder}: {error.strerror}") from error
    lines: dict[tuple[str, str], BaselineLine] = {}
    heads: dict[str, dict[str, str]] = {}
    own = f"{key}.jsonl"
    for name in (PORTABLE, own):
        if name in names:
            heads[name], found = _read(folder / name, portable=name == PORTABLE)
            lines |= found
    others = tuple(n for n in names if n not in (own, PORTABLE))
    return Baseline(folder=folder, key=key, lines=lines, exists=own in names, others=others, heads=heads)


def check_writable(folder: Path) -> None:
    """Raise BaselineError unless files can be written into ``folder``, before hours are measured."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise BaselineError(
            f"cannot write into {folder}: {error.strerror}: make it writable or change perf_baselines"
        ) from error


def save(baseline: Baseline, lines: Iterable[BaselineLine]) -> list[Path]:
    """Write ``lines`` as the new content of the two files and return those that changed.

    Both appear whole or not at all. A line that is as it was loaded keeps its bytes.

    Raises
    ------
    BaselineError
        When the folder or a file cannot be written; what was stored is untouched then.
    """
    split: dict[str, list[BaselineLine]] = {PORTABLE: [], f"{baseline.key}.jsonl": []}
    for line in lines:
        split[PORTABLE if line.metric.portable else f"{baseline.key}.jsonl"].append(line)
    texts: dict[Path, str] = {}
    try:
        baseline.folder.mkdir(parents=True, exist_ok=True)
        for name, content in split.items():
            path = baseline.folder / name
            text = render(content, baseline.lines, baseline.heads.get(name, {}))
            if _stored_bytes(path) != text.encode() and (content or path.exists()):
                texts[path] = text
        replace_files(texts)
    except OSError as error:
        raise BaselineError(
            f"cannot write {error.filename or baseline.folder}: {error.strerror}; what was stored is "
            "untouched: make the folder writable or change perf_baselines"
        ) from error
    return list(texts)


def _stored_bytes(path: Path) -> bytes | None:
    """Return what ``path`` holds, but for line ends that git converted; None when it is absent."""
    return path.read_bytes().replace(b"\r\n", b"\n") if path.exists() else None


def _read(path: Path, *, portable: bool) -> tuple[dict[str, str], dict[tuple[str, str], BaselineLine]]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors add a byte order mark
    except OSError as error:
        raise BaselineError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BaselineError(f"{path} is not UTF-8 text (byte {error.start}): {RESTORE}") from error
    return parse(path, text, portable=portable)
