"""Threads that take turns: each runs until it waits, so what they do together can be counted."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LONGEST_S: Final = 5.0
"""So long a thread may keep the others waiting, and so long turns last: code that spins until another
thread has done something would never end."""


@contextmanager
def taking_turns(longest_s: float = LONGEST_S) -> Iterator[None]:
    """Let no thread of this process be interrupted by another one for the first seconds of the block.

    The interpreter's switch interval (5 ms) makes it a matter of chance how often threads that share a
    queue find it empty and set up to wait: the number of allocations differs by some percent each time.
    Threads still change places where one waits, for a lock or for the outside world.
    """
    before, over = sys.getswitchinterval(), threading.Lock()
    over.acquire()

    def end() -> None:
        over.acquire(timeout=longest_s)
        sys.setswitchinterval(before)

    watchdog = threading.Thread(target=end, name="tradeperf-turns", daemon=True)
    watchdog.start()
    sys.setswitchinterval(longest_s)
    try:
        yield
    finally:
        over.release()
        watchdog.join()
