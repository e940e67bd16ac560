"""The committed baseline folder: one JSON line per (test, metric), sorted, so that git can merge it.

``<platform>-<arch>-<python>.jsonl`` holds what depends on where it was measured, ``any.jsonl`` what is
the same everywhere (digests). The first line of a file is its format and the dependency versions it was
accepted with; a line carries only those that differ from it.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from pytest_tradeperf.errors import BaselineError
from pytest_tradeperf.model import BaselineLine, Better, Json, Kind, Metric

FORMAT: Final = 1
PORTABLE: Final = "any.jsonl"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What is accepted for one environment: lines by (test, metric)."""

    folder: Path
    key: str
    lines: Mapping[tuple[str, str], BaselineLine] = field(default_factory=dict)
    exists: bool = False
    others: tuple[str, ...] = ()
    heads: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file of this environment."""
        return self.folder / f"{self.key}.jsonl"

    def of(self, test: str) -> dict[str, BaselineLine]:
        """Return the lines of one test by metric name."""
        return {metric: line for (name, metric), line in self.lines.items() if name == test}


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
            heads[name], found = _read(folder / name)
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

    A file appears whole or not at all: written beside its place, flushed to disk, renamed.

    Raises
    ------
    BaselineError
        When the folder or a file cannot be written; what was stored is untouched then.
    """
    split: dict[str, list[BaselineLine]] = {PORTABLE: [], f"{baseline.key}.jsonl": []}
    for line in lines:
        split[PORTABLE if line.metric.portable else f"{baseline.key}.jsonl"].append(line)
    written = []
    try:
        baseline.folder.mkdir(parents=True, exist_ok=True)
        for name, content in split.items():
            path = baseline.folder / name
            text = _render(content, baseline.heads.get(name, {}))
            if path.exists():
                if path.read_text(encoding="utf-8") == text:
                    continue
            elif not content:
                continue
            _replace(path, text)
            written.append(path)
    except OSError as error:
        raise BaselineError(
            f"cannot write {error.filename or baseline.folder}: {error.strerror}; what was stored is "
            "untouched: make the folder writable or change perf_baselines"
        ) from error
    return written


def _render(lines: Iterable[BaselineLine], head: Mapping[str, str]) -> str:
    ordered = sorted(lines, key=lambda line: line.key)
    shared = _shared_dependencies(ordered, head)
    first: dict[str, Json] = {"tradeperf": FORMAT}
    if shared:
        first["dependencies"] = shared
    return "".join(f"{_dump(entry)}\n" for entry in (first, *(_as_json(line, shared) for line in ordered)))


def _shared_dependencies(lines: list[BaselineLine], head: Mapping[str, str]) -> dict[str, str]:
    """Return the versions for the first line: what all lines agree on, else what it said before.

    So accepting a few tests with new versions leaves the text of the other lines as it was.
    """
    versions: dict[str, set[str]] = {}
    for line in lines:
        for name, version in line.dependencies.items():
            versions.setdefault(name, set()).add(version)
    return {
        name: next(iter(found)) if len(found) == 1 else head.get(name, max(found))
        for name, found in sorted(versions.items())
    }


def _as_json(line: BaselineLine, shared: Mapping[str, str]) -> dict[str, Json]:
    metric = line.metric
    entry: dict[str, Json] = {"test": line.test, "metric": metric.name, "value": line.value}
    entry |= {"unit": metric.unit, "kind": metric.kind, "better": metric.better}
    optional = {
        "relative": metric.relative or None,
        "absolute": metric.absolute or None,
        "noise": line.noise,
        "machine": line.machine,
        "tree": line.tree,
        "text": line.text,
        "with": {n: v for n, v in line.dependencies.items() if shared.get(n) != v} or None,
    }
    return entry | {name: value for name, value in optional.items() if value is not None}


