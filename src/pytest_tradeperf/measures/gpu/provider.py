"""The seam between watching a GPU and a vendor's library.

Another vendor is added by an entry point in the group ``pytest_tradeperf.gpu`` that names a callable
without arguments; it returns a ``Provider`` or raises UnavailableError saying what is missing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Final, Protocol

from pytest_tradeperf.errors import UnavailableError

GROUP: Final = "pytest_tradeperf.gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one board says at one moment; None (or empty) for what it does not tell.

    ``board_bytes`` is in use by everyone, ``process_bytes`` by this process. ``utilization`` holds
    (microseconds of the driver's clock, share of time with a kernel running) samples not seen before,
    or one with timestamp 0 when only the present value can be asked for. ``energy_mj`` counts from some
    moment in the past. ``throttled`` names what holds the clocks down now. ``others`` is the number of
    other processes on the board, ``missing`` what could not be read and why.
    """

    board_bytes: int | None = None
    process_bytes: int | None = None
    utilization: tuple[tuple[int, float], ...] = ()
    energy_mj: int | None = None
    power_mw: int | None = None
    throttled: tuple[str, ...] = ()
    others: int = 0
    missing: dict[str, str] = field(default_factory=dict)


class Device(Protocol):
    """One board as this process sees it."""

    @property
    def label(self) -> str:
        """Its name for people, with number."""

    @property
    def notes(self) -> Sequence[str]:
        """What limits its figures, such as that it is partitioned."""

    def read(self, after_us: int) -> Reading:
        """Return its state now, with utilisation samples later than ``after_us``.

        Raises UnavailableError when the board is lost.
        """


class Provider(Protocol):
    """A vendor's boards."""

    def devices(self) -> Sequence[Device]:
        """Return the boards this process may use, at least one."""

    def close(self) -> None:
        """Give the vendor's library back."""


Factory = Callable[[], Provider]


def installed_factories() -> list[Factory]:
    """Return the providers of other packages, then the built-in one for NVIDIA."""
    from pytest_tradeperf.measures.gpu.nvml import NvmlProvider

    return [*(entry.load() for entry in entry_points(group=GROUP)), NvmlProvider]


def open_provider(factories: Iterable[Factory] | None = None) -> Provider:
    """Return the first provider that works here; raises UnavailableError with every reason otherwise."""
    reasons = []
    for factory in installed_factories() if factories is None else factories:
        try:
            return factory()
        except UnavailableError as error:
            reasons.append(str(error))
    raise UnavailableError("; ".join(reasons) or "no GPU provider is installed")
