from pytest_tradeperf.pairing.lockstep import Rounds
from pytest_tradeperf.pairing.outcomes import Clock, compare


def test_wall_time_leaves_out_rounds_that_waited_longer_for_a_cpu_than_they_took() -> None:
    quiet = Rounds(iterations=1, bursts=[[(100, 40, 0), (100, 40, 0)]])
    disturbed = Rounds(iterations=1, bursts=[[(100, 40, 130), (110, 40, 0)]])
    found = compare(quiet, disturbed, Clock.WALL, is_parallel=False)
    assert found is not None
    assert found[1:] == (100, 110)
    stopped = Rounds(iterations=1, bursts=[[(100, 40, 130)]])
    assert compare(quiet, stopped, Clock.WALL, is_parallel=False) is None
