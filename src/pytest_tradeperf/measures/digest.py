"""A value reduced to a canonical text and its hash, the same in every process and for every hash seed.

The text is JSON. Containers carry a tag, mappings and sets are sorted, floats are written so that
they read back exactly. A large array of floats is written as a sketch, a few numbers a block, so that the
text stays small and can still be compared with a tolerance. What differs between platforms for one and the
same value (byte order, path separators, extended precision) is levelled or refused.
"""

import dataclasses
import datetime as dt
import enum
import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.model import Json

if TYPE_CHECKING:
    import numpy as np

FULL_ARRAY: Final = (2048, 256, 16)
"""Arrays up to this many elements are kept whole; the next smaller is tried when the text gets too long."""

SKETCH_BLOCKS: Final = 32
_LINEAR_BELOW: Final = 2.0**16
"""How many times smaller than its block's largest an element is held at an absolute resolution."""

TEXT_BYTES: Final = 64 * 1024
_BIG: Final = 2**64


def digest(value: object, *, exact: bool = False) -> tuple[str, str | None]:
    """Return (hash, canonical text) of ``value``; the text is None when it exceeds 64 KiB.

    The hash covers every bit of the value. With ``exact`` no text is kept, so only bit identity passes.

    Raises
    ------
    MeasureError
        For a value that holds an object without a canonical form, or that contains itself.

    Examples
    --------
    >>> digest({"b": 1, "a": {2, 3}})[1]
    '{"dict":[["a",{"set":[2,3]}],["b",1]]}'
    """
    try:
        for full in FULL_ARRAY:
            walk = _Walk(full)
            text = json.dumps(_canonical(value, walk, ()), separators=(",", ":"), ensure_ascii=True)
            if len(text) <= TEXT_BYTES:
                break
    except RecursionError as error:
        raise MeasureError(f"cannot digest a {type(value).__name__} nested this deeply") from error
    walk.bits.update(text.encode())
    fingerprint = f"sha256:{walk.bits.hexdigest()[:32]}"
    return fingerprint, text if len(text) <= TEXT_BYTES and not exact else None


class _Walk:
    """One pass over a value: the hash of its arrays so far, and how large an array is kept whole."""

    def __init__(self, full: int) -> None:
        self.full = full
        self.bits = hashlib.sha256()


