"""Every way asking a language model can fail.

::

    LlmError
    ├── TimeoutExceededError   no complete answer before the deadline
    ├── UnreachableError       no connection, or it broke before an answer was complete
    ├── RateLimitedError       429 after every retry
    ├── RefusedError           any other HTTP status that is not success: bad key, unknown model, redirect
    ├── MalformedError         an answer that is not what the protocol or the schema allows
    ├── BudgetError            the ledger has not enough left; nothing was sent
    ├── CassetteError          a tape that cannot be read, or has no such recording
    └── QueueError             the queue is full or closed

``kind`` is one stable word for counting; a message never holds a key.
"""

from typing import ClassVar

from pytest_tradeperf.pipeline.errors import PipelineError


class LlmError(PipelineError):
    """Base of the tree; an analyst who meets one abstains."""

    kind: ClassVar[str] = "error"
    was_sent: bool = True
    """Whether the endpoint may have worked (and may bill) for the request; each kind has its default."""

    def __init__(self, message: str, *, was_sent: bool | None = None) -> None:
        super().__init__(message)
        if was_sent is not None:
            self.was_sent = was_sent


class TimeoutExceededError(LlmError):
    """No complete answer before the deadline."""

    kind = "timeout"


class UnreachableError(LlmError):
    """No connection could be made (then nothing was sent), or it broke before the answer was complete."""

    kind = "unreachable"


class RateLimitedError(LlmError):
    """The endpoint said 429 until the retries or the time ran out."""

    kind = "rate_limited"
    was_sent = False


class RefusedError(LlmError):
    """The endpoint refused: wrong key, unknown model, a redirect, a server error that stayed."""

    kind = "refused"
    was_sent = False


class MalformedError(LlmError):
    """The answer breaks the protocol, the size bound or the schema, also after one repair."""

    kind = "malformed"


class BudgetError(LlmError):
    """The ledger refused; nothing was sent."""

    kind = "budget"
    was_sent = False


class CassetteError(LlmError):
    """A cassette cannot be read, or holds no recording of this request."""

    kind = "cassette"
    was_sent = False


class QueueError(LlmError):
    """The work queue is closed, or full and the caller did not want to wait."""

    kind = "queue"
    was_sent = False


ERRORS_BY_KIND: dict[str, type[LlmError]] = {
    error.kind: error
    for error in (
        LlmError,
        TimeoutExceededError,
        UnreachableError,
        RateLimitedError,
        RefusedError,
        MalformedError,
        BudgetError,
        CassetteError,
        QueueError,
    )
}
"""What a cassette needs to raise a recorded failure again."""
