"""The world on a real loopback socket: in this event loop, or in a thread of its own."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from pytest_tradeperf.pipeline.world import wire
from pytest_tradeperf.pipeline.world.core import LogEntry, Plan, WorldCore, describe
from pytest_tradeperf.pipeline.world.messages import Reply
from pytest_tradeperf.pipeline.world.settings import SERVICES, FaultKind, WorldSettings, parse_faults

# Faults that are sent as ordinary replies; the others break the connection.
_POLITE = frozenset(FaultKind) - {
    FaultKind.HANG,
    FaultKind.RESET,
    FaultKind.TRUNCATED,
    FaultKind.DRIP,
    FaultKind.HUGE,
}
_CONTROL = "/_world/"
_MOUNTS = {"llm": "/llm/v1"}
_START_TIMEOUT_S = 10.0


class World:
    """A server on 127.0.0.1; use it with ``async with``.

    Parameters
    ----------
    settings
        What it answers; the default is instant, unlimited and faultless.
    port
        0 lets the system choose.
    clock
        Monotonic clock that stamps arrivals, in seconds.
    """

    def __init__(
        self,
        settings: WorldSettings | None = None,
        *,
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or WorldSettings()
        self.core = WorldCore(self.settings)
        self._port = port
        self._clock = clock
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT`` of the running server.

        Raises
        ------
        RuntimeError
            If the world is not running.
        """
        if self._server is None:
            raise RuntimeError("the world is not running; use it inside `async with World(...) as world:`")
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def url_of(self, service: str) -> str:
        """Return the base URL of one service, without a slash at its end."""
        if service not in SERVICES:
            raise ValueError(f"the world has no service {service!r}; expected one of {', '.join(SERVICES)}")
        return self.url + _MOUNTS.get(service, f"/{service}")

    def entries(self, service: str) -> list[LogEntry]:
        """Return the requests of one service in order of arrival."""
        return self.core.entries(service)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, limit=2**20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except wire.UnreadableRequestError as error:
            with contextlib.suppress(ConnectionError):
                reply = Reply(status=error.status, content_type="text/plain", body=str(error).encode())
                writer.write(wire.head_of(reply, length=len(reply.body), keep=False) + reply.body)
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            # The client went away in the middle, or its chunk sizes are no numbers: nobody is left to answer.
            pass
        finally:
            await wire.close(writer)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; return whether the connection can carry another."""
        got = await wire.read_request(reader)
        if got is None:
            return False
        method, target, headers, body = got
        arrived = self._clock()
        if target.startswith(_CONTROL):
            await wire.send(writer, self._control(method, target, body), pause_s=0)
            return True
        service, rest = wire.route(target)
        if service is None:
            missing = Reply.of_json(
                {"error": f"no service here; known are {', '.join(SERVICES)}"}, status=404
            )
            await wire.send(writer, missing, pause_s=0)
            return True
        request = wire.request_of(method, rest, headers, body, service)
        plan = self.core.plan(request, arrived)
        self.core.entered(service)
        try:
            return await self._enact(plan, reader, writer)
        finally:
            self.core.left(service)

    async def _enact(self, plan: Plan, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        pieces = len(plan.reply.pieces) if plan.may_stream else 0
        # A stream starts after a quarter of the latency, a common ratio of first token to whole answer, and
        # spreads the rest over its pieces; everything else comes at once when the latency is over.
        first = plan.latency_s / 4 if pieces else plan.latency_s
        await asyncio.sleep(first)
        if plan.fault is None or plan.fault in _POLITE:
            await wire.send(writer, plan.reply, pause_s=(plan.latency_s - first) / pieces if pieces else 0)
            return True
        await wire.send_broken(
            reader,
            writer,
            plan.reply,
            plan.fault,
            drip_interval_s=self.settings.drip_interval_s,
            huge_bytes=self.settings.huge_bytes,
        )
        return False

    def _control(self, method: str, target: str, body: bytes) -> Reply:
        """Answer ``/_world/`` stats, log, reset and faults for readers in other processes."""
        parts = urlsplit(target)
        match method, parts.path.removeprefix(_CONTROL):
            case "GET", "stats":
                return Reply.of_json(self.core.statistics())
            case "GET", "log":
                service = dict(parse_qsl(parts.query)).get("service", "")
                return Reply(body=describe(self.entries(service)))
            case "POST", "reset":
                self.core.reset()
                return Reply.of_json({"reset": True})
            case "POST", "faults":
                try:
                    self.core.faults = parse_faults(body.decode("utf-8", "replace"))
                except ValueError as error:
                    return Reply.of_json({"error": str(error)}, status=400)
                return Reply.of_json({"faults": sorted(self.core.faults)})
            case _:
                return Reply.of_json(
                    {"error": "known are GET stats, GET log, POST reset, POST faults"}, status=404
                )


@contextlib.contextmanager
def world_in_thread(settings: WorldSettings | None = None) -> Iterator[World]:
    """Run a world in a thread of its own, for code that is not asynchronous or must not share its loop.

    Yields
    ------
    World
        Running; its statistics may be read from outside between requests.
    """
    world = World(settings)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with world:
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, name="tradeperf-world", daemon=True)
    thread.start()
    ready.wait(_START_TIMEOUT_S)
    try:
        yield world
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join(_START_TIMEOUT_S)


def ready_line(world: World) -> str:
    """Return the JSON line that tells another program where every service is."""
    return json.dumps({"url": world.url, **{service: world.url_of(service) for service in SERVICES}})
