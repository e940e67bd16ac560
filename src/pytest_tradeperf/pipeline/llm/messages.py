"""What is asked and what is answered: the records every model, queue and cassette passes on."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str


class Draft:
    """What has come of an answer that is still being streamed; "" before the first word.

    Whoever asks may hand one over with the request, and look at it when time is up.
    """

    __slots__ = ("_read",)

    def __init__(self) -> None:
        self._read: Callable[[], str] = str

    @property
    def text(self) -> str:
        """The beginning of the answer, as far as it has come."""
        return self._read()

    def follow(self, read: Callable[[], str]) -> None:
        """Show what ``read`` returns from now on; a new attempt starts a new draft."""
        self._read = read


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to a language model.

    ``label`` names the logical call ("AAPL/turn-1/bull"); it is never sent, but it is part of the
    cassette key, so that two callers with equal words never swap recordings. ``schema`` is a JSON
    schema the answer must satisfy, ``schema_name`` what the endpoint calls it. ``draft`` shows a streamed
    answer while it comes; it is no part of what is asked.
    """

    messages: tuple[Message, ...]
    label: str = ""
    model: str = ""
    schema: Mapping[str, Any] | None = None
    schema_name: str = "answer"
    max_tokens: int = 160
    temperature: float = 0.0
    seed: int | None = 0
    draft: Draft | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.messages:
            raise ValueError("a request needs at least one message")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {self.max_tokens!r}")

    @property
    def body(self) -> dict[str, Any]:
        """The request as the OpenAI chat-completions protocol writes it (``model`` may be empty)."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in self.messages],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
        }
        if self.seed is not None:
            body["seed"] = self.seed
        if self.schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": self.schema_name, "strict": True, "schema": self.schema},
            }
        return body

    @property
    def digest(self) -> str:
        """What is asked, as 32 hex digits: equal for equal bodies, over processes and machines."""
        text = json.dumps(self.body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def key(self) -> str:
        """The logical call and what it asks: what a cassette files the answer under."""
        return f"{self.label}#{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens billed for one call; ``is_reported`` is False where we had to estimate."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    is_reported: bool = True

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            is_reported=self.is_reported and other.is_reported,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer: its text, what it cost, how long it took (seconds of the loop's clock).

    ``first_token_seconds`` is None where the answer was not streamed.
    """

    text: str
    usage: Usage = field(default_factory=Usage)
    wall_seconds: float = 0.0
    first_token_seconds: float | None = None
    finish_reason: str = "stop"


class ChatModel(Protocol):
    """Anything that answers: an endpoint, a cassette, the rule-based analysts, a test's script."""

    async def complete(self, request: Request) -> Completion:
        """Return the answer, or raise an LlmError. Cancelling leaves nothing open."""
        ...
