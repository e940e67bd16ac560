from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import httpx2
import pytest

from pytest_tradeperf.pipeline import virtual_time
from pytest_tradeperf.pipeline.altdata.collect import Collection, collect, open_sources
from pytest_tradeperf.pipeline.altdata.settings import FeedSettings
from pytest_tradeperf.pipeline.world.settings import LatencyRange, WorldSettings, parse_faults
from pytest_tradeperf.pipeline.world.transport import URL, WorldTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TARGET = f"{URL}/news/rss/2.0/headline?s=AAPL"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}


def timed(
    settings: WorldSettings, ask: Callable[[httpx2.AsyncClient], Awaitable[httpx2.Response]]
) -> tuple[httpx2.Response, float]:
    async def run() -> tuple[httpx2.Response, float]:
        async with httpx2.AsyncClient(transport=WorldTransport(settings), timeout=3.0) as client:
            answer = await ask(client)
            return answer, asyncio.get_running_loop().time()

    return virtual_time.run(run())


def test_latency_passes_on_the_loop_s_own_clock() -> None:
    settings = WorldSettings(latency={"news": LatencyRange(low_s=2.0, high_s=2.0)})
    answer, seconds = timed(settings, lambda client: client.get(TARGET))
    assert answer.status_code == 200
    assert seconds == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("fault", "error"),
    [("hang", httpx2.ReadTimeout), ("reset", httpx2.ReadError), ("truncated", httpx2.RemoteProtocolError)],
)
def test_faults_are_the_client_s_own_errors(fault: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        timed(WorldSettings(faults=parse_faults(f"news={fault}")), lambda client: client.get(TARGET))


def test_an_answer_later_than_the_timeout_is_a_timeout_at_that_moment() -> None:
    settings = WorldSettings(latency={"news": LatencyRange(low_s=9.0, high_s=9.0)})

    async def run() -> float:
        async with httpx2.AsyncClient(transport=WorldTransport(settings), timeout=3.0) as client:
            with pytest.raises(httpx2.ReadTimeout):
                await client.get(TARGET)
            return asyncio.get_running_loop().time()

    assert virtual_time.run(run()) == pytest.approx(3.0)


def test_a_body_in_one_piece_can_be_read_raw() -> None:
    async def main() -> tuple[bytes, str]:
        async with (
            httpx2.AsyncClient(transport=WorldTransport()) as client,
            client.stream("GET", f"{URL}/llm/v1/models") as response,
        ):
            return b"".join([piece async for piece in response.aiter_raw()]), response.headers[
                "content-length"
            ]

    body, length = virtual_time.run(main())
    assert json.loads(body)["data"][0]["id"] == "world-1"
    assert int(length) == len(body)


def test_a_stream_takes_the_whole_latency() -> None:
    settings = WorldSettings(latency={"llm": LatencyRange(low_s=2.0, high_s=2.0)})
    answer, seconds = timed(settings, lambda client: client.post(f"{URL}/llm/v1/chat/completions", json=CHAT))
    assert answer.text.endswith("data: [DONE]\n\n")
    assert seconds == pytest.approx(2.0)


def test_a_drip_takes_its_time_and_an_unknown_service_is_404() -> None:
    settings = WorldSettings(faults=parse_faults("news=drip"), drip_interval_s=0.1)
    answer, seconds = timed(settings, lambda client: client.get(TARGET))
    assert seconds == pytest.approx(0.1 * len(answer.content))
    assert timed(settings, lambda client: client.get(f"{URL}/nowhere"))[0].status_code == 404


def collected(seed: int, faults: str = "") -> tuple[Collection, float]:
    settings = WorldSettings.lifelike(seed=seed)
    tickers = [f"T{number:03d}" for number in range(20)]

    async def run() -> tuple[Collection, float]:
        worlds: dict[str, WorldTransport] = {}

        def transport(name: str) -> WorldTransport:
            worlds[name] = WorldTransport(settings)
            worlds[name].core.faults = parse_faults(faults)
            return worlds[name]

        async with open_sources(FeedSettings.for_world(URL), transport=transport) as (sources, _):
            found = await collect(sources, tickers, timeout_s=30.0)
        for name, world in worlds.items():
            assert world.core.statistics()[name]["rate_limited"] == 0
        return found, found.wall_s

    return virtual_time.run(run())


def test_twenty_tickers_by_four_sources_stay_near_the_critical_path() -> None:
    found, seconds = collected(seed=1)
    assert found.degraded == ()
    # The slowest source: its map of companies (at most 2 s), 20 requests 0.1 s apart, the last one's 2 s at most.
    assert seconds <= 1.15 * (2.0 + 1.9 + 2.0)


def test_a_dead_source_never_costs_more_than_the_time_given() -> None:
    found, seconds = collected(seed=1, faults="news=hang;cboe=drip")
    assert seconds <= 30.0 + 1e-6
    assert found.reports["news"].error_rate == 1.0
    assert found.reports["stocktwits"].error_rate == 0.0
