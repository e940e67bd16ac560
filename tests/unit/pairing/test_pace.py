import pytest

from pytest_tradeperf.pairing.pace import MOST_ITERATIONS, PACE


def test_setup_of_nothing_leaves_rounds_bursts_and_iterations_as_they_are() -> None:
    assert PACE.iterations(1000) == PACE.iterations(1000, 0) == 250
    assert PACE.rounds(250_000) == 8
    assert PACE.bursts(2_000_000) == 126
    assert PACE.fitting(1000, 0) == MOST_ITERATIONS


@pytest.mark.parametrize(
    ("setup_ms", "iterations", "rounds", "bursts"),
    [(0.01, 250, 8, 364), (1, 49, 1, 22), (10, 4, 1, 26), (100, 1, 1, 10), (5000, 1, 1, 2)],
)
def test_calls_of_a_microsecond_have_room_together_with_their_setup(
    setup_ms: float, iterations: int, rounds: int, bursts: int
) -> None:
    call_ns, setup_ns = 1000, setup_ms * 1e6
    assert PACE.iterations(call_ns, setup_ns) == iterations
    assert PACE.rounds(call_ns * iterations, setup_ns * iterations) == rounds
    assert PACE.bursts(call_ns * iterations, setup_ns * iterations) == bursts
