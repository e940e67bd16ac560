"""How a source can fail: one taxonomy for every host, shared by callers, retries and reports.

::

    NetworkError
    ├── UnreachableError       no connection, or one that broke in the middle
    ├── SourceTimeoutError     one attempt took too long
    ├── RateLimitedError       429, or 503 with Retry-After
    ├── ServerFailedError      5xx
    ├── RefusedError           401, 403 and other 4xx: asking again will not help
    ├── NotFoundError          404, 410: the source works and does not know the thing
    ├── MalformedError         an answer that is not what the source promised (HTML with 200, wrong schema)
    ├── TooLargeError          an answer above the size limit; it was not read to its end
    ├── RedirectRefusedError   a redirect to another host
    ├── CircuitOpenError       not asked: the source failed too often just now
    └── DeadlineError          the whole request, with its retries and waits, ran out of time
"""

from typing import ClassVar

from pytest_tradeperf.pipeline.errors import PipelineError


class NetworkError(PipelineError):
    """Base of the tree.

    Attributes
    ----------
    kind
        A short stable word for reports and counters.
    is_retryable
        Whether asking again soon may help.
    is_host_failure
        Whether it counts against the host's circuit.
    """

    kind: ClassVar[str] = "network"
    is_retryable: ClassVar[bool] = False
    is_host_failure: ClassVar[bool] = True


class UnreachableError(NetworkError):
    """No connection, or one that broke in the middle."""

    kind = "unreachable"
    is_retryable = True


class SourceTimeoutError(NetworkError):
    """One attempt took longer than it may."""

    kind = "timeout"
    is_retryable = True


class RateLimitedError(NetworkError):
    """The source asked us to slow down; `retry_after_s` is what it said, None if nothing."""

    kind = "rate_limited"
    is_retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServerFailedError(NetworkError):
    """The source answered 5xx."""

    kind = "server_failed"
    is_retryable = True


class RefusedError(NetworkError):
    """The source answered 4xx: credentials, contact or address are wrong; asking again will not help."""

    kind = "refused"


class NotFoundError(NetworkError):
    """The source works and does not know what was asked for."""

    kind = "not_found"
    is_host_failure = False


class MalformedError(NetworkError):
    """The answer is not what the source promised: HTML with status 200, broken JSON, a wrong schema."""

    kind = "malformed"
    is_retryable = True


class TooLargeError(NetworkError):
    """The answer is larger than the limit; it was not read to its end."""

    kind = "too_large"


class RedirectRefusedError(NetworkError):
    """The answer points to another host, which is not followed."""

    kind = "redirect_refused"


class CircuitOpenError(NetworkError):
    """The source was not asked because it failed too often just now."""

    kind = "circuit_open"
    is_host_failure = False


class DeadlineError(NetworkError):
    """The whole request, with its retries and waits, ran out of time."""

    kind = "deadline"
