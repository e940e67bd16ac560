"""Pictures by key, for a while and up to a bound."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_BYTES: Final = 32 * 1024 * 1024
DEFAULT_TTL_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounts:
    """What the cache did, and what it holds now."""

    hits: int
    misses: int
    expired: int
    evicted: int
    entries: int
    n_bytes: int


class ChartCache:
    """PNG bytes by key; the least recently used go first, none is older than the TTL. Safe between threads.

    Parameters
    ----------
    ttl_s
        Age at which a picture is forgotten; 0 keeps none, infinity for ever.
    max_bytes
        Bound on all pictures together.
    now
        Clock in seconds that never goes back.
    """

    def __init__(
        self,
        *,
        ttl_s: float = DEFAULT_TTL_S,
        max_bytes: int = DEFAULT_BYTES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(ttl_s, bool) or not isinstance(ttl_s, (int, float)) or math.isnan(ttl_s) or ttl_s < 0:
            raise SettingError(f"ttl_s is {ttl_s!r}: expected seconds, at least 0")
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 0:
            raise SettingError(f"max_bytes is {max_bytes!r}: expected a whole number of bytes, at least 0")
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._now = now
        self._pictures: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._lock = threading.Lock()
        self._n_bytes = self._hits = self._misses = self._expired = self._evicted = 0

    def get(self, key: str) -> bytes | None:
        """Return the picture, or None where it is not held or too old."""
        with self._lock:
            found = self._pictures.get(key)
            if found is not None and self._now() - found[0] < self._ttl_s:
                self._pictures.move_to_end(key)
                self._hits += 1
                return found[1]
            if found is not None:
                self._drop(key)
                self._expired += 1
            self._misses += 1
            return None

    def put(self, key: str, picture: bytes) -> None:
        """Hold a picture; one larger than the bound is not held."""
        with self._lock:
            if key in self._pictures:
                self._drop(key)
            if len(picture) > self._max_bytes or self._ttl_s == 0:
                return
            self._pictures[key] = (self._now(), picture)
            self._n_bytes += len(picture)
            while self._n_bytes > self._max_bytes:
                self._drop(next(iter(self._pictures)))
                self._evicted += 1

    def purge(self) -> int:
        """Forget all that are too old, and return how many."""
        with self._lock:
            old = [key for key, (born, _) in self._pictures.items() if self._now() - born >= self._ttl_s]
            for key in old:
                self._drop(key)
            self._expired += len(old)
            return len(old)

    def counts(self) -> CacheCounts:
        """Return what the cache did so far."""
        with self._lock:
            return CacheCounts(
                hits=self._hits,
                misses=self._misses,
                expired=self._expired,
                evicted=self._evicted,
                entries=len(self._pictures),
                n_bytes=self._n_bytes,
            )

    def _drop(self, key: str) -> None:
        self._n_bytes -= len(self._pictures.pop(key)[1])
