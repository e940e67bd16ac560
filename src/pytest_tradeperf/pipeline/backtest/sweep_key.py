"""What makes two sweeps the same: the one answer for checkpoints and for the cache of results."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import operator
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.features.cache import data_digest
from pytest_tradeperf.pipeline.marketdata.bars import PRICE_FIELDS, Bars

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.jobs import Job

Rows = tuple[tuple[Any, ...], ...]

# To be raised when a sweep's numbers change their meaning.
VERSION = 2
# Values whose ``repr`` says all there is to them.
PLAIN = (bool, int, float, str, type(None), np.bool_, np.integer, np.floating)


def sweep_key(job: Job, rows: Rows) -> dict[str, Any]:
    """Return all that the answer of a sweep depends on, but not the engine, which does not move it.

    Raises
    ------
    SettingError
        Something of it could change and look the same: a strategy that its module does not hold by name (a
        lambda, something local, a bound method, a partial), a fee function, a value that is an object.
    """
    odd = next((value for row in rows for value in row if not isinstance(value, PLAIN)), None)
    if odd is not None:
        raise SettingError(
            f"a sweep over {odd!r:.80} cannot be told from another one: give numbers, text or booleans"
        )
    if job.settings.costs.fee is not None:
        raise SettingError(
            f"a sweep with the fee function {job.settings.costs.fee!r:.80} cannot be told from another one: "
            "use fees_bps and fee_fixed"
        )
    bars = bars_of(job)
    return {
        "strategy": f"{job.strategy.__module__}.{_name_of(job.strategy)}",
        "code": _code_of(job.strategy),
        "names": list(job.names),
        "rows": hashlib.sha256(repr(rows).encode()).hexdigest(),
        "settings": repr(job.settings),
        "bars": b"".join(data_digest(column) for column in columns_of(bars)).hex(),
        "symbol": bars.symbol,
        "timeframe": repr(bars.timeframe),
        "version": VERSION,
        "package": importlib.metadata.version("pytest-tradeperf"),
    }


def bars_of(job: Job) -> Bars:
    """Return the bars of a job that was not sent to a worker, which has a file instead."""
    assert isinstance(job.bars, Bars)
    return job.bars


def columns_of(bars: Bars) -> list[NDArray[Any]]:
    """Return the arrays that bars are made of."""
    return [getattr(bars, name) for name in ("timestamps", *PRICE_FIELDS, "volume")]


def _name_of(strategy: Callable[..., Any]) -> str:
    """Return the name under which a strategy's module holds that very class or function."""
    name = getattr(strategy, "__qualname__", "")
    module = sys.modules.get(getattr(strategy, "__module__", ""))
    try:
        is_held = operator.attrgetter(name)(module) is strategy
    except AttributeError:
        is_held = False
    if not is_held:
        raise SettingError(
            f"a sweep of {strategy!r:.80} cannot be told from another one: give a class or function that a "
            "module holds by its name, and what varies as parameters of the grid"
        )
    return str(name)


def _code_of(strategy: Callable[..., Any]) -> str:
    """Return the digest of the files that a strategy, and what its class inherits from, are written in."""
    kinds = strategy.__mro__ if isinstance(strategy, type) else (strategy,)
    state = hashlib.sha256()
    for kind in kinds:
        if kind.__module__ == "builtins":
            continue
        try:
            state.update(Path(inspect.getfile(kind)).read_bytes())
        except (TypeError, OSError) as error:
            raise SettingError(
                f"a sweep of {strategy!r:.80} cannot be told from another one: the source of {kind!r:.80} "
                f"cannot be read ({error}); put it into a file"
            ) from error
    return state.hexdigest()
