from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pytest_tradeperf.pipeline.errors import DataError, MissingExtraError, SettingError
from pytest_tradeperf.pipeline.store.approximate import (
    FaissSetups,
    QuantisedSetups,
    choose_setups,
    measured_recall,
)
from pytest_tradeperf.pipeline.store.codec import quantised
from pytest_tradeperf.pipeline.store.nearest import Setups

if TYPE_CHECKING:
    from numpy.typing import NDArray


def clustered(n: int = 3_000, seed: int = 5) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(20, 12))
    return centres[generator.integers(0, 20, n)] + 0.3 * generator.normal(size=(n, 12))


def test_a_quantised_feature_is_within_half_a_step() -> None:
    vectors = clustered().astype(np.float32)
    rows, steps = quantised(vectors)
    assert rows.dtype == np.int8
    assert (np.abs(rows * steps[:, None] - vectors) <= steps[:, None] * 0.5001).all()


def test_int8_takes_a_quarter_and_finds_nearly_all() -> None:
    past = Setups.build(clustered())
    small = QuantisedSetups.build(past)
    assert small.rows.nbytes * 4 == past.vectors.nbytes
    assert measured_recall(past, small, k=20, n_queries=50) > 0.95


def test_exact_search_has_recall_one_even_with_twins() -> None:
    past = Setups.build(np.repeat(clustered(50), 6, axis=0))
    assert measured_recall(past, past, k=10, n_queries=50) == 1.0


def test_recall_counts_what_is_missing() -> None:
    past = Setups.build(clustered(400))

    class Half:
        """Finds every second neighbour only."""

        def nearest(self, query, k, **filters):  # type: ignore[no-untyped-def]
            found = past.nearest(query, 2 * k)
            return past.facts.neighbours(
                np.sort(found.rows[::2]), past.distances(query, np.sort(found.rows[::2])), k
            )

    assert measured_recall(past, Half(), k=10, n_queries=40) == pytest.approx(0.5, abs=0.1)


def test_recall_of_one_row_has_nothing_to_miss() -> None:
    past = Setups.build([[1.0]])
    assert measured_recall(past, past) == 1.0


def test_int8_filters_like_exact_search() -> None:
    vectors = clustered(500)
    outcomes = np.where(np.arange(500) % 3 == 0, 0.5, np.nan)
    past = Setups.build(vectors, symbols=["AB"[row % 2] for row in range(500)], outcomes=outcomes)
    found = QuantisedSetups.build(past).nearest(vectors[7], 20, symbol="B", only_with_outcome=True)
    assert set(found.rows.tolist()) <= {row for row in range(500) if row % 2 == 1 and row % 3 == 0}
    assert len(found) == 20
    assert (np.diff(found.distances) >= 0).all()
    assert len(QuantisedSetups.build(past).nearest(vectors[7], 5, symbol="C")) == 0


def test_int8_ties_stay_in_stored_order() -> None:
    vectors = clustered(20_000)
    twins = [5, 8_191, 8_192, 19_999]
    vectors[twins] = vectors[5]
    found = QuantisedSetups.build(Setups.build(vectors)).nearest(vectors[5], 4)
    assert found.rows.tolist() == twins


def test_faiss_ranks_exactly_what_it_finds() -> None:
    pytest.importorskip("faiss")
    past = Setups.build(clustered())
    graph = FaissSetups.build(past)
    query = clustered(1, seed=9)[0]
    assert graph.nearest(query, 10).rows.tolist() == past.nearest(query, 10).rows.tolist()
    assert measured_recall(past, graph, k=10, n_queries=50) > 0.95


def test_faiss_answers_filtered_queries_exactly() -> None:
    pytest.importorskip("faiss")
    past = Setups.build(clustered(), symbols=["A" if row % 100 else "B" for row in range(3_000)])
    query = clustered(1, seed=9)[0]
    found = FaissSetups.build(past).nearest(query, 30, symbol="B")
    assert found.rows.tolist() == past.nearest(query, 30, symbol="B").rows.tolist()
    assert len(found) == 30


@pytest.mark.parametrize("backend", ["int8", "faiss"])
def test_the_gate_falls_back_to_exact_and_says_why(backend: str) -> None:
    if backend == "faiss":
        pytest.importorskip("faiss")
    uniform = np.random.default_rng(0).normal(size=(3_000, 64))
    past = Setups.build(uniform)
    chosen = choose_setups(past, backend, k=10, min_recall=1.0, n_queries=40)  # type: ignore[arg-type]
    if chosen.backend == "exact":
        assert chosen.search is past
        assert f"{backend} found 0.9" in chosen.refused or f"{backend} found 0." in chosen.refused
    else:
        assert chosen.recall == 1.0
    assert choose_setups(past, backend, k=10, min_recall=0.5, n_queries=40).backend == backend  # type: ignore[arg-type]


def test_exact_needs_no_gate() -> None:
    past = Setups.build(clustered(10))
    chosen = choose_setups(past, "exact")
    assert (chosen.search, chosen.recall, chosen.refused) == (past, 1.0, "")


def test_the_recall_gate_refuses_a_poor_search() -> None:
    generator = np.random.default_rng(1)
    spiky = generator.normal(size=(2_000, 8)) * 1e-3
    spiky[:, 0] = 1.0  # one large feature takes all the steps of int8: the others vanish
    past = Setups.build(spiky)
    chosen = choose_setups(past, "int8", k=10, n_queries=40)
    assert chosen.backend == "exact"
    assert "int8 found 0." in chosen.refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"backend": "annoy"}, "expected one of exact, int8, faiss"),
        ({"backend": "int8", "min_recall": 2}, "expected a fraction"),
        ({"backend": "int8", "n_queries": 0}, "n_queries is 0"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        choose_setups(Setups.build(clustered(10)), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [QuantisedSetups, FaissSetups])
def test_only_euclidean_distances_are_approximated(kind: type[QuantisedSetups | FaissSetups]) -> None:
    if kind is FaissSetups:
        pytest.importorskip("faiss")
    with pytest.raises(SettingError, match="use exact search"):
        kind.build(Setups.build(clustered(10), metric="cosine"))


def test_faiss_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pytest-tradeperf\[vectors\]'"):
        choose_setups(Setups.build(clustered(10)), "faiss")


def test_faiss_of_nothing_is_refused() -> None:
    pytest.importorskip("faiss")
    with pytest.raises(DataError, match="search exactly until there are many"):
        FaissSetups.build(Setups.build(np.empty((0, 3))))
    assert choose_setups(Setups.build(np.empty((0, 3))), "faiss").backend == "exact"
