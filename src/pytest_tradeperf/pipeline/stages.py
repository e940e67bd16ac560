"""Where the time of a run goes: named stages, nested, each told to whoever watches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Progress = Callable[[str], object]
"""Told one short line whenever something begins to matter: a stage ended, a ticker was decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """One stage: its path (``cycle/debate``), when it began after the run did, how long it took.

    ``is_complete`` is False where it was left by an error, a deadline or Ctrl-C.
    """

    path: str
    started_seconds: float
    seconds: float
    is_complete: bool = True

    @property
    def depth(self) -> int:
        """0 for a stage of the run itself."""
        return self.path.count("/")


class StageClock:
    """Times stages on one clock; stages of one task nest.

    Parameters
    ----------
    clock
        Seconds, monotonic: the event loop's, so that virtual time works.

    Examples
    --------
    >>> ticks = iter([0.0, 1.0, 1.5, 4.0, 6.0])
    >>> stages = StageClock(lambda: next(ticks))
    >>> with stages.stage("feeds"):
    ...     with stages.stage("news"):
    ...         pass
    >>> [(s.path, s.started_seconds, s.seconds) for s in stages.times]
    [('feeds', 1.0, 5.0), ('feeds/news', 1.5, 2.5)]
    """

    def __init__(self, clock: Callable[[], float], progress: Progress | None = None) -> None:
        self._clock, self._progress = clock, progress
        self._start = clock()
        self._path: list[str] = []
        self._times: dict[int, StageTime] = {}
        self._entered = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._start

    @property
    def times(self) -> tuple[StageTime, ...]:
        """Every stage that has ended, in the order they began."""
        return tuple(self._times[place] for place in sorted(self._times))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block under ``name`` inside the stage around it."""
        place, self._entered = self._entered, self._entered + 1
        self._path.append(name)
        path, start = "/".join(self._path), self._clock()
        is_complete = False
        try:
            yield
            is_complete = True
        finally:
            self._path.pop()
            seconds = self._clock() - start
            self._times[place] = StageTime(
                path=path, started_seconds=start - self._start, seconds=seconds, is_complete=is_complete
            )
            if self._progress is not None:
                self._progress(f"{path} {seconds:.2f} s{'' if is_complete else ' (cut short)'}")


def stage_table(times: "tuple[StageTime, ...]", wall_seconds: float) -> list[str]:
    """Return the stages as lines of text, nested by indentation, with their share of the whole."""
    width = max((len(t.path.rsplit("/", 1)[-1]) + 2 * t.depth for t in times), default=0)
    lines = []
    for time in times:
        name = "  " * time.depth + time.path.rsplit("/", 1)[-1]
        share = time.seconds / wall_seconds if wall_seconds > 0 else 0.0
        cut = "" if time.is_complete else "  cut short"
        lines.append(f"{name:<{width}}  {time.seconds:8.3f} s  {share:6.1%}{cut}")
    return lines
