import threading

from pytest_tradeperf.pairing.cpus import QuietCpu
from pytest_tradeperf.pairing.metronome import metronome


def test_metronome_ends_with_its_block_and_leaves_this_thread_where_it_may_run() -> None:
    allowed = QuietCpu(1).allowed
    before = threading.active_count()
    with metronome(allowed[:1]):
        assert threading.active_count() == before + 1
        assert QuietCpu(1).allowed == allowed
    assert threading.active_count() == before


def test_metronome_beats_where_no_cpu_can_be_chosen() -> None:
    with metronome([]):
        pass
