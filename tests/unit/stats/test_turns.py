import math
import random

import pytest

from pytest_tradeperf.stats.turns import paired_log_ratio


def test_slow_spells_that_hit_both_sides_cancel() -> None:
    dice = random.Random(3)
    machine = [dice.choice((1.0, 1.07, 2.0)) for _ in range(60)]
    ratio = paired_log_ratio([100 * m for m in machine], [103 * m for m in machine])
    assert ratio.value == pytest.approx(math.log(1.03))
    assert ratio.error == pytest.approx(0, abs=1e-12)


def test_swapping_the_sides_changes_only_the_sign() -> None:
    dice = random.Random(4)
    base, head = ([dice.lognormvariate(0, 0.1) for _ in range(31)] for _ in range(2))
    assert paired_log_ratio(base, head).value == pytest.approx(-paired_log_ratio(head, base).value)


def test_turns_in_which_one_side_was_disturbed_do_not_move_it() -> None:
    assert paired_log_ratio([10] * 25 + [50] * 20, [10] * 45).value == 0
    assert paired_log_ratio([10, 10, 10, 10, 60, 70], [11, 11, 11, 11, 10, 10]).value == math.log(1.1)


def test_error_falls_with_the_turns() -> None:
    dice = random.Random(5)
    sides = [[dice.lognormvariate(0, 0.1) for _ in range(400)] for _ in range(2)]
    few, many = (paired_log_ratio(sides[0][:n], sides[1][:n]).error for n in (100, 400))
    assert many == pytest.approx(few / 2, rel=0.2)


@pytest.mark.parametrize(("base", "head"), [([], []), ([1.0], [1.0, 2.0])])
def test_unequal_or_no_turns_are_refused(base: list[float], head: list[float]) -> None:
    with pytest.raises(ValueError, match="make no pairs"):
        paired_log_ratio(base, head)
