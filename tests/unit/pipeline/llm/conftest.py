"""A tiny OpenAI-shaped endpoint on loopback, scripted answer by answer, and a scripted model without sockets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_tradeperf.pipeline.llm.messages import Completion, Message, Request, Usage

Reply = Callable[[asyncio.StreamWriter, dict[str, Any]], Any]


def answer_bytes(
    body: bytes, *, status: str = "200 OK", headers: str = "Content-Type: application/json"
) -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def completion_body(text: str, prompt: int = 11, completion: int = 7) -> bytes:
    return json.dumps(
        {
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": completion},
        }
    ).encode()


@dataclass
class Endpoint:
    """Answers with ``replies`` in turn (the last one again and again): bytes, or a coroutine function."""

    replies: list[Any]
    base_url: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    tasks: set[Any] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.decode())
                length = next(
                    int(line.split(":")[1])
                    for line in head.decode().splitlines()
                    if line.lower().startswith("content-length")
                )
                self.seen.append(json.loads(await reader.readexactly(length)))
                reply = self.replies[min(len(self.seen), len(self.replies)) - 1]
                if isinstance(reply, bytes):
                    writer.write(reply)
                    await writer.drain()
                else:
                    await reply(writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(*replies: Any) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(list(replies))
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    endpoint.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield endpoint
    finally:
        server.close()
        await asyncio.sleep(0.01)  # connections accepted by the kernel become tasks
        for task in endpoint.tasks:
            task.cancel()
        await asyncio.gather(*endpoint.tasks, return_exceptions=True)
        await server.wait_closed()


class ScriptedModel:
    """Answers from a function of the request, after ``seconds`` of the loop's clock."""

    def __init__(self, answer: Callable[[Request], Any], seconds: float = 0.0) -> None:
        self.answer, self.seconds = answer, seconds
        self.asked: list[Request] = []
        self.cancelled = 0

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        found = self.answer(request)
        if isinstance(found, Exception):
            raise found
        return Completion(
            text=found, usage=Usage(prompt_tokens=20, completion_tokens=5), wall_seconds=self.seconds
        )


@pytest.fixture
def http():
    class Tools:
        serve = staticmethod(serving)
        answer = staticmethod(answer_bytes)
        body = staticmethod(completion_body)

        @staticmethod
        def ok(text: str = "hello", **usage: int) -> bytes:
            return answer_bytes(completion_body(text, **usage))

    return Tools


@pytest.fixture
def scripted():
    return ScriptedModel


@pytest.fixture
def ask():
    def make(text: str = "hi", **more: Any) -> Request:
        return Request(messages=(Message(role="user", content=text),), **more)

    return make
