"""Making the kernel change between two busy processes of one CPU every millisecond."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pytest_tradeperf.pairing.side import pin

_BEAT_SECONDS: Final = 0.001


@contextmanager
def metronome(cpus: Sequence[int]) -> Iterator[None]:
    """Wake up on ``cpus`` every millisecond while the block runs.

    Left alone the kernel changes between two busy processes at its ticks, every 4 ms at 250 Hz. Whatever
    wakes up there makes it choose anew, and it chooses the one that has had less of the CPU.
    """
    is_over = threading.Event()

    def beat() -> None:
        pin(list(cpus))  # this thread alone
        while not is_over.is_set():
            time.sleep(_BEAT_SECONDS)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
