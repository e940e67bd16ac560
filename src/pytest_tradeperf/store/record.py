"""Run records as JSON: everything measured and decided in one session, versioned."""

import collections.abc
import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

from pytest_tradeperf.errors import BaselineError
from pytest_tradeperf.model import Json, RunRecord
from pytest_tradeperf.store.files import replace_files

FORMAT: Final = 1

_T = TypeVar("_T")


LAST_RECORD: Final = ".tradeperf/last.json"
"""Below rootdir: the record of the last session that judged something, for ``tradeperf explain``."""


def save_record(record: RunRecord, path: Path) -> None:
    """Write ``record`` to ``path``, whole or not at all; raises BaselineError when it cannot."""
    text = json.dumps({"tradeperf_record": FORMAT, **to_json(record)}, indent=1, ensure_ascii=True)
    try:
        replace_files({path: text + "\n"})
    except OSError as error:
        raise BaselineError(
            f"cannot write the record {path}: {error.strerror}: name a place that can be written"
        ) from error


def load_record(path: Path) -> RunRecord:
    """Return the record in ``path``; raises BaselineError for one that cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BaselineError(f"cannot read the record {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{path} is not JSON ({error}): {_AGAIN}") from error
    version = data.pop("tradeperf_record", None) if isinstance(data, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise BaselineError(f"{path} is not a run record (no 'tradeperf_record' format number): {_AGAIN}")
    if version != FORMAT:
        cure = "upgrade pytest-tradeperf" if version > FORMAT else _AGAIN
        raise BaselineError(f"{path} is a run record of format {version}, this one reads {FORMAT}: {cure}")
    try:
        return from_json(RunRecord, data)
    except (TypeError, ValueError) as error:
        raise BaselineError(f"{path} is not a whole run record: {error}: {_AGAIN}") from error


_AGAIN: Final = "write it again with --perf-report json=PATH"


def to_json(value: Any) -> Any:
    """Return a record as plain containers, leaving out fields that are None.

    NaN and infinities, which JSON does not have, become None.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((f.name, to_json(getattr(value, f.name))) for f in dataclasses.fields(value))
        return {name: v for name, v in fields if v is not None}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: type[_T], data: Mapping[str, Json]) -> _T:
    """Return the record of type ``kind`` that ``to_json`` wrote.

    Raises
    ------
    TypeError, ValueError
        For an unknown or missing field, or a value of another type than its field's.
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"{kind.__name__} is not written as {_short(data)}")
    hints = _hints(kind)  # type: ignore[arg-type]  # mypy does not know that types are hashable
    unknown = data.keys() - hints.keys()
    if unknown:
        raise ValueError(f"{kind.__name__} has no {sorted(unknown)}")
    return kind(**{name: _value(hints[name], v) for name, v in data.items()})


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the types of a record's fields; evaluating them is most of the cost of reading one."""
    return typing.get_type_hints(kind)


def _value(hint: Any, data: Json) -> Any:
    """Return ``data`` as the type ``hint`` says; raises TypeError or ValueError when it is none."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _one_of(args, data)
    if origin is tuple:
        items = _checked(data, list)
        inner = args if Ellipsis not in args else args[:1] * len(items)
        if len(inner) != len(items):
            raise TypeError(f"{_short(items)} has not {len(inner)} parts")
        return tuple(_value(a, v) for a, v in zip(inner, items, strict=True))
    if origin is collections.abc.Mapping:
        return {str(name): _value(args[1], v) for name, v in _checked(data, dict).items()}
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast("type[Any]", hint), data)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(data)
    return data if hint is Any else _checked(data, hint)


def _one_of(hints: tuple[Any, ...], data: Json) -> Any:
    if data is None and types.NoneType in hints:
        return None
    records = [hint for hint in hints if dataclasses.is_dataclass(hint)]
    if records:
        return _value(records[0], data)
    for hint in hints:
        if hint is not types.NoneType and _fits(data, hint):
            return data
    raise TypeError(f"{_short(data)} is not {' or '.join(h.__name__ for h in hints)}")


def _checked(data: Json, kind: type[Any]) -> Any:
    if not _fits(data, kind):
        raise TypeError(f"{_short(data)} is not {kind.__name__}")
    return data


def _fits(data: Json, kind: type[Any]) -> bool:
    if isinstance(data, bool):
        return kind is bool
    return isinstance(data, (int, float) if kind is float else kind)


def _short(data: Json) -> str:
    text = json.dumps(data)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a message is one line
