"""Whether decisions were any good, and whether one way of deciding is better than another.

Two arms are compared on the same tickers and dates only. Prices of one date move together, so the
interval resamples blocks of dates, never single decisions; where it holds 0 the honest answer is that
the arms cannot be told apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pytest_tradeperf.pipeline.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

_FEWEST_DATES: Final = 10
"""With fewer blocks to draw from, a percentile interval is far too narrow to be believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Decision quality with its interval: 0.5 is no information, 1 an oracle, 0 its opposite."""

    value: float
    low: float
    high: float
    n_decisions: int
    n_dates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two arms on the same decisions; ``difference`` is first minus second, with its interval."""

    first: Quality
    second: Quality
    difference: float
    low: float
    high: float
    verdict: Literal["first", "second", "indistinguishable"]


def decision_quality(convictions: "ArrayLike", excess_returns: "ArrayLike") -> float:
    """Return ``(1 + sum(d * r) / sum(abs(r))) / 2``.

    Parameters
    ----------
    convictions
        Array of shape (n_decisions,), signed, in [-1, 1]; an abstention is 0.
    excess_returns
        Array of shape (n_decisions,), forward returns over the reference, after cost.

    Returns
    -------
    float
        0.5 where nothing moved.

    Examples
    --------
    >>> decision_quality([1, -1, 0], [0.02, -0.01, 0.01])
    0.875
    """
    d, r = _checked(convictions, excess_returns)
    moved = float(abs(r).sum())
    return 0.5 if moved == 0 else float((1 + (d * r).sum() / moved) / 2)


def compare(
    first: "ArrayLike",
    second: "ArrayLike",
    excess_returns: "ArrayLike",
    dates: Sequence[object],
    *,
    level: float = 0.95,
    block: int = 5,
    draws: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Return whether one arm's decisions were better on the same ticker-dates.

    Parameters
    ----------
    first, second
        Convictions of the two arms, arrays of shape (n_decisions,).
    dates
        Of each decision, sortable; decisions of one date are drawn together.
    level
        Confidence level of the intervals.
    block
        Dates in a row that are drawn together; at least the horizon, whose returns overlap.
    draws
        Bootstrap samples (circular blocks; Politis and Romano, 1992).

    Raises
    ------
    DataError
        Arrays differ in length, values out of range, or fewer than ten dates.
    """
    import numpy as np

    d1, r = _checked(first, excess_returns)
    d2, _ = _checked(second, excess_returns)
    days, place = np.unique(np.asarray(dates), return_inverse=True)
    if place.size != r.size:
        raise DataError(f"{place.size} dates for {r.size} decisions: give one date a decision")
    if days.size < _FEWEST_DATES:
        raise DataError(
            f"{days.size} dates are too few to tell arms apart; at least {_FEWEST_DATES} are needed"
        )
    sums = [np.bincount(place, values, days.size) for values in (d1 * r, d2 * r, np.abs(r))]
    rng = np.random.default_rng(seed)
    block = max(1, min(block, days.size))
    starts = rng.integers(0, days.size, (draws, -(-days.size // block)))
    rows = (starts[:, :, None] + np.arange(block)).reshape(draws, -1)[:, : days.size] % days.size
    gained_1, gained_2, moved = (column[rows].sum(axis=1) for column in sums)
    moved = np.where(moved == 0, 1.0, moved)
    q1, q2 = (1 + gained_1 / moved) / 2, (1 + gained_2 / moved) / 2
    tails = [(1 - level) / 2, (1 + level) / 2]
    qualities = [
        _quality(decision_quality(d, r), draws_, tails, r.size, days.size)
        for d, draws_ in ((d1, q1), (d2, q2))
    ]
    low, high = (float(bound) for bound in np.quantile(q1 - q2, tails))
    return Comparison(
        first=qualities[0],
        second=qualities[1],
        difference=qualities[0].value - qualities[1].value,
        low=low,
        high=high,
        verdict="first" if low > 0 else "second" if high < 0 else "indistinguishable",
    )


def _quality(
    value: float, drawn: "NDArray[np.float64]", tails: Sequence[float], n_decisions: int, n_dates: int
) -> Quality:
    import numpy as np

    low, high = (float(bound) for bound in np.quantile(drawn, tails))
    return Quality(value=value, low=low, high=high, n_decisions=n_decisions, n_dates=n_dates)


def _checked(
    convictions: "ArrayLike", excess_returns: "ArrayLike"
) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    import numpy as np

    d, r = np.asarray(convictions, float), np.asarray(excess_returns, float)
    if d.ndim != 1 or d.shape != r.shape:
        raise DataError(
            f"convictions of shape {d.shape} and returns of shape {r.shape}: give one each a decision"
        )
    if not (np.isfinite(r).all() and (np.abs(d) <= 1).all()):
        raise DataError("convictions must be in [-1, 1] and returns finite: leave out what is not known yet")
    return d, r
