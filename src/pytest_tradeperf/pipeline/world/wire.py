"""HTTP/1.1 as bytes: reads one request from a stream, writes one reply, well or the way a fault asks for."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

from pytest_tradeperf.pipeline.world.messages import Reply, WorldRequest
from pytest_tradeperf.pipeline.world.settings import SERVICES, FaultKind

MAX_REQUEST_BYTES = 8 * 1024 * 1024
_REQUEST_LINE_PARTS = 3  # method, target, version
_FILLER = b" " * 65_536


class UnreadableRequestError(Exception):
    """The client's bytes are no HTTP/1.1 request the world can read; `status` is the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes] | None:
    """Return method, target, headers (lower-case names) and body; None when the client has closed.

    Raises
    ------
    UnreadableRequestError
        If the head is malformed or the body larger than 8 MiB.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise UnreadableRequestError(400, "request head too long") from error
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != _REQUEST_LINE_PARTS:
        raise UnreadableRequestError(400, f"not a request line: {first[:100]!r}")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return parts[0], parts[1], headers, await _read_body(reader, headers)


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        body = bytearray()
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            if len(body) + size > MAX_REQUEST_BYTES:
                raise UnreadableRequestError(413, "request body too large")
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return bytes(body)
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise UnreadableRequestError(400, f"not a content length: {length[:40]!r}")
    if int(length) > MAX_REQUEST_BYTES:
        raise UnreadableRequestError(413, "request body too large")
    return await reader.readexactly(int(length))


def request_of(
    method: str, target: str, headers: Mapping[str, str], body: bytes, service: str
) -> WorldRequest:
    """Return the request of one service; `target` has its prefix already cut."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return WorldRequest(
        method=method, service=service, path=unquote(parts.path), query=query, headers=headers, body=body
    )


def route(target: str) -> tuple[str | None, str]:
    """Split ``/sec/files/x`` into ``sec`` and ``/files/x``; bare ``/v1/...`` is the language model."""
    if target.startswith("/v1/"):
        return "llm", target
    service, slash, rest = target.lstrip("/").partition("/")
    return (service, slash + rest) if service in SERVICES else (None, target)


def head_of(reply: Reply, *, length: int | None, keep: bool) -> bytes:
    """Return status line and headers; `length` None means an event stream in chunks."""
    lines = [
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
        f"Content-Type: {reply.content_type}",
    ]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    lines.append(f"Connection: {'keep-alive' if keep else 'close'}")
    return "\r\n".join((*lines, "", "")).encode("latin-1", "replace")


async def send(writer: asyncio.StreamWriter, reply: Reply, *, pause_s: float) -> None:
    """Send a healthy reply; the pieces of an event stream are `pause_s` seconds apart."""
    if not reply.pieces:
        bodiless = reply.status == HTTPStatus.NOT_MODIFIED
        writer.write(head_of(reply, length=0 if bodiless else len(reply.body), keep=True))
        writer.write(b"" if bodiless else reply.body)
        await writer.drain()
        return
    writer.write(head_of(reply, length=None, keep=True))
    for piece in reply.pieces:
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        if pause_s:
            await asyncio.sleep(pause_s)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def send_broken(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    reply: Reply,
    fault: FaultKind,
    *,
    drip_interval_s: float,
    huge_bytes: int,
) -> None:
    """Do what a fault below HTTP asks for; the connection cannot be used afterwards."""
    body = reply.body or b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in reply.pieces)
    length = None if reply.pieces else len(body)
    if fault is FaultKind.HANG:
        # Ends when the client gives up: its close is the end of the stream.
        await reader.read(1)
    elif fault is FaultKind.RESET:
        raw: socket.socket | None = writer.get_extra_info("socket")
        if raw is not None:
            # Lingering for 0 seconds makes close() send RST instead of FIN.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    elif fault is FaultKind.TRUNCATED:
        writer.write(head_of(reply, length=length, keep=False) + body[: len(body) // 2])
        await writer.drain()
    elif fault is FaultKind.DRIP:
        writer.write(head_of(reply, length=length, keep=False))
        for place in range(len(body)):
            writer.write(body[place : place + 1])
            await writer.drain()
            await asyncio.sleep(drip_interval_s)
    elif fault is FaultKind.HUGE:
        writer.write(head_of(reply, length=huge_bytes, keep=False))
        for start in range(0, huge_bytes, len(_FILLER)):
            writer.write(_FILLER[: huge_bytes - start])
            await writer.drain()


async def close(writer: asyncio.StreamWriter) -> None:
    """Close the connection whatever state it is in."""
    writer.close()
    with contextlib.suppress(ConnectionError, TimeoutError, OSError):
        await writer.wait_closed()
