import itertools
import math
import random

import pytest

from pytest_tradeperf.stats.sequential import Answer, Design, boundaries, lower_limit, upper_limit


@pytest.mark.parametrize(("alpha", "horizon"), [(0.05, 10), (0.2, 12), (0.01, 14)])
def test_chance_of_ever_crossing_is_at_most_alpha_over_all_paths(alpha: float, horizon: int) -> None:
    bounds = boundaries(alpha, horizon)
    crossed = sum(
        any(sum(path[:n]) >= bounds[n - 1] for n in range(1, horizon + 1))
        for path in itertools.product((0, 1), repeat=horizon)
    )
    share = crossed / 2**horizon
    assert 0.5 * alpha < share <= alpha


def test_boundary_never_asks_for_fewer_signs_later() -> None:
    bounds = boundaries(0.0005, 40)
    assert list(bounds) == sorted(bounds)
    assert all(bounds[n - 1] > n for n in range(1, 11)), "10 equal signs happen once in 1024"


def test_eleven_pairs_at_least_for_twenty_tests_at_one_percent() -> None:
    assert 11 <= Design(alpha=0.01 / 20).fewest <= 13


def test_limits_are_order_statistics() -> None:
    values = [0.03, 0.01, 0.02, 0.05, 0.04, 0.06]
    assert lower_limit(values, [9, 9, 9, 9, 9, 5]) == 0.02
    assert upper_limit(values, [9, 9, 9, 9, 9, 5]) == 0.05
    assert lower_limit(values, [9, 9, 9, 9, 9, 7]) == -math.inf


def test_clear_slowdown_regresses_with_an_interval_above_the_threshold() -> None:
    design = Design(alpha=0.001)
    look = design.look([math.log(1.05)] * design.fewest, 0.02)
    assert look.answer is Answer.REGRESSED
    assert look.change == pytest.approx(0.05)
    assert look.low > 0.02


def test_one_disturbed_pair_cannot_decide() -> None:
    design = Design(alpha=0.01)
    assert design.look([0.0] * 12 + [5.0], 0.02).answer is Answer.OK


def test_ok_names_a_detectable_size_within_the_threshold() -> None:
    dice = random.Random(1)
    for _ in range(200):
        design = Design(alpha=0.001)
        look = design.look([dice.gauss(0.0, 0.01) for _ in range(9)], 0.02)
        if look.answer is Answer.OK:
            assert look.detectable <= 0.02
            assert look.high <= 0.02


def test_wide_spread_below_the_threshold_stays_open() -> None:
    assert (
        Design(alpha=0.01).look([-0.5, -0.001, -0.4, -0.2, -0.3, -0.1, -0.6, 0.0], 0.02).answer is Answer.OPEN
    )


def test_faster_code_is_improved_only_beyond_the_threshold() -> None:
    design = Design(alpha=0.01)
    assert design.look([math.log(0.9)] * 8, 0.02).answer is Answer.IMPROVED
    assert design.look([math.log(0.99)] * 8, 0.02).answer is Answer.OK


def test_change_at_the_threshold_alarms_no_more_than_alpha_whatever_the_tails() -> None:
    dice, design, alarms, sessions = random.Random(7), Design(alpha=0.05, horizon=20), 0, 1500
    for _ in range(sessions):
        ratios = [
            math.log1p(0.02) + 0.01 * math.tan(math.pi * (dice.random() - 0.5)) for _ in range(20)
        ]  # Cauchy
        alarms += any(design.look(ratios[:n], 0.02).answer is Answer.REGRESSED for n in range(1, 21))
    assert alarms / sessions < 0.05 + 3 * math.sqrt(0.05 * 0.95 / sessions)


def test_power_is_high_two_standard_deviations_above_the_threshold() -> None:
    dice, design, found = random.Random(8), Design(alpha=0.0005), 0
    for _ in range(200):
        ratios = [math.log1p(0.02) + dice.gauss(0, 0.0045) for _ in range(40)]
        found += any(design.look(ratios[:n], 0.01).answer is Answer.REGRESSED for n in range(11, 41))
    assert found / 200 > 0.95


def test_pairs_needed_grows_without_bound_at_the_threshold() -> None:
    design = Design(alpha=0.001)
    assert design.pairs_needed([0.03] * 9 + [0.0], 0.02) < 40
    assert design.pairs_needed([0.03, 0.01] * 5, 0.02) == math.inf


@pytest.mark.parametrize("pairs", [0, 61])
def test_no_pairs_or_too_many_are_refused(pairs: int) -> None:
    with pytest.raises(ValueError, match="horizon of 60"):
        Design(alpha=0.01).look([0.0] * pairs, 0.02)
