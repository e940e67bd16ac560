import inspect
import re

import pytest

from pytest_tradeperf import errors
from pytest_tradeperf.errors import TradeperfError

OURS = [
    value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", OURS)
def test_every_error_is_caught_by_the_base(kind: type[Exception]) -> None:
    assert issubclass(kind, TradeperfError)


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__)
    assert sorted(drawn) == sorted(kind.__name__ for kind in OURS if kind is not TradeperfError)


@pytest.mark.parametrize("kind", [errors.UnitError, errors.MarkerError, errors.SettingsError])
def test_bad_values_are_value_errors_too(kind: type[Exception]) -> None:
    assert issubclass(kind, ValueError)
