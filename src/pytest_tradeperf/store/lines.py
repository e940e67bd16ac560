"""The text of one baseline file: a first line with format and versions, then a JSON object a line."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pytest_tradeperf.errors import BaselineError
from pytest_tradeperf.model import BaselineLine, Better, Json, Kind, Metric

FORMAT: Final = 1

_ANEW: Final = "delete the file and accept anew with --perf-update"
RESTORE: Final = f"restore it from git, or {_ANEW}"

_LARGEST: Final = sys.float_info.max
_T = TypeVar("_T")


def render(
    lines: Iterable[BaselineLine],
    before: Mapping[tuple[str, str], BaselineLine],
    head: Mapping[str, str],
) -> str:
    """Return the file of ``lines``, sorted; those that are as ``before`` keep their bytes."""
    ordered = sorted(lines, key=lambda line: line.key)
    keeps_some = any(before.get(line.key) == line for line in ordered)
    shared = dict(head) if keeps_some else _shared_dependencies(ordered, head)
    first: dict[str, Json] = {"tradeperf": FORMAT}
    if shared:
        first["dependencies"] = shared
    return "".join(f"{_dump(entry)}\n" for entry in (first, *(_as_json(line, shared) for line in ordered)))


def _shared_dependencies(lines: list[BaselineLine], head: Mapping[str, str]) -> dict[str, str]:
    """Return the versions for the first line: of what every line has, the agreed one, else as before.

    Only asked where every line is new: a first line that changes would change the lines that stay.
    """
    versions: dict[str, set[str]] = {}
    for line in lines:
        for name, version in line.dependencies.items():
            versions.setdefault(name, set()).add(version)
    return {
        name: next(iter(found)) if len(found) == 1 else head.get(name, max(found))
        for name, found in sorted(versions.items())
        if all(name in line.dependencies for line in lines)
    }


def _as_json(line: BaselineLine, shared: Mapping[str, str]) -> dict[str, Json]:
    metric = line.metric
    entry: dict[str, Json] = {"test": line.test, "metric": metric.name, "value": line.value}
    entry |= {"unit": metric.unit, "kind": metric.kind, "better": metric.better}
    differing: dict[str, Json] = {n: v for n, v in line.dependencies.items() if shared.get(n) != v}
    differing |= dict.fromkeys(shared.keys() - line.dependencies.keys())
    optional = {
        "relative": metric.relative or None,
        "absolute": metric.absolute or None,
        "noise": line.noise,
        "machine": line.machine,
        "tree": line.tree,
        "code": line.code,
        "text": line.text,
        "with": dict(sorted(differing.items())) or None,
    }
    return entry | {name: value for name, value in optional.items() if value is not None}


def _dump(entry: dict[str, Json]) -> str:
    text = json.dumps(entry, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, from a file name that is not valid text
        return json.dumps(entry)
    return text


def parse(
    path: Path, text: str, *, portable: bool
) -> tuple[dict[str, str], dict[tuple[str, str], BaselineLine]]:
    """Return the versions of the first line and all lines by key; raises BaselineError by line number."""
    rows = text.split("\n")
    shared = _head(path, rows[0])
    if rows[-1]:
        raise BaselineError(
            f"{path}:{len(rows)}: the file is truncated (its last line has no end): {RESTORE}"
        )
    lines: dict[tuple[str, str], BaselineLine] = {}
    seen: dict[tuple[str, str], int] = {}
    for number, row in enumerate(rows[1:-1], 2):
        line = _line(f"{path}:{number}", row, shared, portable=portable)
        if line.key in seen:
            raise BaselineError(
                f"{path}: lines {seen[line.key]} and {number} are both {line.metric.name!r} "
                f"of {line.test!r}: keep one of them"
            )
        lines[line.key], seen[line.key] = line, number
    return shared, lines


def _head(path: Path, row: str) -> dict[str, str]:
    entry = _object(f"{path}:1", row)
    version = entry.get("tradeperf")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BaselineError(f"{path}:1: not a baseline file (no 'tradeperf' format number): {RESTORE}")
    if version > FORMAT:
        raise BaselineError(
            f"{path}: format {version} was written by a newer pytest-tradeperf (this one reads {FORMAT}): "
            "upgrade pytest-tradeperf"
        )
    dependencies = entry.get("dependencies", {})
    if not isinstance(dependencies, dict):
        raise BaselineError(f"{path}:1: 'dependencies' must map names to versions: {RESTORE}")
    try:
        return _versions(dependencies)
    except TypeError as error:
        raise BaselineError(f"{path}:1: {error}: {RESTORE}") from error


def _versions(entries: Mapping[str, Any]) -> dict[str, str]:
    """Return versions by name; raises TypeError for what no distribution can be called."""
    for name, version in entries.items():
        if not name.strip() or not isinstance(version, str):
            raise TypeError(f"dependency {_short(name)}: {_short(version)} is not a name with a version")
    return dict(entries)


def _line(where: str, row: str, shared: Mapping[str, str], *, portable: bool) -> BaselineLine:
    entry = _object(where, row)
    try:
        metric = Metric(
            name=_typed(entry, "metric", str),
            kind=Kind(entry["kind"]),
            unit=_typed(entry, "unit", str),
            better=Better(entry["better"]),
            relative=_number(entry.get("relative", 0.0), "relative"),
            absolute=_number(entry.get("absolute", 0.0), "absolute"),
            portable=portable,
        )
        is_digest = metric.kind is Kind.DIGEST
        with_ = {**shared, **_typed(entry, "with", dict, {})}
        noise = entry.get("noise")
        return BaselineLine(
            test=_typed(entry, "test", str),
            metric=metric,
            value=_typed(entry, "value", str) if is_digest else _number(entry["value"], "value"),
            noise=None if noise is None else _noise(noise),
            machine=_typed(entry, "machine", str, None),
            tree=_typed(entry, "tree", str, None),
            code=_typed(entry, "code", str, None),
            text=_typed(entry, "text", str, None),
            dependencies=_versions({name: v for name, v in with_.items() if v is not None}),
        )
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise BaselineError(f"{where}: {problem}: {RESTORE}") from error


def _typed(entry: Mapping[str, Any], name: str, kind: type[_T], *absent: Any) -> _T:
    """Return an entry of type ``kind``; ``absent``, if given, stands for one that is not there."""
    if absent and name not in entry:
        value: _T = absent[0]
        return value
    value = entry[name]
    if not isinstance(value, kind):
        raise TypeError(f"{name} {_short(value)} is not {_NAMES[kind]}")
    return value


_NAMES: Final[Mapping[type, str]] = {str: "text", dict: "a mapping"}


def _number(value: object, name: str) -> float:
    # Not isfinite, which fails on integers beyond the largest float.
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
        raise TypeError(f"{name} {_short(value)} is not a number")
    return value


def _noise(value: object) -> float:
    if (noise := _number(value, "noise")) < 0:
        raise ValueError(f"noise {_short(value)} is below zero")
    return noise


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a message is one line


def _object(where: str, row: str) -> dict[str, Any]:
    if row.startswith(("<<<<<<<", "|||||||", "=======", ">>>>>>>")):
        raise BaselineError(f"{where}: a merge conflict is not resolved: keep one side, or {_ANEW}")
    try:
        entry = json.loads(row, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{where}: not a JSON line ({error}): {RESTORE}") from error
    if not isinstance(entry, dict):
        raise BaselineError(f"{where}: a JSON object was expected, not {row[:40]!r}: {RESTORE}")
    return entry


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number here")
