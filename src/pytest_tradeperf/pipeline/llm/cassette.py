"""Recorded conversations: the same answers again, without an endpoint, as fast or as slow as wanted.

A tape is JSON lines, sorted by logical call, so recordings made in any completion order are one file
and a git diff shows what a model said differently. Failures are recorded too, and fail again.
"""

import asyncio
import json
import math
import os
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pytest_tradeperf.pipeline.llm.errors import (
    ERRORS_BY_KIND,
    CassetteError,
    LlmError,
    TimeoutExceededError,
)
from pytest_tradeperf.pipeline.llm.messages import ChatModel, Completion, Request, Usage

FORMAT: Final = 1


class Mode(StrEnum):
    """What to do with a request."""

    REPLAY = "replay"
    """Answer from the tape only; an unknown request is a CassetteError."""
    RECORD = "record"
    """Ask the model, keep every answer, write a new tape."""
    EXTEND = "extend"
    """Answer from the tape where it can, ask the model and keep the answer where it cannot."""
    PASS = "pass"  # noqa: S105
    """Ask the model and keep nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One recorded answer or failure; a failure's text is what had come before it.

    ``was_sent`` is what the failure said where that is not what its kind says, else None.
    """

    key: str
    completion: Completion
    error: str = ""
    message: str = ""
    was_sent: bool | None = None


class Cassette:
    """A chat model that answers from a tape.

    Parameters
    ----------
    path
        The tape. Written whole, and renamed into place, when a recording cassette closes.
    inner
        The model behind it; needed unless replaying.
    speed
        How recorded waiting is replayed on the running loop's clock: ``inf`` at once, 1 as it was
        (in real time, or on a virtual clock inside ``virtual_time.run``), 10 ten times faster.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        mode: Mode = Mode.REPLAY,
        inner: ChatModel | None = None,
        speed: float = math.inf,
    ) -> None:
        if mode is not Mode.REPLAY and inner is None:
            raise ValueError(f"mode {mode.value!r} needs the model to ask: pass inner=")
        if not speed > 0:
            raise ValueError(f"speed must be above zero (inf: at once, 1: as recorded), not {speed!r}")
        self.path, self.mode, self.speed = Path(path), mode, speed
        self._inner = inner
        self._tape: dict[str, list[Recording]] = defaultdict(list)
        self._next: dict[str, int] = defaultdict(int)
        self._is_changed = False
        if mode is Mode.REPLAY or (mode is Mode.EXTEND and self.path.exists()):
            for recording in read_tape(self.path):
                self._tape[recording.key].append(recording)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def complete(self, request: Request) -> Completion:
        """Return the recorded answer, or ask the model behind and keep what it says."""
        if self.mode is Mode.PASS:
            return await self._ask(request)
        if self.mode is not Mode.RECORD and (recording := self._take(request)) is not None:
            return await self._play(recording, request)
        if self.mode is Mode.REPLAY:
            raise CassetteError(
                f"{self.path.name} holds no answer for {request.key!r}: record it again with"
                f" mode={Mode.EXTEND.value!r}"
            )
        return await self._record(request)

    def close(self) -> None:
        """Write the tape if anything was recorded; raises CassetteError where it cannot be written."""
        if not self._is_changed:
            return
        try:
            write_tape(self.path, [r for key in sorted(self._tape) for r in self._tape[key]])
        except OSError as error:
            raise CassetteError(f"cannot write the cassette {str(self.path)!r}: {error}") from error
        self._is_changed = False

    async def _ask(self, request: Request) -> Completion:
        assert self._inner is not None
        return await self._inner.complete(request)

    def _take(self, request: Request) -> Recording | None:
        """Return the next recording of this logical call; the last one answers all further repetitions."""
        recordings = self._tape.get(request.key)
        if not recordings:
            return None
        place = min(self._next[request.key], len(recordings) - 1)
        self._next[request.key] += 1
        return recordings[place]

    async def _play(self, recording: Recording, request: Request) -> Completion:
        if request.draft is not None and recording.error:
            request.draft.follow(lambda: recording.completion.text)
        await asyncio.sleep(recording.completion.wall_seconds / self.speed)
        if recording.error:
            kind = ERRORS_BY_KIND.get(recording.error, LlmError)
            raise kind(recording.message, was_sent=recording.was_sent)
        return recording.completion

    async def _record(self, request: Request) -> Completion:
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            completion = await self._ask(request)
        except LlmError as error:
            self._keep(_failed(request, loop.time() - start, error))
            raise
        except asyncio.CancelledError:  # its asker's time was up
            late = TimeoutExceededError("no answer before the deadline")
            self._keep(_failed(request, loop.time() - start, late))
            raise
        self._keep(Recording(key=request.key, completion=completion))
        return completion

    def _keep(self, recording: Recording) -> None:
        self._tape[recording.key].append(recording)
        self._next[recording.key] = len(self._tape[recording.key])
        self._is_changed = True


def _failed(request: Request, seconds: float, error: LlmError) -> Recording:
    heard = request.draft.text if request.draft is not None else ""
    return Recording(
        key=request.key,
        completion=Completion(text=heard, wall_seconds=seconds),
        error=error.kind,
        message=str(error),
        was_sent=None if error.was_sent == type(error).was_sent else error.was_sent,
    )


def read_tape(path: Path) -> list[Recording]:
    """Return the recordings of a tape.

    Raises
    ------
    CassetteError
        Missing, unreadable, of a newer format, or broken in a line that is named.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CassetteError(f"cannot read the cassette {str(path)!r}: {error}") from error
    recordings = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if number == 1:
                found = entry["cassette"]
                if found != FORMAT:
                    raise CassetteError(
                        f"{str(path)!r} has cassette format {found!r}, this version reads {FORMAT}:"
                        " record it again"
                    )
                continue
            recordings.append(_from_json(entry))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CassetteError(
                f"{str(path)!r} line {number} is no recording ({error!r}): record the cassette again"
            ) from error
    return recordings


