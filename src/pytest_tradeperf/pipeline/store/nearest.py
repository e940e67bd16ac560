"""Past set-ups nearest to a new one: exact, over float32, with ties in a stable order.

The matrix product that finds candidates rounds; so a band as wide as its rounding error is kept around the
k-th candidate, and what is in the band is ranked by distances computed row by row in float64. The answer is
that of a plain loop, whatever the row order does to the blocks of the matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError, SettingError
from pytest_tradeperf.pipeline.store.facts import Facts, Neighbours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

Metric = Literal["euclidean", "cosine"]
METRICS: Final = ("euclidean", "cosine")
# Half the distance between 1 and the next float32: the largest relative error of one rounding.
ROUNDING: Final = 2.0**-24
# Longer vectors have squares near the end of float32, shorter ones lose theirs to underflow.
LONGEST: Final = 1e15
SHORTEST: Final = 1e-10
# Added to every error bound: what products of small numbers lose to underflow is far less.
UNDERFLOW: Final = 1e-37
# Rows ranked in float64 at once: 4,096 x 64 doubles are 2 MB.
BLOCK: Final = 4_096
# So few rows are ranked without looking for candidates first.
FEW_ROWS: Final = 128
# A filter that leaves less than this share of the rows is applied before the matrix product, else after it.
SMALL_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setups:
    """Vectors of past set-ups with what is known of them; built by :meth:`build`.

    Attributes
    ----------
    vectors
        Read-only float32 ndarray of shape (n_setups, n_features).
    squares
        float32 ndarray of shape (n_setups,): squared lengths.
    facts
        Keys, symbols, timeframes, outcomes.
    metric
        ``"euclidean"`` or ``"cosine"``. A vector of zeros has cosine distance 1 to everything.
    """

    vectors: NDArray[np.float32]
    squares: NDArray[np.float32]
    facts: Facts
    metric: Metric

    @classmethod
    def build(
        cls,
        vectors: ArrayLike,
        *,
        keys: Sequence[str] = (),
        symbols: Sequence[str] = (),
        timeframes: Sequence[str] = (),
        outcomes: ArrayLike = (),
        metric: Metric = "euclidean",
    ) -> Self:
        """Return set-ups, checked.

        Parameters
        ----------
        vectors
            Shape (n_setups, n_features), finite. Standardise the features first: a distance adds them up.
        keys, symbols, timeframes, outcomes
            One a row, or nothing.

        Raises
        ------
        DataError
            Shapes do not fit, or a vector is not finite.

        Examples
        --------
        >>> vectors, unknown = [[0, 0], [3, 4], [0, 1]], float("nan")
        >>> past = Setups.build(vectors, keys=["a", "b", "c"], outcomes=[0.1, -0.2, unknown])
        >>> found = past.nearest([0, 0], 2)
        >>> found.keys, found.distances
        (('a', 'c'), array([0., 1.]))
        >>> past.nearest([0, 0], 2, only_with_outcome=True).keys
        ('a', 'b')
        """
        if metric not in METRICS:
            raise SettingError(f"metric is {metric!r}: expected 'euclidean' or 'cosine'")
        matrix = _checked_matrix(vectors)
        squares = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64)
        if squares.max(initial=0.0) > LONGEST**2:
            longest = float(np.sqrt(squares.max()))
            raise DataError(
                f"a vector has length {longest:.3g}: expected at most {LONGEST:g}; standardise the features"
            )
        facts = Facts.build(matrix.shape[0], keys, symbols, timeframes, outcomes)
        return cls(vectors=matrix, squares=squares.astype(np.float32), facts=facts, metric=metric)

    def __len__(self) -> int:
        """Return the number of set-ups."""
        return int(self.vectors.shape[0])

    def nearest(
        self,
        query: ArrayLike,
        k: int,
        *,
        only_with_outcome: bool = False,
        symbol: str | None = None,
        timeframe: str | None = None,
    ) -> Neighbours:
        """Return the k nearest set-ups that pass the filters, or fewer; O(n_setups * n_features).

        Parameters
        ----------
        query
            Shape (n_features,), finite.
        k
            At least 1.
        only_with_outcome
            Leave out set-ups whose outcome is not known.
        symbol, timeframe
            Only these; a name that no set-up has finds nothing.
        """
        vector = checked_query(query, k, self.vectors.shape)
        rows = self.facts.passing(only_with_outcome=only_with_outcome, symbol=symbol, timeframe=timeframe)
        near = self._candidates(vector, k, rows)
        return self.facts.neighbours(near, self.distances(vector, near), k)

    def distances(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return exact distances to some rows; a row's own sum, so the same for the same vector anywhere."""
        parts = [self._distances(query, rows[start : start + BLOCK]) for start in range(0, rows.size, BLOCK)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _distances(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        vectors = self.vectors[rows].astype(np.float64)
        wanted = query.astype(np.float64)
        if self.metric == "euclidean":
            vectors -= wanted
            np.multiply(vectors, vectors, out=vectors)
            return np.asarray(np.sqrt(vectors.sum(axis=1)))
        lengths = np.sqrt((vectors * vectors).sum(axis=1)) * np.sqrt((wanted * wanted).sum())
        products = (vectors * wanted).sum(axis=1)
        return np.asarray(1.0 - np.divide(products, lengths, out=np.zeros(rows.size), where=lengths > 0))

    def _candidates(
        self, query: NDArray[np.float32], k: int, rows: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        """Return ascending rows among which the k nearest certainly are."""
        if rows is None and len(self) <= max(k, FEW_ROWS):
            return np.arange(len(self))
        if rows is not None and rows.size <= max(k, FEW_ROWS):
            return rows
        is_gathered = rows is not None and rows.size < SMALL_SHARE * len(self)
        vectors = self.vectors[rows] if is_gathered else self.vectors
        squares = self.squares[rows] if is_gathered else self.squares
        scores, slack = self._scores(vectors, squares, query)
        if rows is not None and not is_gathered:
            scores, slack = scores[rows], slack[rows]
        limit = np.partition(scores + slack, k - 1)[k - 1]
        scores -= slack
        near = np.flatnonzero(scores <= limit)
        return near if rows is None else rows[near]

    def _scores(
        self, vectors: NDArray[np.float32], squares: NDArray[np.float32], query: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return float32 scores that order like distances, and how far each may be off.

        A product of n float32 pairs is off by at most n u |x||q| (N. J. Higham, Accuracy and Stability of
        Numerical Algorithms, 2002, section 3.1); twice that and a few roundings more are taken.
        """
        error = np.float32(4.0 * (vectors.shape[1] + 8) * ROUNDING)
        wanted = query.astype(np.float64)
        square = float((wanted * wanted).sum())
        if self.metric == "euclidean":
            scores = vectors @ query
            scores *= np.float32(-2.0)
            scores += squares
            slack = squares + np.float32(square)
            slack *= error
            slack += np.float32(UNDERFLOW)
            return scores, slack
        direction = (wanted / np.sqrt(square) if square > 0 else wanted).astype(np.float32)
        is_long = squares > SHORTEST**2
        scores = np.divide(vectors @ direction, -np.sqrt(squares), out=np.zeros_like(squares), where=is_long)
        return scores, np.where(is_long, error, np.float32(np.inf))


def checked_query(query: ArrayLike, k: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the query as float32, or say what is wrong with it, or with k, for set-ups of this shape."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise SettingError(f"k is {k!r}: expected a whole number of neighbours, at least 1")
    vector = _as_float32(query)
    if vector.ndim != 1 or (shape[0] and vector.shape != shape[1:]):
        raise DataError(f"query has shape {vector.shape}: expected ({shape[1]},) like the set-ups")
    if not np.isfinite(vector).all() or np.abs(vector).max(initial=0.0) > LONGEST:
        raise DataError(f"query {vector.tolist()!r} has a value that is NaN, infinite or above {LONGEST:g}")
    return vector


def _as_float32(values: ArrayLike) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, dtype=np.float32, order="C")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"vectors cannot be read as numbers: {error}; give rows of the same length"
        ) from error


def _checked_matrix(values: ArrayLike) -> NDArray[np.float32]:
    matrix = _as_float32(values)
    if matrix.ndim != 2:  # noqa: PLR2004 - a matrix has two dimensions
        raise DataError(f"vectors have shape {matrix.shape}: expected (n_setups, n_features)")
    if not np.isfinite(matrix).all():
        row = int((~np.isfinite(matrix)).any(axis=1).argmax())
        raise DataError(f"vector {row} is not finite in float32: {matrix[row].tolist()!r}; drop or repair it")
    matrix = matrix.view()
    matrix.flags.writeable = False
    return matrix
