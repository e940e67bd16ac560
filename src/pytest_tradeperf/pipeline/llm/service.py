"""Asking for an answer of a given shape: budget, queue, deadline, validation, one repair.

This is what everything above uses; the model behind it may be an endpoint, a cassette or rules.
"""

import asyncio
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pytest_tradeperf.pipeline.llm.errors import (
    LlmError,
    MalformedError,
    TimeoutExceededError,
    UnreachableError,
)
from pytest_tradeperf.pipeline.llm.ledger import Ledger, Reservation
from pytest_tradeperf.pipeline.llm.messages import ChatModel, Completion, Draft, Message, Request, Usage
from pytest_tradeperf.pipeline.llm.queue import WorkQueue

if TYPE_CHECKING:
    from pydantic import BaseModel

Answered = TypeVar("Answered", bound="BaseModel")
_QUOTED_CHARACTERS: Final = 400
"""As much of a broken answer as a repair request quotes: enough to see the mistake, cheap to send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[Answered]):
    """A validated answer and what it took. ``calls`` and ``usage`` are 0 where a cache answered."""

    value: Answered
    calls: int
    usage: Usage
    was_repaired: bool
    first_token_seconds: float | None


@dataclass(slots=True, kw_only=True)
class _Meter:
    """What one question has used so far, also when it fails."""

    calls: int = 0
    usage: Usage = Usage()  # noqa: RUF009 - frozen
    first_token_seconds: float | None = None


@dataclass(slots=True)
class _Mean:
    """A sum and how many it is of."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float | None) -> None:
        if value is not None:
            self.total += value
            self.count += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a question that failed has used."""

    calls: int
    usage: Usage


class QuestionError(Exception):
    """No valid answer: ``cause`` says why, ``spent`` what was used all the same.

    ``heard`` is the beginning of an answer whose rest did not come, "" where there is none.
    """

    def __init__(self, cause: LlmError, spent: Spent, heard: str = "") -> None:
        super().__init__(str(cause))
        self.cause, self.spent, self.heard = cause, spent, heard


class AnswerService:
    """Asks a model through a queue, within a ledger, and gives validated answers.

    Parameters
    ----------
    model
        Whoever answers.
    queue
        Shared by everything that asks the same endpoint; its keys are the requests' digests.
    """

    def __init__(self, model: ChatModel, queue: WorkQueue) -> None:
        self.model, self.queue = model, queue
        self._streamed = _Mean()

    @property
    def mean_first_token_seconds(self) -> float | None:
        """Mean time to the first token of all streamed answers; None without any."""
        return self._streamed.total / self._streamed.count if self._streamed.count else None

    def note_first_token(self, seconds: float | None) -> None:
        """Count one answer's time to its first token, None for one that was not streamed."""
        self._streamed.add(seconds)

    async def ask(
        self, request: Request, shape: type[Answered], *, ledger: Ledger, deadline: float, priority: int = 0
    ) -> Answer[Answered]:
        """Return an answer of ``shape``, a pydantic model, by ``deadline`` (seconds of the loop's clock).

        An answer that does not fit is sent back once with what was wrong.

        Raises
        ------
        QuestionError
            Whatever went wrong, and what it cost.
        """
        draft, meter = Draft(), _Meter()
        asked = replace(request, schema=short_schema(shape), schema_name=shape.__name__.lower(), draft=draft)
        try:
            async with asyncio.timeout_at(deadline):
                completion = await self._complete(asked, ledger, priority, meter)
                value, problem = read_answer(completion.text, shape)
                was_repaired = value is None
                if value is None:
                    completion = await self._complete(
                        _repair(asked, completion.text, problem), ledger, priority, meter
                    )
                    value, problem = read_answer(completion.text, shape)
        except TimeoutError as error:
            late = TimeoutExceededError("no answer before the deadline")
            raise QuestionError(late, Spent(calls=meter.calls, usage=meter.usage), draft.text) from error
        except LlmError as error:
            cut = draft.text if isinstance(error, (TimeoutExceededError, UnreachableError)) else ""
            raise QuestionError(error, Spent(calls=meter.calls, usage=meter.usage), cut) from error
        if value is None:
            raise QuestionError(
                MalformedError(f"still no {shape.__name__} after one repair: {problem}"),
                Spent(calls=meter.calls, usage=meter.usage),
            )
        return Answer(
            value=value,
            calls=meter.calls,
            usage=meter.usage,
            was_repaired=was_repaired,
            first_token_seconds=meter.first_token_seconds,
        )

    async def _complete(self, request: Request, ledger: Ledger, priority: int, meter: _Meter) -> Completion:
        """Reserve, wait for a slot, ask, settle. Cached and shared answers cost their asker nothing."""
        paid = _Paid(self, request, ledger, ledger.reserve(request), meter)
        try:
            return await self.queue.run(request.key, paid, priority=priority)
        finally:
            paid.leave()


