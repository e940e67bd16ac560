"""What is known of each past set-up beside its vector, and the filters over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbours:
    """The set-ups found, nearest first; rows that are equally near stay in the order they were stored.

    Attributes
    ----------
    rows
        int64 ndarray of shape (n_found,), `n_found` <= k: places in the set-ups searched.
    distances
        float64 ndarray of shape (n_found,): Euclidean distance, or 1 - cosine similarity.
    keys
        Keys of the signals, empty where the set-ups have none.
    outcomes
        float64 ndarray of shape (n_found,), NaN where unknown.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float64]
    keys: tuple[str, ...]
    outcomes: NDArray[np.float64]

    def __len__(self) -> int:
        """Return how many were found."""
        return int(self.rows.size)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """Keys, symbols, timeframes and outcomes of set-ups, one a row.

    Attributes
    ----------
    keys
        Key of each signal, or nothing.
    symbols, timeframes
        int32 ndarrays of shape (n_setups,): places in `symbol_names` and `timeframe_names`, -2 where not
        given.
    outcomes
        float64 ndarray of shape (n_setups,), NaN where unknown.
    """

    keys: tuple[str, ...]
    symbols: NDArray[np.int32]
    symbol_names: tuple[str, ...]
    timeframes: NDArray[np.int32]
    timeframe_names: tuple[str, ...]
    outcomes: NDArray[np.float64]

    @classmethod
    def build(
        cls,
        n_setups: int,
        keys: Sequence[str],
        symbols: Sequence[str],
        timeframes: Sequence[str],
        outcomes: ArrayLike,
    ) -> Self:
        """Return the facts of `n_setups` rows, checked; each argument has one entry a row, or none at all.

        Raises
        ------
        DataError
            A length does not fit.
        """
        known = np.asarray(outcomes, dtype=np.float64)
        sizes = {
            "keys": len(keys),
            "symbols": len(symbols),
            "timeframes": len(timeframes),
            "outcomes": known.size,
        }
        for name, size in sizes.items():
            if size not in {0, n_setups}:
                raise DataError(f"{name} has {size} entries for {n_setups} vectors: give one a row, or none")
        symbol_codes, symbol_names = _coded(symbols, n_setups)
        timeframe_codes, timeframe_names = _coded(timeframes, n_setups)
        return cls(
            keys=tuple(keys),
            symbols=symbol_codes,
            symbol_names=symbol_names,
            timeframes=timeframe_codes,
            timeframe_names=timeframe_names,
            outcomes=known if known.size else np.full(n_setups, np.nan),
        )

    def passing(
        self, *, only_with_outcome: bool, symbol: str | None, timeframe: str | None
    ) -> NDArray[np.int64] | None:
        """Return the rows that pass the filters in ascending order; None where there is no filter."""
        masks: list[NDArray[np.bool_]] = []
        if only_with_outcome:
            masks.append(~np.isnan(self.outcomes))
        for name, names, codes in (
            (symbol, self.symbol_names, self.symbols),
            (timeframe, self.timeframe_names, self.timeframes),
        ):
            if name is not None:
                masks.append(codes == (names.index(name) if name in names else -1))
        return np.flatnonzero(np.logical_and.reduce(masks)) if masks else None

    def neighbours(self, rows: NDArray[np.int64], distances: NDArray[np.float64], k: int) -> Neighbours:
        """Return the k nearest of ascending rows; equal distances stay in row order."""
        order = np.argsort(distances, kind="stable")[:k]
        found = rows[order]
        keys = tuple(self.keys[row] for row in found.tolist()) if self.keys else ()
        return Neighbours(rows=found, distances=distances[order], keys=keys, outcomes=self.outcomes[found])


def _coded(texts: Sequence[str], n_setups: int) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    if not len(texts):
        return np.full(n_setups, -2, dtype=np.int32), ()
    places: dict[str, int] = {}
    codes = np.fromiter(
        (places.setdefault(text, len(places)) for text in texts), dtype=np.int32, count=n_setups
    )
    return codes, tuple(places)
