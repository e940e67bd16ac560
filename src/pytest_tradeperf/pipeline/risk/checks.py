"""Refusals of numbers that cannot be meant."""

from __future__ import annotations

import math
from numbers import Real

from pytest_tradeperf.pipeline.errors import SettingError


def finite(name: str, value: float) -> None:
    """Refuse what is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise SettingError(f"{name} is {value!r}: expected a finite number")


def positive(name: str, value: float) -> None:
    """Refuse what is not a finite number above 0."""
    finite(name, value)
    if value <= 0:
        raise SettingError(f"{name} is {value!r}: expected a number above 0")


def share_of_one(name: str, value: float) -> None:
    """Refuse what is not a number from 0 to 1."""
    finite(name, value)
    if not 0.0 <= value <= 1.0:
        raise SettingError(f"{name} is {value!r}: expected a fraction from 0 to 1")
