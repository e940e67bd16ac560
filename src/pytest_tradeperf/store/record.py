"""Run records as JSON: everything measured and decided in one session, versioned."""

import dataclasses
import json
import os
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

from pytest_tradeperf.errors import BaselineError
from pytest_tradeperf.model import Json, RunRecord

FORMAT: Final = 1

_T = TypeVar("_T")


def save_record(record: RunRecord, path: Path) -> None:
    """Write ``record`` to ``path``, whole or not at all; raises BaselineError when it cannot."""
    text = json.dumps({"tradeperf_record": FORMAT, **to_json(record)}, indent=1, ensure_ascii=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise BaselineError(f"cannot write the record {path}: {error.strerror}") from error


def load_record(path: Path) -> RunRecord:
    """Return the record in ``path``; raises BaselineError for one that cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaselineError(f"cannot read the record {path}: {error}") from error
    version = data.pop("tradeperf_record", None) if isinstance(data, dict) else None
    if version != FORMAT:
        raise BaselineError(f"{path} is not a run record of format {FORMAT} (it says {version!r})")
    try:
        return from_json(RunRecord, data)
    except (KeyError, TypeError, ValueError) as error:
        raise BaselineError(f"{path} is not a whole run record: {error}") from error


def to_json(value: Any) -> Any:
    """Return a record as plain containers, leaving out fields at their defaults' None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: to_json(v) for name, v in fields if v is not None}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    return value


def from_json(kind: type[_T], data: Mapping[str, Json]) -> _T:
    """Return the record of type ``kind`` that ``to_json`` wrote; unknown fields are refused."""
    hints = typing.get_type_hints(kind)
    unknown = data.keys() - hints.keys()
    if unknown:
        raise ValueError(f"{kind.__name__} has no {sorted(unknown)}")
    return kind(**{name: _value(hints[name], v) for name, v in data.items()})


def _value(hint: Any, data: Json) -> Any:
    if data is None or hint is Any:
        return data
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        records = [a for a in args if dataclasses.is_dataclass(a)]
        return _value(records[0], data) if records else data
    if origin is tuple:
        inner = args if Ellipsis not in args else args[:1] * len(data)
        return tuple(_value(a, v) for a, v in zip(inner, data, strict=True))
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast("type[Any]", hint), data)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(data)
    return data
