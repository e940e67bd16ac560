"""A cache storage in memory for hishel, which brings SQLite and Redis only.

Without threads and files a virtual clock stays exact, cancellation leaves nothing open, and a loop that
ends takes its cache along. Use hishel's own ``AsyncSqliteStorage`` where answers should outlive the
process.
"""

import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from hishel import AsyncBaseStorage, Entry, Headers, Request, Response


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    key: str
    entry: Entry
    body: bytes
    expires_at: float | None


class MemoryStorage(AsyncBaseStorage):
    """Keeps whole answers, least recently used ones leave first.

    Parameters
    ----------
    max_bytes
        Bound on the sum of the bodies.
    default_ttl
        Seconds an entry is kept when the request does not say; None is for good.
    clock
        Wall clock in seconds.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 64 * 1024 * 1024,
        default_ttl: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(default_ttl=default_ttl)
        self._max_bytes = max_bytes
        self._clock = clock
        self._kept: OrderedDict[uuid.UUID, _Kept] = OrderedDict()
        self._bytes = 0

    async def create_entry(
        self,
        request: Request,
        response: Response,
        key: str,
        *,
        ttl: float | None = None,
        tti: float | None = None,
    ) -> Entry:
        """Return an entry whose stream keeps the body once it was read to its end; `tti` is not supported."""
        deadline, _ = self._limits(ttl, tti, self._clock())
        entry = Entry(id=uuid.uuid4(), request=request, response=response)
        stream = self._keeping(entry, key, deadline)
        return replace(entry, response=replace(response, stream=stream))

    async def get_entries(self, key: str) -> list[Entry]:
        """Return the unexpired entries under `key`, each with a fresh stream."""
        now = self._clock()
        for identity in [
            one for one, kept in self._kept.items() if kept.expires_at is not None and kept.expires_at <= now
        ]:
            self._forget(identity)
        found = [kept for kept in self._kept.values() if kept.key == key]
        for kept in found:
            self._kept.move_to_end(kept.entry.id)
        return [
            replace(kept.entry, response=replace(kept.entry.response, stream=_once(kept.body)))
            for kept in found
        ]

    async def update_headers(self, id: uuid.UUID, headers: Headers) -> None:  # noqa: A002 - hishel's name
        """Replace the headers of an entry that is still there."""
        kept = self._kept.get(id)
        if kept is not None:
            entry = replace(kept.entry, response=replace(kept.entry.response, headers=headers))
            self._kept[id] = replace(kept, entry=entry)

    async def remove_entry(self, id: uuid.UUID) -> None:  # noqa: A002 - hishel's name
        """Forget an entry."""
        self._forget(id)

    async def _keeping(self, entry: Entry, key: str, expires_at: float | None) -> AsyncIterator[bytes]:
        parts = []
        stream = entry.response.stream
        if isinstance(stream, AsyncIterator):
            async for part in stream:
                parts.append(part)
                yield part
        body = b"".join(parts)
        if len(body) > self._max_bytes:
            return
        for identity in [one for one, kept in self._kept.items() if kept.key == key]:
            self._forget(identity)
        self._kept[entry.id] = _Kept(key=key, entry=entry, body=body, expires_at=expires_at)
        self._bytes += len(body)
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._kept)))

    def _forget(self, identity: uuid.UUID) -> None:
        kept = self._kept.pop(identity, None)
        if kept is not None:
            self._bytes -= len(kept.body)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
