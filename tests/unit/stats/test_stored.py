import pytest

from pytest_tradeperf.stats.stored import FLOOR, SPREADS, against_stored


def test_the_change_is_the_median_over_processes_within_the_extremes() -> None:
    found = against_stored(100, 0.01, [110, 130, 120], floor=FLOOR)
    assert (found.change, found.low, found.high) == pytest.approx((0.2, 0.1, 0.3))


def test_nothing_below_the_floor_is_detectable() -> None:
    assert against_stored(100, 0.0, [100, 100, 100], floor=FLOOR).detectable == FLOOR


def test_noise_at_acceptance_raises_what_is_detectable() -> None:
    assert against_stored(100, 0.4, [100, 100], floor=FLOOR).detectable == pytest.approx(SPREADS * 0.4)


def test_noise_between_fresh_processes_raises_what_is_detectable() -> None:
    found = against_stored(100, 0.0, [100, 200, 300], floor=FLOOR)
    assert found.detectable == pytest.approx(SPREADS * 1.4826 * 1 / 2)


def test_one_value_has_the_noise_of_acceptance_alone() -> None:
    assert against_stored(100, 0.1, [500], floor=0.5).detectable == pytest.approx(0.6)


def test_values_of_zero_are_a_full_loss_and_no_division() -> None:
    found = against_stored(100, 0.0, [0, 0, 0], floor=FLOOR)
    assert (found.change, found.detectable) == (-1.0, FLOOR)


@pytest.mark.parametrize(("accepted", "fresh"), [(0, [1.0]), (-1, [1.0]), (1, [])])
def test_nothing_can_be_said_without_a_positive_value_and_a_fresh_one(
    accepted: float, fresh: list[float]
) -> None:
    with pytest.raises(ValueError, match="need a positive accepted value"):
        against_stored(accepted, 0.0, fresh, floor=0.5)
