import asyncio
import time

import pytest

from pytest_tradeperf.pipeline import virtual_time


def test_waiting_takes_no_real_time_and_the_clock_shows_it():
    async def main():
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    start = time.perf_counter()
    assert virtual_time.run(main()) == 3600
    assert time.perf_counter() - start < 5


def test_timers_fire_in_order_of_their_time():
    order = []

    async def at(seconds):
        await asyncio.sleep(seconds)
        order.append(seconds)

    async def main():
        await asyncio.gather(at(3), at(1), at(2))

    virtual_time.run(main())
    assert order == [1, 2, 3]


def test_a_thread_takes_real_time_while_the_clock_stands_still():
    async def main():
        loop = asyncio.get_running_loop()
        timer = asyncio.create_task(asyncio.sleep(100, "timer"))
        assert await asyncio.to_thread(sum, [1, 2]) == 3
        before = loop.time()
        assert await timer == "timer"
        return before, loop.time()

    assert virtual_time.run(main()) == (0, 100)


def test_waiting_for_what_never_comes_is_an_error_not_a_hang():
    async def main():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(virtual_time.StalledError, match="no timer"):
        virtual_time.run(main())


def test_sockets_still_answer():
    async def main():
        async def echo(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"ping\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

    assert virtual_time.run(main()) == b"ping\n"
