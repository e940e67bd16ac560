import math
import random

import pytest

from pytest_tradeperf.stats.replay import Rate, alarms, decide, detections
from pytest_tradeperf.stats.sequential import Answer, Design


@pytest.mark.parametrize(
    ("count", "trials", "lower", "upper"),
    [(0, 500, 0.0, 0.005974), (1, 10, 0.005116, 0.394163), (10, 10, 0.741134, 1.0)],  # scipy.stats.beta
)
def test_interval_of_a_rate_is_clopper_and_pearsons(
    count: int, trials: int, lower: float, upper: float
) -> None:
    rate = Rate(count=count, trials=trials)
    assert rate.lower == pytest.approx(lower, abs=1e-5)
    assert rate.upper == pytest.approx(upper, abs=1e-5)


def test_unchanged_tests_raise_no_alarm_and_changed_ones_are_found() -> None:
    dice = random.Random(5)
    noise = [dice.gauss(0, 0.005) for _ in range(30)]
    design = Design(alpha=0.0005)
    assert alarms([noise] * 5, design, 0.02, sessions=20, seed=1).count == 0
    assert detections(noise, design, 0.02, math.log(1.05), trials=20, seed=1).share == 1


def test_replay_is_the_same_for_the_same_seed() -> None:
    design = Design(alpha=0.01)
    assert decide([0.0, 0.1], design, 0.02, random.Random(2)) == decide(
        [0.0, 0.1], design, 0.02, random.Random(2)
    )
    assert decide([0.0], design, 0.02, random.Random(2))[0] is Answer.OK
