"""What the network stack counted, as one frozen record that can be subtracted to see one run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class NetStatistics:
    """Counts since the stack was opened, or between two moments.

    Attributes
    ----------
    requests
        Logical requests: one for each call of ``get``.
    upstream
        Attempts that were written to the network.
    cache_hits
        Requests answered from the cache without asking, revalidated ones not included.
    revalidated
        Requests answered from the cache after the source said it had not changed.
    joined
        Requests that shared another one's upstream call.
    retries
        Attempts after a first one.
    stale
        Requests answered with an old copy because the source failed.
    body_bytes
        Decoded bytes read from the network.
    errors
        Requests whose upstream failed for good, by kind, also when a stale copy served instead.
    """

    requests: int = 0
    upstream: int = 0
    cache_hits: int = 0
    revalidated: int = 0
    joined: int = 0
    retries: int = 0
    stale: int = 0
    body_bytes: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)

    @property
    def error_rate(self) -> float:
        """Failed requests as a fraction of all; 0 without requests."""
        return sum(self.errors.values()) / self.requests if self.requests else 0.0

    @property
    def cache_hit_rate(self) -> float:
        """Requests that needed no full download as a fraction of all; 0 without requests."""
        saved = self.cache_hits + self.revalidated + self.joined
        return saved / self.requests if self.requests else 0.0

    def since(self, earlier: "NetStatistics") -> "NetStatistics":
        """Return what was counted after `earlier`."""
        errors = Counter(self.errors)
        errors.subtract(earlier.errors)
        return NetStatistics(
            requests=self.requests - earlier.requests,
            upstream=self.upstream - earlier.upstream,
            cache_hits=self.cache_hits - earlier.cache_hits,
            revalidated=self.revalidated - earlier.revalidated,
            joined=self.joined - earlier.joined,
            retries=self.retries - earlier.retries,
            stale=self.stale - earlier.stale,
            body_bytes=self.body_bytes - earlier.body_bytes,
            errors={kind: count for kind, count in errors.items() if count},
        )


class NetCounters:
    """The stack's own tally; read it through :meth:`snapshot`."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def snapshot(self) -> NetStatistics:
        """Return the counts so far."""
        return NetStatistics(**self.counts, errors=dict(self.errors))
