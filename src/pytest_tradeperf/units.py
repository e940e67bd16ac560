"""Quantities as people write them, in and out: durations, sizes, rates, percentages, energy, counts.

One grammar for every option and marker::

    [<= | >=] NUMBER [UNIT]        "250 ms"  "30s"  "1 GiB"  "500 MB"  ">= 1,000/s"  "3%"

Inside the package a duration is ``ns``, a size ``B`` (bytes), a rate ``1/s``, a share ``fraction``,
an energy ``J`` and anything counted ``1``. KB is 1000 bytes and KiB is 1024, in and out. What is
printed can be read back: commas group thousands ("1,023 KiB") and nothing else ("1,5 s" is refused).
"""

import math
import re
from dataclasses import dataclass
from typing import Final

from pytest_tradeperf.errors import UnitError

_DURATIONS: Final = {
    "ns": 1.0,
    "us": 1e3,
    "µs": 1e3,  # micro sign
    "μs": 1e3,  # Greek mu, what many keyboards give
    "ms": 1e6,
    "s": 1e9,
    "sec": 1e9,
    "min": 60e9,
    "h": 3600e9,
}
_SIZES: Final = {"B": 1.0} | {
    prefix + suffix: float(base**power)
    for power, prefix in enumerate("KMGT", 1)
    for suffix, base in (("B", 1000), ("iB", 1024))
}
_SIZES["kB"] = 1000.0
_ENERGIES: Final = {"mJ": 1e-3, "J": 1.0, "kJ": 1e3, "Wh": 3600.0}
_SCALES: Final = {
    "ns": _DURATIONS,
    "B": _SIZES,
    "J": _ENERGIES,
    "fraction": {"%": 0.01},
    "1": {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9},
    "1/s": {"/s": 1.0, "/min": 1 / 60, "/h": 1 / 3600, "Hz": 1.0},
}
UNITS: Final = frozenset(_SCALES)
"""The package's own units; a metric with any other has a label that is only printed."""