def _dump(entry: dict[str, Json]) -> str:
    text = json.dumps(entry, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, from a file name that is not valid text
        return json.dumps(entry)
    return text


def _replace(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _read(path: Path) -> tuple[dict[str, str], dict[tuple[str, str], BaselineLine]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BaselineError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BaselineError(f"{path} is not UTF-8 text (byte {error.start}): {_RESTORE}") from error
    rows = text.split("\n")
    shared = _head(path, rows[0])
    if rows[-1]:
        raise BaselineError(
            f"{path}:{len(rows)}: the file is truncated (its last line has no end): {_RESTORE}"
        )
    lines: dict[tuple[str, str], BaselineLine] = {}
    seen: dict[tuple[str, str], int] = {}
    for number, row in enumerate(rows[1:-1], 2):
        line = _line(f"{path}:{number}", row, shared)
        if line.key in seen:
            raise BaselineError(
                f"{path}: lines {seen[line.key]} and {number} are both {line.metric.name!r} "
                f"of {line.test!r}: keep one of them"
            )
        lines[line.key], seen[line.key] = line, number
    return shared, lines


_RESTORE: Final = "restore it from git, or delete it and accept anew with --perf-update"


def _head(path: Path, row: str) -> dict[str, str]:
    entry = _object(f"{path}:1", row)
    version = entry.get("tradeperf")
    if not isinstance(version, int):
        raise BaselineError(f"{path}:1: not a baseline file (no 'tradeperf' format number): {_RESTORE}")
    if version > FORMAT:
        raise BaselineError(
            f"{path}: format {version} was written by a newer pytest-tradeperf (this one reads {FORMAT}): "
            "upgrade pytest-tradeperf"
        )
    dependencies = entry.get("dependencies", {})
    if not isinstance(dependencies, dict):
        raise BaselineError(f"{path}:1: 'dependencies' must map names to versions: {_RESTORE}")
    return {str(name): str(v) for name, v in dependencies.items()}


def _line(where: str, row: str, shared: Mapping[str, str]) -> BaselineLine:
    entry = _object(where, row)
    try:
        metric = Metric(
            name=_typed(entry, "metric", str),
            kind=Kind(entry["kind"]),
            unit=_typed(entry, "unit", str),
            better=Better(entry["better"]),
            relative=float(entry.get("relative", 0.0)),
            absolute=float(entry.get("absolute", 0.0)),
            portable=where.rsplit(":", 1)[0].endswith(PORTABLE),
        )
        value = entry["value"]
        if isinstance(value, bool) or not isinstance(
            value, str if metric.kind is Kind.DIGEST else int | float
        ):
            raise TypeError(f"value {value!r} does not fit a {metric.kind}")  # noqa: TRY301 - one translation
        return BaselineLine(
            test=_typed(entry, "test", str),
            metric=metric,
            value=value,
            noise=entry.get("noise"),
            machine=entry.get("machine"),
            tree=entry.get("tree"),
            text=entry.get("text"),
            dependencies={**shared, **entry.get("with", {})},
        )
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise BaselineError(f"{where}: {problem}: {_RESTORE}") from error


def _typed(entry: Mapping[str, Any], name: str, kind: type[_T]) -> _T:
    value = entry[name]
    if not isinstance(value, kind):
        raise TypeError(f"{name} {value!r} is not {kind.__name__}")
    return value


def _object(where: str, row: str) -> dict[str, Any]:
    if row.startswith(("<<<<<<<", "=======", ">>>>>>>")):
        raise BaselineError(f"{where}: a merge conflict is not resolved: keep one side, or --perf-update")
    try:
        entry = json.loads(row, parse_constant=_refuse)
    except ValueError as error:
        raise BaselineError(f"{where}: not a JSON line ({error}): {_RESTORE}") from error
    if not isinstance(entry, dict):
        raise BaselineError(f"{where}: a JSON object was expected, not {row[:40]!r}: {_RESTORE}")
    return entry


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number here")
