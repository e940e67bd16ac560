import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tradeperf.stats.estimators import low_decile, quantile, robust_sd

values = st.lists(st.floats(min_value=-1e9, max_value=1e9), min_size=1, max_size=30)


def test_the_low_decile_of_eleven_values_is_the_second() -> None:
    assert low_decile([20, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]) == 11.0


@pytest.mark.parametrize(("q", "expected"), [(0, 1.0), (0.25, 1.75), (0.5, 2.5), (0.9, 3.7), (1, 4.0)])
def test_quantiles_interpolate_linearly(q: float, expected: float) -> None:
    assert quantile([4, 2, 3, 1], q) == pytest.approx(expected)


def test_quartiles_agree_with_the_standard_library() -> None:
    data = [7.0, 1.5, 9.25, 3.0, 4.0, 8.0]
    assert [quantile(data, q) for q in (0.25, 0.5, 0.75)] == pytest.approx(
        statistics.quantiles(data, n=4, method="inclusive")
    )


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_a_quantile_outside_zero_to_one_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile([1.0], q)


def test_no_values_have_no_quantile_and_no_spread() -> None:
    with pytest.raises(ValueError, match="no values"):
        low_decile([])
    with pytest.raises(ValueError, match="no median"):
        robust_sd([])


@given(values, st.floats(min_value=0, max_value=1))
def test_a_quantile_lies_within_the_values(data: list[float], q: float) -> None:
    room = 1e-6
    assert min(data) - room <= quantile(data, q) <= max(data) + room


@given(values)
def test_order_does_not_matter(data: list[float]) -> None:
    shuffled = sorted(data, reverse=True)
    assert low_decile(shuffled) == low_decile(data)
    assert robust_sd(shuffled) == robust_sd(data)


@given(values, st.floats(min_value=1e-3, max_value=1e3))
def test_the_spread_scales_with_the_values(data: list[float], factor: float) -> None:
    assert robust_sd([factor * v for v in data]) == pytest.approx(
        factor * robust_sd(data), rel=1e-6, abs=1e-3
    )


def test_one_wild_value_does_not_move_the_spread() -> None:
    assert robust_sd([1, 2, 3, 4, 100]) == robust_sd([1, 2, 3, 4, 1e9]) == pytest.approx(1.4826)


def test_equal_values_have_no_spread() -> None:
    assert robust_sd([5.0]) == robust_sd([5.0, 5.0]) == 0.0
