"""What ``@pytest.mark.perf_imports(...)`` says, and whether an import keeps to it."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pytest_tradeperf.errors import MarkerError, UnitError
from pytest_tradeperf.model import Measurement, Row, Verdict
from pytest_tradeperf.units import Limit, format_quantity, parse_limit

LIMIT_UNITS: Final = {"wall": "ns", "memory": "B", "modules": "1"}
_ARGUMENTS: Final = (*LIMIT_UNITS, "forbid", "must_import")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSpec:
    """What the import of one package may cost: limits by name, modules it may not load.

    ``must_import`` asks that every submodule can be imported.
    """

    package: str
    limits: Mapping[str, Limit] = field(default_factory=dict)
    forbid: tuple[str, ...] = ()
    must_import: bool = False


def read_imports(markers: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> tuple[ImportSpec, ...]:
    """Return one spec a package; the marker nearest to the test speaks for its package alone.

    Raises
    ------
    MarkerError
        For a missing or wrong package name, an unknown argument or a value that cannot be read.

    Examples
    --------
    >>> spec, = read_imports([(("shop",), {"modules": 300, "forbid": ["torch"]})])
    >>> spec.package, str(spec.limits["modules"]), spec.forbid
    ('shop', '<= 300', ('torch',))
    """
    specs: dict[str, ImportSpec] = {}
    for args, kwargs in markers:
        spec = read_import(*args, **kwargs)
        specs.setdefault(spec.package, spec)
    return tuple(specs.values())


def read_import(*args: Any, **kwargs: Any) -> ImportSpec:
    """Return the spec of one marker or one call of the fixture; raises MarkerError."""
    if len(args) != 1 or not isinstance(args[0], str) or not args[0]:
        given = ", ".join(repr(a) for a in args) or "nothing"
        raise MarkerError(f"perf_imports needs the name of one package, not {given}: perf_imports('shop')")
    for name in kwargs:
        if name not in _ARGUMENTS:
            close = difflib.get_close_matches(name, _ARGUMENTS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(_ARGUMENTS)}"
            raise MarkerError(f"perf_imports has no argument {name!r}; {hint}")
    forbid = kwargs.get("forbid", ())
    if isinstance(forbid, str) or not all(isinstance(name, str) and name for name in forbid):
        raise MarkerError(f"perf_imports(forbid={forbid!r}): write a list of module names, ['torch']")
    must_import = kwargs.get("must_import", False)
    if not isinstance(must_import, bool):
        raise MarkerError(f"perf_imports(must_import={must_import!r}): write True or False")
    limits = {name: _limit(name, kwargs[name], unit) for name, unit in LIMIT_UNITS.items() if name in kwargs}
    return ImportSpec(package=args[0], limits=limits, forbid=tuple(forbid), must_import=must_import)


def import_rows(
    spec: ImportSpec,
    test: str,
    measured: Mapping[str, Measurement],
    *,
    forbidden: Iterable[str],
    failures: Iterable[str],
) -> list[Row]:
    """Return a row for everything the spec does not allow.

    ``measured`` holds the measurements by the names limits have, ``forbidden`` and ``failures`` lines
    that name what was loaded and what could not be imported.
    """
    rows = []
    for name, limit in spec.limits.items():
        found = measured.get(name)
        if found is None:
            note = f"limit {limit} on {name} not judged: this system does not tell it"
            rows.append(
                Row(test=test, metric=f"import_{name}:{spec.package}", verdict=Verdict.UNDECIDED, note=note)
            )
        elif isinstance(found.value, int | float) and not limit.allows(found.value):
            unit = found.metric.unit
            note = f"importing {spec.package}: {name} {format_quantity(found.value, unit)}, limit {limit}"
            rows.append(
                Row(
                    test=test,
                    metric=found.metric.name,
                    verdict=Verdict.OVER_BUDGET,
                    unit=unit,
                    accepted=limit.value,
                    measured=found.value,
                    note=note,
                )
            )
    wrong = [
        *(f"forbidden: {line}" for line in forbidden),
        *(f"cannot be imported: {line}" for line in failures),
    ]
    if wrong:
        head = wrong[0] + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
        rows.append(
            Row(
                test=test,
                metric=f"imports:{spec.package}",
                verdict=Verdict.OVER_BUDGET,
                note=head,
                detail=tuple(wrong[1:]),
            )
        )
    return rows


def _limit(name: str, value: object, unit: str) -> Limit:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) and unit == "1" else value
    try:
        return parse_limit(text, unit)
    except UnitError as error:
        raise MarkerError(f"perf_imports({name}=...): {error}") from error
