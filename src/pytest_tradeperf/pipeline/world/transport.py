"""The world without sockets: a transport for httpx2 with its timeouts, latencies and faults on any clock.

On a virtual clock whole days of traffic pass in milliseconds. What only a socket can show (bytes on the wire,
connections) is not here: use :class:`~pytest_tradeperf.pipeline.world.server.World` for that.
"""

import asyncio
from collections.abc import AsyncIterator

import httpx2

from pytest_tradeperf.pipeline.world.core import Plan, WorldCore
from pytest_tradeperf.pipeline.world.messages import Reply
from pytest_tradeperf.pipeline.world.settings import SERVICES, FaultKind, WorldSettings
from pytest_tradeperf.pipeline.world.wire import request_of, route

URL = "http://world.invalid"
"""Stands for the world's address; nothing is ever resolved."""
_PIECE = b" " * 65_536
_REFUSED = 404


class WorldTransport(httpx2.AsyncBaseTransport):
    """Answers every request from one world, whatever its host.

    Parameters
    ----------
    settings
        What it answers.
    """

    def __init__(self, settings: WorldSettings | None = None) -> None:
        self.core = WorldCore(settings or WorldSettings())

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request after its latency, or fail the way its fault says.

        Raises
        ------
        httpx2.ReadTimeout
            If the answer would come after the request's read timeout.
        httpx2.ReadError
            If the fault resets the connection.
        """
        service, target = route(request.url.raw_path.decode("ascii"))
        if service is None:
            return _response(
                Reply.of_json({"error": f"known are {', '.join(SERVICES)}"}, status=_REFUSED), request
            )
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = request_of(request.method, target, headers, await request.aread(), service)
        plan = self.core.plan(asked, asyncio.get_running_loop().time())
        self.core.entered(service)
        try:
            return await self._enact(plan, request)
        finally:
            self.core.left(service)

    async def _enact(self, plan: Plan, request: httpx2.Request) -> httpx2.Response:
        patience = request.extensions.get("timeout", {}).get("read")
        pieces = len(plan.reply.pieces) if plan.may_stream else 0
        first = plan.latency_s / 4 if pieces else plan.latency_s
        if plan.fault is FaultKind.HANG or (patience is not None and first > patience):
            await (
                asyncio.get_running_loop().create_future() if patience is None else asyncio.sleep(patience)
            )
            raise httpx2.ReadTimeout("the world did not answer in time", request=request)
        await asyncio.sleep(first)
        if plan.fault is FaultKind.RESET:
            raise httpx2.ReadError("the world reset the connection", request=request)
        if plan.fault is FaultKind.TRUNCATED:
            body = plan.reply.body or b"".join(plan.reply.pieces)
            return _response(plan.reply, request, _cut(body[: len(body) // 2], request))
        if plan.fault is FaultKind.DRIP:
            return _response(plan.reply, request, _drip(plan.reply.body, self.core.settings.drip_interval_s))
        if plan.fault is FaultKind.HUGE:
            return _response(plan.reply, request, _huge(self.core.settings.huge_bytes))
        if pieces:
            return _response(
                plan.reply, request, _stream(plan.reply.pieces, (plan.latency_s - first) / pieces)
            )
        return _response(plan.reply, request)


def _response(
    reply: Reply, request: httpx2.Request, stream: AsyncIterator[bytes] | None = None
) -> httpx2.Response:
    headers = {"Content-Type": reply.content_type, **reply.headers}
    if stream is not None:
        return httpx2.Response(reply.status, headers=headers, content=stream, request=request)
    # as a stream, which a client can still read raw; ready content counts as read already
    headers["Content-Length"] = str(len(reply.body))
    body = httpx2.ByteStream(reply.body)
    return httpx2.Response(reply.status, headers=headers, stream=body, request=request)


async def _stream(pieces: tuple[bytes, ...], pause_s: float) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(pause_s)


async def _cut(body: bytes, request: httpx2.Request) -> AsyncIterator[bytes]:
    yield body
    raise httpx2.RemoteProtocolError("the world closed the connection too early", request=request)


async def _drip(body: bytes, interval_s: float) -> AsyncIterator[bytes]:
    for place in range(len(body)):
        yield body[place : place + 1]
        await asyncio.sleep(interval_s)


async def _huge(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, len(_PIECE)):
        yield _PIECE[: size - start]