class _Paid:
    """One call and its reservation: whoever starts the call settles it, however its asker fares."""

    def __init__(
        self,
        service: AnswerService,
        request: Request,
        ledger: Ledger,
        reservation: Reservation,
        meter: _Meter,
    ) -> None:
        self._service, self._request, self._ledger = service, request, ledger
        self._reservation: Reservation | None = reservation
        self._has_started = False
        self._meter = meter

    def leave(self) -> None:
        """Give the reservation back, unless the call has begun and must account for itself."""
        if not self._has_started and self._reservation is not None:
            self._reservation.release()
            self._reservation = None

    async def __call__(self) -> Completion:
        self._has_started = True
        # None: our asker left while another still waits for this answer
        reservation = self._reservation or self._ledger.reserve(self._request)
        self._meter.calls += 1
        try:
            completion = await self._service.model.complete(self._request)
        except LlmError as error:
            (reservation.forfeit if error.was_sent else reservation.release)()
            raise
        except Exception as error:
            reservation.forfeit()
            raise LlmError(f"the model raised {type(error).__name__}: {error}") from error
        except BaseException:
            reservation.forfeit()
            raise
        reservation.settle(completion.usage)
        self._service.note_first_token(completion.first_token_seconds)
        self._meter.usage += completion.usage
        if self._meter.first_token_seconds is None:
            self._meter.first_token_seconds = completion.first_token_seconds
        return completion


def read_answer(text: str, shape: type[Answered]) -> tuple[Answered | None, str]:
    """Return the answer in ``text`` and "", or None and what is wrong with it.

    Fences and talk around one JSON object are forgiven; extra fields, wrong types, NaN, values out of
    range and nesting too deep are not.
    """
    from pydantic import ValidationError

    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return None, "there is no JSON object"
    try:
        return shape.model_validate_json(text[start : end + 1]), ""
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "answer"
        return None, f"{place}: {first['msg']}"


@lru_cache(maxsize=64)
def short_schema(shape: "type[BaseModel]") -> dict[str, Any]:
    """Return the JSON schema of ``shape`` without the titles and prose that only cost tokens."""
    return _without(shape.model_json_schema(), ("title", "description"))  # type: ignore[no-any-return]


def _without(node: Any, names: tuple[str, ...]) -> Any:
    if isinstance(node, dict):
        return {
            key: {name: _without(sub, names) for name, sub in value.items()}
            if key in ("properties", "$defs")
            else _without(value, names)
            for key, value in node.items()
            if key not in names or not isinstance(value, str)
        }
    return [_without(item, names) for item in node] if isinstance(node, list) else node


def _repair(request: Request, text: str, problem: str) -> Request:
    """Return the request that shows a model its broken answer and asks once more."""
    return replace(
        request,
        label=f"{request.label}/repair",
        messages=(
            *request.messages,
            Message(role="assistant", content=text[:_QUOTED_CHARACTERS] or "(nothing)"),
            Message(
                role="user", content=f"Not valid: {problem}. Answer again: one JSON object, nothing else."
            ),
        ),
    )