def _canonical(value: Any, walk: _Walk, outer: tuple[int, ...]) -> Json:  # noqa: PLR0911, PLR0912, C901 - a branch a type
    if isinstance(value, enum.Enum):
        return {"enum": f"{type(value).__qualname__}.{value.name}"}
    if value is None or isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):  # json refuses integers of more than 4300 digits
        return int(value) if abs(value) < _BIG else {"int": hex(value)}
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, complex):
        return {"complex": [_float(value.real), _float(value.imag)]}
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return {"bytes": hashlib.sha256(data).hexdigest(), "length": len(data)}
    if isinstance(value, Decimal | Fraction | UUID):
        return {type(value).__name__.lower(): str(value)}
    if isinstance(value, PurePath):
        return {"path": value.as_posix()}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if id(value) in outer:
        raise MeasureError(f"cannot digest a {type(value).__name__} that contains itself")
    inner = (*outer, id(value))
    for look in (_from_pandas, _from_numpy):
        known = look(value, walk, inner)
        if known is not None:
            return known
    if isinstance(value, dt.date | dt.time):
        return {"time": value.isoformat()}
    if isinstance(value, dt.timedelta):
        return {"timedelta": value // dt.timedelta(microseconds=1)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = [[f.name, _canonical(getattr(value, f.name), walk, inner)] for f in dataclasses.fields(value)]
        return {"dataclass": type(value).__qualname__, "fields": pairs}
    if isinstance(value, Mapping):
        return {"dict": [[_plain(k, inner), _canonical(v, walk, inner)] for k, v in _by_key(value, inner)]}
    if isinstance(value, AbstractSet):
        return {"set": sorted((_plain(v, inner) for v in value), key=_key)}
    if isinstance(value, Sequence):
        return _sequence(value, walk, inner)
    raise MeasureError(
        f"cannot digest {type(value).__module__}.{type(value).__qualname__}: "
        "pass an array, a frame, a dataclass or plain containers of numbers and text"
    )


def _float(value: float) -> Json:
    return float(value) if math.isfinite(value) else {"float": repr(float(value))}


def _key(canonical: Json) -> tuple[bool, float, str]:
    """Sort numbers by value, so that rounding does not reorder them, and before everything else by text."""
    is_number = isinstance(canonical, int | float) and not isinstance(canonical, bool)
    return (not is_number, canonical if is_number else 0.0, json.dumps(canonical, sort_keys=True))


def _plain(value: object, outer: tuple[int, ...]) -> Json:
    """Return the canonical form of a key or set member, kept whole: its arrays are not in the hash."""
    return _canonical(value, _Walk(sys.maxsize), outer)


def _by_key(mapping: Mapping[Any, Any], outer: tuple[int, ...]) -> list[tuple[Any, Any]]:
    return sorted(mapping.items(), key=lambda item: _key(_plain(item[0], outer)))


def _sequence(value: Sequence[Any], walk: _Walk, outer: tuple[int, ...]) -> Json:
    if len(value) > walk.full and all(type(v) in (int, float) for v in value):
        import numpy as np

        kinds = {type(v) for v in value}
        if kinds == {float} or (kinds == {int} and all(abs(v) < 2**62 for v in value)):
            return {"list": _array(np.asarray(value), walk)}
    tag = "tuple" if isinstance(value, tuple) else "list"
    return (
        {tag: [_canonical(v, walk, outer) for v in value]}
        if tag == "tuple"
        else [_canonical(v, walk, outer) for v in value]
    )


def _from_pandas(  # noqa: PLR0911 - a branch a type
    value: Any, walk: _Walk, outer: tuple[int, ...]
) -> Json | None:
    """Return the form of a pandas value, None for any other; looks pandas up only where it is loaded."""
    pd = sys.modules.get("pandas")
    if pd is None:
        return None
    if isinstance(value, pd.DataFrame):
        columns = [
            [_plain(c, outer), _column(value.iloc[:, i], walk, outer)] for i, c in enumerate(value.columns)
        ]
        names = [_plain(n, outer) for n in (*value.index.names, *value.columns.names)]
        return {"frame": columns, "index": _column(value.index, walk, outer), "names": names}
    if isinstance(value, pd.Series):
        names = [_plain(n, outer) for n in (value.name, *value.index.names)]
        index = _column(value.index, walk, outer)
        return {"series": _column(value, walk, outer), "index": index, "names": names}
    if isinstance(value, pd.Index):
        return {"index": _column(value, walk, outer), "names": [_plain(n, outer) for n in value.names]}
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return {"series": _column(value, walk, outer)}
    if value is pd.NaT or value is pd.NA:
        return {"missing": repr(value)}
    if isinstance(value, pd.Timestamp | pd.Timedelta | pd.Period | pd.Interval):
        return {type(value).__name__.lower(): str(value)}
    return None


def _from_numpy(value: Any, walk: _Walk, outer: tuple[int, ...]) -> Json | None:
    """Return the form of a numpy value, None for any other; looks numpy up only where it is loaded."""
    np = sys.modules.get("numpy")
    if np is None:
        return None
    if isinstance(value, np.ma.MaskedArray):  # what is under the mask is arbitrary
        mask = np.ma.getmaskarray(value)
        shown = np.where(mask, np.zeros((), value.dtype), value.data)
        return {"masked": _any_array(shown, walk, outer), "mask": _array(mask, walk)}
    if isinstance(value, np.ndarray):
        return _any_array(value, walk, outer)
    if isinstance(value, np.generic):
        if value.dtype.kind in "mM":
            return {"time": str(value)}
        _refuse_extended(value.dtype)
        return _canonical(value.item(), walk, outer)
    return None


def _any_array(array: "np.ndarray[Any, Any]", walk: _Walk, outer: tuple[int, ...]) -> Json:
    return _array(array, walk) if array.dtype.kind in "biufcmMSU" else _objects(array, walk, outer)


def _refuse_extended(dtype: "np.dtype[Any]") -> None:
    """Refuse long doubles: their width and padding differ between platforms and processes."""
    if dtype.kind in "fc" and dtype.itemsize > (8 if dtype.kind == "f" else 16):
        raise MeasureError(f"cannot digest {dtype}: its precision differs between platforms; cast to float64")


def _column(column: Any, walk: _Walk, outer: tuple[int, ...]) -> Json:
    import numpy as np

    values = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    return {"dtype": str(column.dtype), "values": _any_array(values, walk, outer)}


def _objects(array: "np.ndarray[Any, Any]", walk: _Walk, outer: tuple[int, ...]) -> Json:
    if array.dtype.names:
        return {
            "fields": [[n, _any_array(array[n], walk, outer)] for n in array.dtype.names],
            "shape": list(array.shape),
        }
    return {
        "objects": [_canonical(v, walk, outer) for v in array.ravel().tolist()],
        "shape": list(array.shape),
    }


def _array(array: "np.ndarray[Any, Any]", walk: _Walk) -> Json:
    import numpy as np

    _refuse_extended(array.dtype)
    flat = np.ascontiguousarray(array).ravel()
    form: dict[str, Json] = {"array": array.dtype.str.lstrip("<>|="), "shape": list(array.shape)}
    walk.bits.update(flat.astype(flat.dtype.newbyteorder("<"), copy=False).tobytes())
    if flat.size <= walk.full:
        values = flat.astype("int64").tolist() if flat.dtype.kind in "mM" else flat.tolist()
        form["data"] = [_canonical(v, _Walk(0), ()) for v in values]
    elif flat.dtype.kind == "f":
        form["sketch"] = _sketch(flat)
    elif flat.dtype.kind == "c":
        form["sketch"] = _sketch(np.column_stack([flat.real, flat.imag]).ravel())
    else:  # integers, booleans, dates and text have no rounding to forgive
        form["sha256"] = hashlib.sha256(
            flat.astype(flat.dtype.newbyteorder("<"), copy=False).tobytes()
        ).hexdigest()
        form["head"] = (
            [_canonical(v, _Walk(0), ()) for v in flat[:8].tolist()] if flat.dtype.kind in "biu" else []
        )
    return form


def _sketch(flat: "np.ndarray[Any, Any]") -> list[list[Json]]:
    """Return per block: first element, where NaN and infinity are, sum, largest magnitude, two projections.

    A projection adds up all elements with fixed pseudo-random weights of either sign, each element as
    the logarithm of its magnitude beside the block's largest: a relative change of one element moves
    both projections by 1 to 1.5 times as much, rounding of all of them by little more than the square
    root of their number. Below 1.5e-5 of the largest magnitude the logarithm becomes a straight line
    through zero, so what rounding leaves of a zero is none of its business.
    """
    import numpy as np

    starts = np.linspace(0, flat.size, min(SKETCH_BLOCKS, flat.size), endpoint=False).astype("int64").tolist()
    ends = [*starts[1:], flat.size]
    weights = _weights(max(end - start for start, end in zip(starts, ends, strict=True)))
    blocks: list[list[Json]] = []
    for start, end in zip(starts, ends, strict=True):
        block = flat[start:end].astype("float64")
        finite = np.isfinite(block)
        special = 0
        if not finite.all():
            marks = np.where(finite, 0, np.where(np.isnan(block), 1, np.where(block > 0, 2, 3)))
            special = int((marks * np.arange(1, block.size + 1)).sum())
            block = np.where(finite, block, 0.0)
        top = float(np.abs(block).max())
        shares = block / top if top else block
        scaled = np.copysign(np.log(1.0 + np.abs(shares) * _LINEAR_BELOW), shares)
        with np.errstate(over="ignore"):  # the sum of huge values may be infinite
            total = float(block.sum())
        projections = [round(float((scaled * w[: block.size]).sum()), 12) for w in weights]
        blocks.append([start, special, _float(total), top, *projections])
    return blocks


def _weights(count: int) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Return two series of weights, 1 to 1.5 of either sign, the same on every platform for ever.

    From the finaliser of splitmix64 (Steele, Lea and Flood 2014); generators of numpy may change.
    """
    import numpy as np

    mixed = np.arange(1, count + 1, dtype="uint64") * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    halves = (mixed & np.uint64(0xFFFFFFFF)).astype("float64"), (mixed >> np.uint64(32)).astype("float64")
    low, high = (half / 2**31 - 1.0 for half in halves)  # -1 .. 1
    return low / 2 + np.copysign(1.0, low), high / 2 + np.copysign(1.0, high)
