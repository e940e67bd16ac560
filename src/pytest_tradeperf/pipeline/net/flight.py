"""One upstream call for many callers that want the same thing at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiters: int = field(default=0)


class SingleFlight(Generic[T]):
    """Joins calls with the same key.

    The work runs in a task of its own, so one caller's cancellation does not disturb the others; when the
    last caller has gone, the work is cancelled and waited for, and nothing is left running.
    """

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    def __len__(self) -> int:
        """Return the number of calls under way."""
        return len(self._flights)

    def __contains__(self, key: object) -> bool:
        """Return whether a call for `key` is under way."""
        return key in self._flights

    async def run(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work`, shared with every caller that asks for `key` meanwhile.

        Raises
        ------
        Exception
            Whatever `work` raised, in every caller.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(task=asyncio.ensure_future(self._fly(key, work)))
            self._flights[key] = flight
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._drop(key, flight)
                flight.task.cancel()
                await asyncio.wait({flight.task})

    async def _fly(self, key: str, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        finally:
            current = asyncio.current_task()
            flight = self._flights.get(key)
            if flight is not None and flight.task is current:
                del self._flights[key]

    def _drop(self, key: str, flight: _Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
