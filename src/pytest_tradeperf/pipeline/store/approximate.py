"""Smaller or faster than exact, and only with the recall measured on your own vectors.

Recall is the share of answers that are as near as the exact k-th neighbour, so that equally near set-ups
count as found. It is measured leaving one out: rows ask for their neighbours and do not count themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError, MissingExtraError, SettingError
from pytest_tradeperf.pipeline.store.codec import quantised
from pytest_tradeperf.pipeline.store.nearest import checked_query

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from pytest_tradeperf.pipeline.store.facts import Facts, Neighbours
    from pytest_tradeperf.pipeline.store.nearest import Setups

Backend = Literal["exact", "int8", "faiss"]
BACKENDS: Final = ("exact", "int8", "faiss")
# Rows turned into float32 at once: 8,192 x 64 floats are 2 MB, which stay in the cache until they are
# multiplied.
BLOCK: Final = 8_192
# Relative difference of one distance taken on two ways.
SAME_DISTANCE: Final = 1e-9
# Candidates asked of faiss for each neighbour wanted; the best of them are ranked exactly.
OVERSAMPLING: Final = 4
# Links of a node and breadth of search in the HNSW graph (Y. Malkov and D. Yashunin, 2016): faiss's own
# defaults x 2.
LINKS: Final = 32
BREADTH: Final = 128


class Search(Protocol):
    """What finds neighbours."""

    def nearest(
        self,
        query: ArrayLike,
        k: int,
        *,
        only_with_outcome: bool = False,
        symbol: str | None = None,
        timeframe: str | None = None,
    ) -> Neighbours:
        """Return the k nearest set-ups that pass the filters."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantisedSetups:
    """Vectors in int8, a quarter of the memory; distances are Euclidean, to the quantised vectors.

    Attributes
    ----------
    rows
        int8 ndarray of shape (n_setups, n_features).
    steps
        float32 ndarray of shape (n_setups,): what one step of a row is worth.
    facts
        Keys, symbols, timeframes, outcomes.
    """

    rows: NDArray[np.int8]
    steps: NDArray[np.float32]
    facts: Facts

    @classmethod
    def build(cls, setups: Setups) -> Self:
        """Return the set-ups with their vectors quantised; SettingError for a metric other than Euclidean."""
        if setups.metric != "euclidean":
            raise SettingError(f"int8 set-ups are Euclidean, got metric {setups.metric!r}: use exact search")
        rows, steps = quantised(setups.vectors)
        return cls(rows=rows, steps=steps, facts=setups.facts)

    def __len__(self) -> int:
        """Return the number of set-ups."""
        return int(self.rows.shape[0])

    def nearest(
        self,
        query: ArrayLike,
        k: int,
        *,
        only_with_outcome: bool = False,
        symbol: str | None = None,
        timeframe: str | None = None,
    ) -> Neighbours:
        """Return the k nearest set-ups by quantised distance; filters as in exact search."""
        vector = checked_query(query, k, self.rows.shape)
        kept = self.facts.passing(only_with_outcome=only_with_outcome, symbol=symbol, timeframe=timeframe)
        rows = np.arange(len(self)) if kept is None else kept
        squares = [self._squares(vector, rows[start : start + BLOCK]) for start in range(0, rows.size, BLOCK)]
        distances = np.concatenate(squares) if squares else np.empty(0, dtype=np.float32)
        if rows.size > k:
            near = np.flatnonzero(distances <= np.partition(distances, k - 1)[k - 1])
            rows, distances = rows[near], distances[near]
        return self.facts.neighbours(rows, np.sqrt(distances.astype(np.float64)), k)

    def _squares(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        is_run = rows.size == int(rows[-1]) - int(rows[0]) + 1
        place = slice(int(rows[0]), int(rows[-1]) + 1) if is_run else rows
        vectors = self.rows[place].astype(np.float32)
        vectors *= self.steps[place, None]
        vectors -= query
        return np.asarray(np.einsum("ij,ij->i", vectors, vectors))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaissSetups:
    """An HNSW graph of faiss proposes candidates, exact distances rank them; filtered queries are exact.

    Attributes
    ----------
    setups
        The exact set-ups.
    index
        The faiss index over their vectors.
    """

    setups: Setups
    index: Any

    @classmethod
    def build(cls, setups: Setups) -> Self:
        """Return the graph over the set-ups.

        Raises
        ------
        MissingExtraError
            faiss is not installed.
        """
        try:
            import faiss
        except ImportError as error:
            message = (
                "approximate search needs faiss: pip install 'pytest-tradeperf[vectors]', or search exactly"
            )
            raise MissingExtraError(message) from error
        if setups.metric != "euclidean":
            raise SettingError(f"faiss set-ups are Euclidean, got metric {setups.metric!r}: use exact search")
        if not len(setups):
            raise DataError(
                "there is no set-up to build a faiss index from: search exactly until there are many"
            )
        index = faiss.IndexHNSWFlat(setups.vectors.shape[1], LINKS)
        index.hnsw.efSearch = BREADTH
        index.add(np.asarray(setups.vectors))
        return cls(setups=setups, index=index)

    def nearest(
        self,
        query: ArrayLike,
        k: int,
        *,
        only_with_outcome: bool = False,
        symbol: str | None = None,
        timeframe: str | None = None,
    ) -> Neighbours:
        """Return k near set-ups; distances and the order of those found are exact."""
        if only_with_outcome or symbol is not None or timeframe is not None:
            return self.setups.nearest(
                query, k, only_with_outcome=only_with_outcome, symbol=symbol, timeframe=timeframe
            )
        vector = checked_query(query, k, self.setups.vectors.shape)
        _, found = self.index.search(vector[None, :], min(OVERSAMPLING * k, len(self.setups)))
        rows = np.sort(found[0][found[0] >= 0])
        return self.setups.facts.neighbours(rows, self.setups.distances(vector, rows), k)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """The search that passed the gate.

    Attributes
    ----------
    search
        What to ask for neighbours.
    backend
        ``"exact"``, ``"int8"`` or ``"faiss"``.
    recall
        Measured recall of `backend`, 1.0 for exact.
    refused
        Why the backend that was asked for is not used, or an empty text.
    """

    search: Search
    backend: Backend
    recall: float
    refused: str = ""


def choose_setups(
    setups: Setups,
    backend: Backend,
    *,
    k: int = 50,
    min_recall: float = 0.99,
    n_queries: int = 200,
    seed: int = 0,
) -> Choice:
    """Return the backend asked for where its recall reaches the gate, else exact search and the reason.

    Raises
    ------
    SettingError
        Unknown backend, or a gate outside 0..1.
    MissingExtraError
        faiss was asked for and is not installed.
    """
    if backend not in BACKENDS:
        raise SettingError(f"backend is {backend!r}: expected one of {', '.join(BACKENDS)}")
    if not 0.0 <= min_recall <= 1.0:
        raise SettingError(f"min_recall is {min_recall!r}: expected a fraction from 0 to 1")
    if backend == "exact" or not len(setups):
        return Choice(search=setups, backend="exact", recall=1.0)
    search: Search = QuantisedSetups.build(setups) if backend == "int8" else FaissSetups.build(setups)
    recall = measured_recall(setups, search, k=k, n_queries=n_queries, seed=seed)
    if recall >= min_recall:
        return Choice(search=search, backend=backend, recall=recall)
    refused = f"{backend} found {recall:.4f} of the {k} nearest, below {min_recall:.4f}: searching exactly"
    return Choice(search=setups, backend="exact", recall=1.0, refused=refused)


def measured_recall(
    setups: Setups, search: Search, *, k: int = 50, n_queries: int = 200, seed: int = 0
) -> float:
    """Return the recall of a search over rows drawn at random, in 0..1; 1.0 for fewer than two rows.

    Parameters
    ----------
    setups
        The exact truth.
    search
        Searches the same rows.
    k
        Neighbours asked for.
    n_queries
        Rows that ask; all rows where there are fewer.
    seed
        Of the draw.
    """
    if n_queries < 1:
        raise SettingError(f"n_queries is {n_queries!r}: expected at least 1")
    wanted = min(k, len(setups) - 1)
    if wanted < 1:
        return 1.0
    rows = np.random.default_rng(seed).choice(len(setups), size=min(n_queries, len(setups)), replace=False)
    hits = 0
    for row in rows.tolist():
        query = setups.vectors[row]
        exact = setups.nearest(query, wanted + 1)
        limit = exact.distances[exact.rows != row][wanted - 1] * (1.0 + SAME_DISTANCE)
        found = search.nearest(query, wanted + 1).rows
        found = np.sort(found[found != row][:wanted])
        hits += int((setups.distances(query, found) <= limit).sum())
    return hits / (wanted * rows.size)
