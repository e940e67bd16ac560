from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hishel import Headers, Request, Response

from pytest_tradeperf.pipeline.net.memory import MemoryStorage

REQUEST = Request(method="GET", url="http://host.example/")


async def stream(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def keep(storage: MemoryStorage, key: str, body: bytes, ttl: float | None = None) -> None:
    response = Response(status_code=200, headers=Headers({"etag": key}), stream=stream(body))
    entry = await storage.create_entry(REQUEST, response, key, ttl=ttl)
    assert isinstance(entry.response.stream, AsyncIterator)
    assert b"".join([part async for part in entry.response.stream]) == body


async def bodies(storage: MemoryStorage, key: str) -> list[bytes]:
    found = []
    for entry in await storage.get_entries(key):
        assert isinstance(entry.response.stream, AsyncIterator)
        found.append(b"".join([part async for part in entry.response.stream]))
    return found


@pytest.mark.asyncio
async def test_a_body_read_to_its_end_can_be_read_again_and_again() -> None:
    storage = MemoryStorage()
    await keep(storage, "a", b"body")
    assert await bodies(storage, "a") == await bodies(storage, "a") == [b"body"]
    assert await bodies(storage, "b") == []


@pytest.mark.asyncio
async def test_a_body_that_was_not_read_to_its_end_is_not_kept() -> None:
    storage = MemoryStorage()
    await storage.create_entry(REQUEST, Response(status_code=200, stream=stream(b"x")), "a")
    assert await bodies(storage, "a") == []


@pytest.mark.asyncio
async def test_entries_expire_by_the_clock() -> None:
    now = 1000.0
    storage = MemoryStorage(clock=lambda: now)
    await keep(storage, "a", b"x", ttl=10)
    now = 1009.0
    assert await bodies(storage, "a") == [b"x"]
    now = 1010.0
    assert await bodies(storage, "a") == []


@pytest.mark.asyncio
async def test_the_least_recently_used_body_leaves_first() -> None:
    storage = MemoryStorage(max_bytes=10)
    await keep(storage, "a", b"1234")
    await keep(storage, "b", b"5678")
    assert await bodies(storage, "a")
    await keep(storage, "c", b"90ab")
    assert [bool(await bodies(storage, key)) for key in "abc"] == [True, False, True]


@pytest.mark.asyncio
async def test_a_body_above_the_bound_is_passed_on_and_not_kept() -> None:
    storage = MemoryStorage(max_bytes=3)
    await keep(storage, "a", b"1234")
    assert await bodies(storage, "a") == []


@pytest.mark.asyncio
async def test_a_new_body_replaces_the_old_one_and_headers_can_be_renewed() -> None:
    storage = MemoryStorage()
    await keep(storage, "a", b"old")
    await keep(storage, "a", b"new")
    assert await bodies(storage, "a") == [b"new"]
    (entry,) = await storage.get_entries("a")
    await storage.update_headers(entry.id, Headers({"etag": "fresh"}))
    assert (await storage.get_entries("a"))[0].response.headers["etag"] == "fresh"
    await storage.remove_entry(entry.id)
    await storage.update_headers(entry.id, Headers({"etag": "gone"}))
    assert await bodies(storage, "a") == []
