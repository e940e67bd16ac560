"""Where two canonical texts of an answer first differ, floats compared with a tolerance."""

import json
import math
from collections.abc import Iterator

from pytest_tradeperf.model import Json


def first_difference(accepted: str, measured: str, relative: float) -> str | None:
    """Return a line that names the first difference, or None when all is equal within ``relative``.

    A stored text that is not what ``measures.digest`` writes, edited by hand perhaps, differs.

    Examples
    --------
    >>> first_difference('{"dict":[["a",1.0]]}', '{"dict":[["a",1.5]]}', 1e-9)
    "['a']: 1.0 -> 1.5"
    >>> first_difference("[1.0]", "[1.0000000000000002]", 1e-9) is None
    True
    """
    try:
        return next(_differences(json.loads(accepted), json.loads(measured), "", relative), None)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "value: the stored text cannot be read, so where it differs cannot be told"


def resolution(text: str, relative: float) -> str:
    """Return how closely an answer with this canonical text was compared, for people.

    Examples
    --------
    >>> resolution("[1.0]", 1e-9)
    'equal within 1e-09'
    """
    sketched = "; of arrays over 2,048 elements one alone, many less" if '"sketch":' in text else ""
    return f"equal within {relative:g}{sketched}"


def set_change(accepted: str, measured: str) -> str | None:
    """Return what came (first) and went between two sets, None when the texts are not two unequal sets.

    Examples
    --------
    >>> set_change('{"set":["json","os"]}', '{"set":["os","pandas"]}')
    '+pandas, -json'
    """
    try:
        before, after = (set(json.loads(text)["set"]) for text in (accepted, measured))
    except (ValueError, LookupError, TypeError):
        return None
    parts = [
        *(f"+{name}" for name in sorted(after - before)),
        *(f"-{name}" for name in sorted(before - after)),
    ]
    return ", ".join(parts) or None


def _differences(old: Json, new: Json, path: str, relative: float) -> Iterator[str]:
    here = path or "value"
    if _is_number(old) and _is_number(new):
        if not _close(old, new, relative):
            yield f"{here}: {old!r} -> {new!r}"
    elif isinstance(old, list) and isinstance(new, list):
        yield from _lists(old, new, path, relative)
    elif isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        yield from _tagged(old, new, path, relative)
    elif type(old) is not type(new) or old != new:
        yield f"{here}: {_short(old)} -> {_short(new)}"


def _lists(old: list[Json], new: list[Json], path: str, relative: float) -> Iterator[str]:
    for i, (a, b) in enumerate(zip(old, new, strict=False)):
        yield from _differences(a, b, f"{path}[{i}]", relative)
    if len(old) != len(new):
        extra = _short((new if len(new) > len(old) else old)[min(len(old), len(new))])
        yield f"{path or 'value'}: {len(old)} -> {len(new)} elements, the first extra is {extra}"


def _tagged(old: dict[str, Json], new: dict[str, Json], path: str, relative: float) -> Iterator[str]:
    if "dict" in old:
        yield from _mappings(old["dict"], new["dict"], path, relative)
    elif "dataclass" in old:
        if old["dataclass"] != new["dataclass"]:
            yield f"{path or 'value'}: {old['dataclass']} -> {new['dataclass']}"
        yield from _mappings(old["fields"], new["fields"], path, relative, attribute=True)
    elif "frame" in old:
        yield from _columns(old["frame"], new["frame"], path, relative)
        yield from _differences(old["index"], new["index"], f"{path}.index", relative)
        yield from _differences(old["names"], new["names"], f"{path}.names", relative)
    elif "array" in old:
        yield from _arrays(old, new, path, relative)
    elif "dtype" in old:
        if old["dtype"] != new["dtype"]:
            yield f"{path or 'value'}: dtype {old['dtype']} -> {new['dtype']}"
        yield from _differences(old["values"], new["values"], path, relative)
    else:
        for key, value in old.items():
            inner = (
                path if key in ("list", "tuple", "set", "objects", "series", "masked") else f"{path}.{key}"
            )
            yield from _differences(value, new[key], inner, relative)


def _columns(old: list[Json], new: list[Json], path: str, relative: float) -> Iterator[str]:
    """Compare the columns of frames, whose names may repeat and whose order counts."""
    before, after = [name for name, _ in old], [name for name, _ in new]
    if before == after:
        for (name, a), (_, b) in zip(old, new, strict=True):
            yield from _differences(a, b, f"{path}[{_short(name)}]", relative)
    else:
        yield f"{path or 'value'}: columns {_short(before)} -> {_short(after)}"


def _mappings(
    old: list[Json], new: list[Json], path: str, relative: float, *, attribute: bool = False
) -> Iterator[str]:
    before = {json.dumps(k): (k, v) for k, v in old}
    after = {json.dumps(k): (k, v) for k, v in new}
    for key in [*before, *(k for k in after if k not in before)]:
        name = (before.get(key) or after[key])[0]
        where = f"{path}.{name}" if attribute else f"{path}[{_short(name)}]"
        if key not in after:
            yield f"{where}: gone, was {_short(before[key][1])}"
        elif key not in before:
            yield f"{where}: added, {_short(after[key][1])}"
        else:
            yield from _differences(before[key][1], after[key][1], where, relative)


def _arrays(old: dict[str, Json], new: dict[str, Json], path: str, relative: float) -> Iterator[str]:
    here = path or "array"
    for key, label in (("array", "dtype"), ("shape", "shape")):
        if old[key] != new[key]:
            yield f"{here}: {label} {old[key]} -> {new[key]}"
            return
    if old.keys() != new.keys():
        yield f"{here}: kept in another form, so where it differs cannot be told"
    elif "data" in old:
        yield from _lists(old["data"], new["data"], path, relative)
    elif "sketch" in old:
        for a, b in zip(old["sketch"], new["sketch"], strict=True):
            yield from _block(a, b, f"{here}[{a[0]}:]", relative)
    elif old["sha256"] != new["sha256"]:
        head = next(_lists(old["head"], new["head"], path, relative), None)
        yield head or f"{here}: {old['shape']} elements differ after the first {len(old['head'])}"


def _block(old: list[Json], new: list[Json], where: str, relative: float) -> Iterator[str]:
    """Compare one block of a sketch: (start, special, sum, largest magnitude, two projections).

    The largest magnitudes may differ by ``relative``, and so may the projections, which are sums of
    logarithms.
    """
    if old[1] != new[1]:
        yield f"{where}: NaN or infinity came, went or moved"
        return
    moved = max(abs(a - b) for a, b in zip(old[4:], new[4:], strict=True))
    if moved > relative or not _close(float(old[3]), float(new[3]), relative):
        sums = f"block sum {_short(old[2])} -> {_short(new[2])}"
        if old[3] != new[3]:
            yield f"{where}: {sums}, largest magnitude {old[3]!r} -> {new[3]!r}"
        elif moved < 1:
            yield f"{where}: {sums}, which is one element by {moved:.1g} of itself, or several"
        else:
            yield f"{where}: {sums}"


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _close(old: float, new: float, relative: float) -> bool:
    if isinstance(old, int) and isinstance(new, int):
        return old == new
    return math.isclose(old, new, rel_tol=relative, abs_tol=0.0)


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - what fits beside a path
