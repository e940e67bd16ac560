import doctest
import importlib
import pkgutil

import pytest

import pytest_tradeperf

MODULES = sorted(
    found.name for found in pkgutil.walk_packages(pytest_tradeperf.__path__, f"{pytest_tradeperf.__name__}.")
)


@pytest.mark.parametrize("name", ["pytest_tradeperf", *(m for m in MODULES if not m.endswith("__main__"))])
def test_the_examples_of_a_module_do_what_they_say(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("pytest_tradeperf"):
            raise
        pytest.skip(f"needs the extra that brings {error.name}")
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
