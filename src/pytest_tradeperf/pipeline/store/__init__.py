"""The signal store: decisions and signals in a database, and the past set-ups nearest to a new one.

Names are fetched on first use, so importing this package loads neither SQLAlchemy nor numpy.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.store.approximate import FaissSetups, QuantisedSetups, choose_setups
    from pytest_tradeperf.pipeline.store.errors import StoreUnavailableError
    from pytest_tradeperf.pipeline.store.facts import Neighbours
    from pytest_tradeperf.pipeline.store.nearest import Setups
    from pytest_tradeperf.pipeline.store.records import Decision, Execution, Signal
    from pytest_tradeperf.pipeline.store.settings import StoreSettings
    from pytest_tradeperf.pipeline.store.signals import SignalStore

__all__ = [
    "Decision",
    "Execution",
    "FaissSetups",
    "Neighbours",
    "QuantisedSetups",
    "Setups",
    "Signal",
    "SignalStore",
    "StoreSettings",
    "StoreUnavailableError",
    "choose_setups",
]

_HOMES = {
    "Decision": "records",
    "Execution": "records",
    "FaissSetups": "approximate",
    "Neighbours": "facts",
    "QuantisedSetups": "approximate",
    "Setups": "nearest",
    "Signal": "records",
    "SignalStore": "signals",
    "StoreSettings": "settings",
    "StoreUnavailableError": "errors",
    "choose_setups": "approximate",
}


def __getattr__(name: str) -> object:
    """Return a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