def write_tape(path: Path, recordings: list[Recording]) -> None:
    """Write a tape whole: to a temporary name beside it, then renamed into place."""
    lines = [json.dumps({"cassette": FORMAT})]
    lines += [json.dumps(_to_json(r), ensure_ascii=True, sort_keys=True) for r in recordings]
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _to_json(recording: Recording) -> dict[str, Any]:
    done = recording.completion
    entry: dict[str, Any] = {
        "key": recording.key,
        "wall_seconds": round(done.wall_seconds, 6),
    }
    if recording.error:
        heard = {"text": done.text} if done.text else {}
        sent = {} if recording.was_sent is None else {"was_sent": recording.was_sent}
        return entry | heard | sent | {"error": recording.error, "message": recording.message}
    return entry | {
        "text": done.text,
        "finish_reason": done.finish_reason,
        "first_token_seconds": None
        if done.first_token_seconds is None
        else round(done.first_token_seconds, 6),
        "usage": [done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.is_reported],
    }


def _from_json(entry: dict[str, Any]) -> Recording:
    wall = float(entry["wall_seconds"])
    if not 0 <= wall < math.inf:
        raise ValueError(f"wall_seconds is {wall!r}")
    if "error" in entry:
        cut = Completion(text=str(entry.get("text", "")), wall_seconds=wall)
        return Recording(
            key=str(entry["key"]),
            completion=cut,
            error=str(entry["error"]),
            message=str(entry["message"]),
            was_sent=None if "was_sent" not in entry else bool(entry["was_sent"]),
        )
    prompt, completion, is_reported = entry["usage"]
    return Recording(
        key=str(entry["key"]),
        completion=Completion(
            text=str(entry["text"]),
            usage=Usage(
                prompt_tokens=int(prompt), completion_tokens=int(completion), is_reported=bool(is_reported)
            ),
            wall_seconds=wall,
            first_token_seconds=entry["first_token_seconds"],
            finish_reason=str(entry["finish_reason"]),
        ),
    )
