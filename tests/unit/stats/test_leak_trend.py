import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tradeperf.stats.leaks import rising_p_value, theil_sen_slope


def test_mann_kendall_equals_the_hand_worked_value() -> None:
    # S = 28 of 28 pairs, Var = 8*7*21/18 = 65.333, z = 27/8.083 = 3.3404
    assert rising_p_value([1, 2, 3, 4, 5, 6, 7, 8]) == pytest.approx(4.183e-4, rel=1e-3)


def test_mann_kendall_corrects_for_ties() -> None:
    # S = 15 of 15 pairs less the tied ones: values 1 1 2 2 3 3 -> S = 12,
    # Var = (6*5*17 - 3*(2*1*9)) / 18 = 25.333, z = 11/5.0332 = 2.1855
    assert rising_p_value([1, 1, 2, 2, 3, 3]) == pytest.approx(0.01443, abs=2e-5)


def test_no_change_and_a_fall_are_no_rise() -> None:
    assert rising_p_value([7, 7, 7, 7, 7]) == 1.0
    assert rising_p_value([5, 4, 3, 2, 1]) > 0.95


def test_false_alarms_on_noise_stay_at_the_level_asked_for() -> None:
    source = random.Random(7)
    alarms = sum(rising_p_value([source.gauss(0, 1) for _ in range(12)]) < 0.05 for _ in range(2000))
    assert 50 <= alarms <= 140


def test_too_few_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least four values, not 3"):
        rising_p_value([1, 2, 3])
    with pytest.raises(ValueError, match="at least two values, not 1"):
        theil_sen_slope([1])


def test_slope_ignores_a_table_that_doubles_once() -> None:

    assert theil_sen_slope([0] * 7 + [640]) == 0.0


@given(st.lists(st.integers(-1000, 1000), min_size=4, max_size=20), st.integers(-50, 50), st.integers(1, 9))
def test_shift_changes_nothing_and_scale_scales(values: list[int], shift: int, scale: int) -> None:
    moved = [scale * v + shift for v in values]
    assert theil_sen_slope(moved) == pytest.approx(scale * theil_sen_slope(values))
    assert rising_p_value(moved) == rising_p_value(values)