_EXAMPLES: Final = {
    "ns": "'250 ms', '30s', '5min'",
    "B": "'500 MB' (1000) or '500 MiB' (1024)",
    "J": "'40 J'",
    "fraction": "'3%'",
    "1": "'1200' or '2 M'",
    "1/s": "'>= 1000/s'",
}
_QUANTITY: Final = re.compile(
    r"""\s*(?P<sign><=|>=)?\s*
        (?P<number>[+-]?(?:(?:\d{1,3}(?:,\d{3})+|\d[\d_]*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*
        (?P<unit>[^\d\s].*?)?\s*""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A bound as a user wrote it: ``value`` in the package's own unit, and which side is allowed."""

    value: float
    unit: str
    at_least: bool = False

    def allows(self, measured: float) -> bool:
        """Return whether ``measured`` (same unit) is on the allowed side; NaN never is."""
        return measured >= self.value if self.at_least else measured <= self.value

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {format_quantity(self.value, self.unit)}"


def parse_limit(text: object, unit: str | None = None) -> Limit:
    """Return the bound that ``text`` says, in ``unit`` or, when that is None, in the unit it names.

    Raises
    ------
    UnitError
        Not text, no number, a negative or infinite one, or a unit of another dimension.

    Examples
    --------
    >>> parse_limit("250 ms", "ns").value
    250000000.0
    >>> str(parse_limit(">= 1000/s"))
    '>= 1,000/s'
    """
    wanted = _EXAMPLES.get(unit or "", "a number with its unit, such as '30s' or '1 GiB'")
    found = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise UnitError(f"cannot read {text!r} as a quantity: write {wanted}")
    number, symbol = float(found["number"].replace("_", "").replace(",", "")), found["unit"] or ""
    for dimension, scales in _SCALES.items():
        if symbol in scales and unit in (dimension, None):
            value = number * scales[symbol]
            if value < 0 or not math.isfinite(value):
                raise UnitError(f"{text!r} is not a finite quantity at or above zero: write {wanted}")
            return Limit(value=value, unit=dimension, at_least=found["sign"] == ">=")
    known = ", ".join(u for d in _SCALES if unit in (d, None) for u in _SCALES[d] if u and u.isascii())
    problem = f"has the unit {symbol!r}" if symbol else "has no unit"
    raise UnitError(f"{text!r} {problem}: write {wanted}" + (f" (units: {known})" if known else ""))


def parse_duration_ns(text: object) -> int:
    """Return a duration such as ``"250 ms"`` in whole nanoseconds; raises UnitError."""
    return round(_plain(text, "ns"))


def parse_size_bytes(text: object) -> int:
    """Return a size such as ``"1 GiB"`` in bytes; raises UnitError."""
    return round(_plain(text, "B"))


def parse_fraction(text: object) -> float:
    """Return a percentage such as ``"3%"`` as a fraction (0.03); raises UnitError."""
    return _plain(text, "fraction")


def _plain(text: object, unit: str) -> float:
    if isinstance(text, str) and text.lstrip()[:2] in ("<=", ">="):
        raise UnitError(f"{text!r} is a bound where a plain quantity is expected: write {_EXAMPLES[unit]}")
    return parse_limit(text, unit).value


def format_quantity(value: float, unit: str) -> str:
    """Return ``value`` in the unit a person would pick, with three or four significant digits.

    Examples
    --------
    >>> format_quantity(359, "ns"), format_quantity(1536 * 1024, "B"), format_quantity(0.031, "fraction")
    ('359 ns', '1.50 MiB', '3.1 %')
    """
    if unit == "ns":
        return format_duration(value)
    if unit == "B":
        return _scaled(value, _BYTES)
    if unit == "fraction":
        return format_percent(value)
    whole = abs(value) < 1e15 and (abs(value) >= 1000 or value == round(value))  # noqa: PLR2004 - readable
    text = f"{value:,.0f}" if whole else f"{value:,.4g}"
    return text + (
        "" if unit in ("1", "") else unit.removeprefix("1") if unit.startswith("1/") else f" {unit}"
    )


def format_duration(ns: float) -> str:
    """Return a duration given in nanoseconds, such as ``"41.2 ms"``."""
    return _scaled(ns, _TIMES)


MANY: Final = 1e9
"""From here on a number is printed by its size: only a baseline edited by hand comes to this."""


def format_percent(fraction: float, *, sign: bool = False) -> str:
    """Return a fraction as a percentage: ``"3.1 %"``, with ``sign`` ``"+3.1 %"``; never 0 for a change.

    Examples
    --------
    >>> format_percent(0.031), format_percent(2e-9, sign=True), format_percent(-3)
    ('3.1 %', '+2e-07 %', '-300 %')
    """
    percent = 100 * fraction
    plus = "+" if sign else ""
    # Three decimals would show one digit or none, and hundreds of digits no more than three.
    if percent != 0 and not 0.01 <= abs(percent) < MANY:  # noqa: PLR2004
        return f"{percent:{plus}.2g} %"
    digits = 0 if abs(percent) >= 100 else 1 if abs(percent) >= 0.1 or percent == 0 else 3  # noqa: PLR2004
    return f"{percent:{plus},.{digits}f} %"


def format_factor(factor: float) -> str:
    """Return how many times as much something is, without its unit.

    Examples
    --------
    >>> format_factor(1.964), format_factor(1.2e300)
    ('1.96 x', '1.2e+300 x')
    """
    return f"{factor:.2f} x" if factor < MANY else f"{factor:.2g} x"


def counted(number: int, noun: str) -> str:
    """Return a number of things.

    Examples
    --------
    >>> counted(1, "test"), counted(2, "test")
    ('1 test', '2 tests')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_TIMES: Final = ((60e9, "min"), (1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))
_BYTES: Final = ((1024.0**4, "TiB"), (1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"), (1.0, "B"))


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    """Return value over the largest step that leaves at least one whole unit after rounding."""
    if not math.isfinite(value):
        return f"{value} {steps[-1][1]}"
    step, symbol = next((s for s in steps if abs(_rounded(value / s[0])) >= 1), steps[-1])
    scaled = _rounded(value / step)
    if step == 1 and (scaled == round(scaled) or abs(scaled) < 1):
        return f"{scaled:,g} {symbol}"  # 7 ns, not 7.00; 0.0012 ns, not 0.00
    return f"{scaled:,.{max(0, 3 - len(str(int(abs(scaled)))))}f} {symbol}"


def _rounded(value: float) -> float:
    """Return ``value`` to three significant digits, or to whole units from 100."""
    return float(round(value)) if abs(value) >= 100 else float(f"{value:.3g}")  # noqa: PLR2004 - readable


def printable(text: str) -> str:
    r"""Return ``text`` with what would break a line of output written as an escape.

    Examples
    --------
    >>> printable("a\nb")
    'a\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
