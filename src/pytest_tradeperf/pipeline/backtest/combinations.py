"""All combinations of a grid's values, less those that a constraint refuses."""

from __future__ import annotations

import inspect
import itertools
from typing import TYPE_CHECKING, Any

from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def combinations(
    grid: dict[str, Iterable[Any]], constraint: Callable[..., bool] | None
) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    """Return the parameter names, and the values of each combination; the last parameter varies fastest.

    Raises
    ------
    SettingError
        There is no parameter, no combination, or something that is not several values.
    """
    names = tuple(grid)
    if not names:
        raise SettingError("the grid is empty: give values by parameter name, like fast=range(2, 50)")
    values = []
    for name in names:
        if isinstance(grid[name], str) or not hasattr(grid[name], "__iter__"):
            raise SettingError(
                f"{name} is {grid[name]!r}: expected several values, like {name}=[10] or a range"
            )
        values.append(list(grid[name]))
    rows = tuple(itertools.product(*values))
    if constraint is not None:
        rows = tuple(itertools.compress(rows, _verdicts(constraint, names, rows)))
    if not rows:
        raise SettingError(
            f"the grid over {', '.join(names)} has no combination: an empty range, or the constraint "
            f"refuses all"
        )
    return names, rows


def _verdicts(
    constraint: Callable[..., bool], names: tuple[str, ...], rows: tuple[tuple[Any, ...], ...]
) -> Iterator[bool]:
    """Ask the constraint about every combination; by position where that is the same, which is faster."""
    try:
        parameters = list(inspect.signature(constraint).parameters.values())
    except (TypeError, ValueError):  # some callables made in C do not tell
        parameters = []
    is_plain = all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)
    if is_plain and {parameter.name for parameter in parameters} == set(names):
        columns = list(zip(*rows, strict=True))
        return map(constraint, *(columns[names.index(parameter.name)] for parameter in parameters))
    return (constraint(**dict(zip(names, row, strict=True))) for row in rows)
