from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pytest_tradeperf.pipeline.errors import DataError, SettingError
from pytest_tradeperf.pipeline.store.nearest import FEW_ROWS, Setups

if TYPE_CHECKING:
    from numpy.typing import NDArray


def by_loop(vectors: NDArray[Any], query: NDArray[Any], k: int, metric: str, rows: list[int]) -> list[int]:
    """The plain answer: every distance in double precision, ties by row."""
    wanted = query.astype(np.float32).astype(np.float64)
    scored = []
    for row in rows:
        vector = vectors[row].astype(np.float32).astype(np.float64)
        if metric == "euclidean":
            distance = float(np.sqrt(((vector - wanted) ** 2).sum()))
        else:
            lengths = float(np.sqrt((vector * vector).sum()) * np.sqrt((wanted * wanted).sum()))
            distance = 1.0 - (float((vector * wanted).sum()) / lengths if lengths > 0 else 0.0)
        scored.append((distance, row))
    return [row for _, row in sorted(scored)[:k]]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_exact_search_is_the_plain_loop(metric: Any, scale: float) -> None:
    generator = np.random.default_rng(11)
    vectors = generator.normal(size=(2_000, 16)) * scale + scale * 50  # far from zero: the products cancel
    past = Setups.build(vectors, metric=metric)
    for k in (1, 7, 50, 1_999, 5_000):
        query = vectors[5] + generator.normal(size=16) * 1e-3 * scale
        assert past.nearest(query, k).rows.tolist() == by_loop(vectors, query, k, metric, list(range(2_000)))


# As float32 has them: hypothesis refuses elements that its arrays would round.
ELEMENTS = [float(np.float32(value)) for value in (0.0, 1.0, -1.0, 0.1, 1e-20, 1e-30, 1e6, 1e14, 3.0)]


@given(
    vectors=hnp.arrays(
        np.float32,
        st.tuples(st.integers(FEW_ROWS + 1, FEW_ROWS + 40), st.integers(1, 5)),
        elements=st.sampled_from(ELEMENTS),
    ),
    k=st.integers(1, 30),
    place=st.integers(0, FEW_ROWS),
    metric=st.sampled_from(["euclidean", "cosine"]),
)
@settings(max_examples=150, deadline=None)
def test_exact_search_is_the_plain_loop_with_ties_and_extreme_sizes(
    vectors: NDArray[np.float32], k: int, place: int, metric: Any
) -> None:
    past = Setups.build(vectors, metric=metric)
    rows = list(range(len(vectors)))
    assert past.nearest(vectors[place], k).rows.tolist() == by_loop(vectors, vectors[place], k, metric, rows)


def test_equally_near_rows_stay_in_stored_order_wherever_they_are() -> None:
    vectors = np.random.default_rng(2).normal(size=(3_000, 33)).astype(np.float32)
    twins = [3, 17, 1_024, 2_047, 2_999]
    vectors[twins] = vectors[3]
    found = Setups.build(vectors).nearest(vectors[3] + 0.01, 5)
    assert found.rows.tolist() == twins
    assert len(set(found.distances.tolist())) == 1


@pytest.mark.parametrize("share", [0.01, 0.1, 0.6, 0.999])
def test_filters_leave_the_order_of_the_rest(share: float) -> None:
    generator = np.random.default_rng(4)
    vectors = generator.normal(size=(2_000, 8))
    outcomes = np.where(generator.random(2_000) < share, 0.1, np.nan)
    symbols = [("GOOG", "IBM", "FB")[row % 3] for row in range(2_000)]
    timeframes = [("1d", "1h")[row % 2] for row in range(2_000)]
    past = Setups.build(vectors, symbols=symbols, timeframes=timeframes, outcomes=outcomes)
    query = generator.normal(size=8)
    fits = [row for row in range(2_000) if row % 6 == 1 and not np.isnan(outcomes[row])]
    found = past.nearest(query, 20, only_with_outcome=True, symbol="IBM", timeframe="1h")
    assert found.rows.tolist() == by_loop(vectors, query, 20, "euclidean", fits)
    known = [row for row in range(2_000) if not np.isnan(outcomes[row])]
    found = past.nearest(query, 20, only_with_outcome=True)
    assert found.rows.tolist() == by_loop(vectors, query, 20, "euclidean", known)
    assert not np.isnan(found.outcomes).any()


def test_a_name_that_no_setup_has_finds_nothing() -> None:
    past = Setups.build([[1.0], [2.0]], symbols=["A", "B"])
    assert len(past.nearest([1.0], 1, symbol="C")) == 0
    assert len(past.nearest([1.0], 1, timeframe="1d")) == 0


def test_a_vector_of_zeros_is_at_cosine_distance_one() -> None:
    past = Setups.build(np.vstack([np.zeros((200, 2)), [[1.0, 0.0]], [[-1.0, 0.0]]]), metric="cosine")
    found = past.nearest([2.0, 0.0], 202)
    assert found.distances[[0, 1, 201]].tolist() == [0.0, 1.0, 2.0]
    assert past.nearest([0.0, 0.0], 3).distances.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ([1.0, 2.0], r"shape \(2,\): expected \(n_setups, n_features\)"),
        ([[1.0], [float("nan")]], "vector 1 is not finite"),
        ([[1e39]], "vector 0 is not finite in float32"),
        ([[1e20]], "length 1e\\+20: expected at most"),
        ([[1.0], [1.0, 2.0]], "cannot be read as numbers"),
        ([["a"]], "cannot be read as numbers"),
    ],
)
def test_vectors_that_cannot_be_used_are_named(vectors: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Setups.build(vectors)


@pytest.mark.parametrize("name", ["keys", "symbols", "timeframes", "outcomes"])
def test_one_entry_a_row(name: str) -> None:
    with pytest.raises(DataError, match=f"{name} has 1 entries for 2 vectors"):
        Setups.build([[1.0], [2.0]], **{name: [0.0] if name == "outcomes" else ["x"]})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "words"),
    [([1.0, 2.0], "expected \\(1,\\)"), ([float("nan")], "NaN"), (1.0, "shape"), ([1e30], "above")],
)
def test_a_query_that_cannot_be_used_is_named(query: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Setups.build([[1.0], [2.0]]).nearest(query, 1)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, None])
def test_k_is_a_whole_number(k: Any) -> None:
    with pytest.raises(SettingError, match="expected a whole number of neighbours"):
        Setups.build([[1.0]]).nearest([1.0], k)


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(SettingError, match="metric is 'manhattan'"):
        Setups.build([[1.0]], metric="manhattan")  # type: ignore[arg-type]


def test_no_setups_find_nothing() -> None:
    assert len(Setups.build(np.empty((0, 4))).nearest([1.0] * 4, 3)) == 0
