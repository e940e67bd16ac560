"""pytest-tradeperf: fail a build when code really got slower, hungrier or less accurate, and only then.

Importing this package loads nothing else; public names are fetched on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_tradeperf.errors import TradeperfError
    from pytest_tradeperf.model import Metric, RunRecord, Verdict

__all__ = ["Metric", "RunRecord", "TradeperfError", "Verdict", "__version__"]

__version__ = "0.1.0"

_HOMES = {
    "Metric": "pytest_tradeperf.model",
    "RunRecord": "pytest_tradeperf.model",
    "TradeperfError": "pytest_tradeperf.errors",
    "Verdict": "pytest_tradeperf.model",
}


def __getattr__(name: str) -> object:
    """Return a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
