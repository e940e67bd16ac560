import math
import random

import pytest

from pytest_tradeperf.pairing.bursts import Burst, Rounds, TestPair
from pytest_tradeperf.pairing.outcomes import Clock, Outcome, Series, compare
from pytest_tradeperf.stats.sequential import Answer, Design

DESIGN = Design(alpha=0.01 / 20)
CALL_NS = 10_000_000


def pair(dice: random.Random, *, cpu: float = 1.0, wait: float = 0.0, noise: float = 0.0) -> TestPair:
    """Return a pair whose present side costs ``cpu`` times as much and waits ``wait`` of a call besides.

    ``noise`` is how much of a call, at most, either side loses in a round to what is in no clock but wall.
    """

    def rounds(cost: float, waits: float) -> Rounds:
        def burst() -> Burst:
            used = round(CALL_NS * cost * dice.uniform(1, 1.002))
            lost = CALL_NS * (waits + dice.uniform(0, noise) * dice.choice((0.2, 1)))
            return [(used + round(lost), used, 0)]

        return Rounds(bursts=[burst() for _ in range(24)])

    return TestPair(parts={"": {"base": rounds(1.0, 0.0), "head": rounds(cpu, wait)}})


def measured(seed: int, most: int = 60, **costs: float) -> Outcome:
    """Return the outcome of pairs until they decide."""
    dice, outcome = random.Random(seed), Outcome(test="t", threshold=0.02)
    while outcome.pairs < most and not outcome.is_decided(DESIGN):
        outcome.add(pair(dice, **costs), is_parallel=False, higher_is_better=frozenset())
    return outcome


@pytest.mark.parametrize("wait", [0.03, 0.09])
def test_waiting_added_to_computing_code_is_a_regression(wait: float) -> None:
    outcome = measured(1, wait=wait)
    assert outcome.series[""].clock is Clock.CPU
    look = outcome.series[""].look(DESIGN, 0.02)
    assert look is not None
    assert look.answer is Answer.OK
    assert outcome.answers(DESIGN) == [Answer.REGRESSED]
    assert outcome.pairs <= DESIGN.fewest + 4, "a tenth of alpha costs three or four pairs"


@pytest.mark.parametrize(("flush", "answer"), [(4.0, Answer.REGRESSED), (1.5, Answer.OK)])
def test_calls_that_cost_more_now_and_then_are_a_regression_from_a_tenth_of_all(
    flush: float, answer: Answer
) -> None:
    dice, outcome = random.Random(1), Outcome(test="t", threshold=0.02)
    while outcome.pairs < 60 and not outcome.is_decided(DESIGN):
        found = pair(dice)
        for number, burst in enumerate(found.parts[""]["head"].bursts):
            wall, cpu, delay = burst[0]
            if number % 8 == 5:
                burst[0] = (round(wall * flush), round(cpu * flush), delay)
        outcome.add(found, is_parallel=False, higher_is_better=frozenset())
    assert outcome.answers(DESIGN) == [answer]
    look = outcome.series[""].look(DESIGN, 0.02)
    assert look is not None
    assert look.answer is Answer.OK, "of typical calls"
    assert outcome.pairs <= DESIGN.fewest + 4


def test_waiting_below_the_threshold_is_allowed() -> None:
    outcome = measured(1, wait=0.01)
    assert outcome.answers(DESIGN) == [Answer.OK]
    assert outcome.pairs < DESIGN.fewest


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.5])
def test_wall_noise_of_both_sides_is_no_regression(noise: float) -> None:
    for seed in range(20):
        outcome = measured(seed, noise=noise)
        assert outcome.answers(DESIGN) != [Answer.REGRESSED], seed


def test_growing_cpu_time_is_not_hidden_by_a_noisy_wall_clock() -> None:
    assert measured(1, cpu=1.05, noise=0.1).answers(DESIGN) == [Answer.REGRESSED]


def test_wall_time_that_regresses_first_waits_for_cpu_time_that_grew_too() -> None:
    outcome = Outcome(test="t", threshold=0.02, pairs=20)
    series = outcome.series["t"] = Series(clock=Clock.CPU)
    series.ratios = {Clock.WALL: [0.09] * 20}
    series.ratios[Clock.CPU] = [0.0, 0.09, 0.09] * 6 + [0.09] * 2
    assert outcome.answers(DESIGN) == [Answer.REGRESSED]
    assert not outcome.is_decided(DESIGN)
    series.ratios[Clock.CPU] = [0.0] * 20
    assert outcome.is_decided(DESIGN)


@pytest.mark.parametrize(("stood_still", "found"), [(1, 1.1), (2, None)])
def test_few_turns_in_which_a_clock_stood_still_are_left_out(stood_still: int, found: float | None) -> None:
    base = Rounds(bursts=[[(100, 100, 0)] * 2] * 19)
    moved = 19 - stood_still
    head = Rounds(bursts=[[(110, 110, 0), (110, 0, 0)]] * stood_still + [[(110, 110, 0)] * 2] * moved)
    compared = compare(base, head, Clock.CPU, decides=Clock.CPU, is_parallel=False)
    assert compared == (found and (pytest.approx(math.log(found)), 100))


def test_waiting_that_some_rounds_alone_have_moves_wall_time_and_not_cpu_time() -> None:
    base = Rounds(bursts=[[(100, 100, 0)] * 8] * 20)
    head = Rounds(bursts=[[(140, 100, 0)] * 2 + [(100, 100, 0)] * 6] * 20)
    assert compare(base, head, Clock.WALL, decides=Clock.CPU, is_parallel=False) == (
        pytest.approx(math.log(1.1)),
        100,
    )
    assert compare(base, head, Clock.CPU, decides=Clock.CPU, is_parallel=False) == (0.0, 100)


def test_machine_that_is_slow_for_a_while_slows_both_sides_of_a_turn() -> None:
    slow = [1, 1, 3, 3, 3, 3, 1, 1, 1, 1]
    base = Rounds(bursts=[[(100 * s, 90, 0)] for s in slow])
    head = Rounds(bursts=[[(105 * s, 90, 0)] for s in slow])
    compared = compare(base, head, Clock.WALL, decides=Clock.CPU, is_parallel=False)
    assert compared == (pytest.approx(math.log(1.05)), 100)


def test_wall_time_of_waiting_code_is_not_moved_by_waits_that_few_rounds_have() -> None:
    base = Rounds(bursts=[[(100, 10, 0)] * 4] * 4)
    head = Rounds(bursts=[[(110, 10, 0)] * 3 + [(9000, 10, 0)]] * 4)
    compared = compare(base, head, Clock.WALL, decides=Clock.WALL, is_parallel=False)
    assert compared == (pytest.approx(math.log(1.1)), 100)


def test_wall_time_leaves_out_rounds_that_waited_longer_for_a_cpu_than_they_took() -> None:
    quiet = Rounds(iterations=1, bursts=[[(100, 40, 0), (100, 40, 0)]])
    disturbed = Rounds(iterations=1, bursts=[[(100, 40, 130), (110, 40, 0)]])
    found = compare(quiet, disturbed, Clock.WALL, decides=Clock.CPU, is_parallel=False)
    assert found == (pytest.approx(math.log(1.1)), 100)
    stopped = Rounds(iterations=1, bursts=[[(100, 40, 130)]])
    assert compare(quiet, stopped, Clock.WALL, decides=Clock.CPU, is_parallel=False) is None
