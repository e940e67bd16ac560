"""What is drawn and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class Chart(Protocol):
    """What can be drawn."""

    @property
    def name(self) -> str:
        """What the chart is called in results and file names."""
        ...

    def key(self) -> str:
        """Return a text that is the same only where the picture is the same."""
        ...

    def render(self) -> bytes:
        """Return the picture as PNG."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartResult:
    """One chart, or why there is none.

    Attributes
    ----------
    png
        The picture, or None.
    error
        Kind and words of what went wrong, or an empty text.
    from_cache
        Whether it was drawn before, or was being drawn for somebody else.
    seconds
        Time spent drawing; 0 where it was not drawn for this request.
    path
        The file it was written to, where there is a folder.
    """

    name: str
    png: bytes | None = None
    error: str = ""
    from_cache: bool = False
    seconds: float = 0.0
    path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """What a queue did; `shared` charts were asked for while the same one was being drawn."""

    drawn: int
    cached: int
    shared: int
    failed: int
    waiting: int
    draw_seconds: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture and the time it took."""

    png: bytes
    seconds: float
