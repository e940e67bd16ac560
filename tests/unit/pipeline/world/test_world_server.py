from __future__ import annotations

import asyncio
import json
import urllib.request

import httpx2
import pytest
from click.testing import CliRunner

from pytest_tradeperf.pipeline.net.policy import RateRule
from pytest_tradeperf.pipeline.world.commands import world_command
from pytest_tradeperf.pipeline.world.server import World, world_in_thread
from pytest_tradeperf.pipeline.world.settings import SERVICES, LatencyRange, WorldSettings, parse_faults

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(headers={"User-Agent": "unit test@example.org"}, trust_env=False, timeout=5)


@pytest.mark.asyncio
async def test_every_service_answers_on_one_port() -> None:
    paths = {
        "sec": "/files/company_tickers.json",
        "news": "/rss/2.0/headline?s=AAPL",
        "stocktwits": "/api/2/streams/symbol/AAPL.json",
        "cboe": "/api/global/delayed_quotes/options/AAPL.json",
        "market": "/v8/finance/chart/AAPL",
        "llm": "/models",
    }
    async with World() as world, client() as http:
        statuses = {name: (await http.get(world.url_of(name) + paths[name])).status_code for name in SERVICES}
        bare = await http.post(f"{world.url}/v1/chat/completions", json=CHAT)
        nowhere = await http.get(f"{world.url}/nowhere")
    assert statuses == dict.fromkeys(SERVICES, 200)
    assert (bare.status_code, nowhere.status_code) == (200, 404)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset", httpx2.ReadError),
        ("truncated", httpx2.RemoteProtocolError),
        ("hang", httpx2.ReadTimeout),
        ("drip", httpx2.ReadTimeout),
    ],
)
@pytest.mark.asyncio
async def test_faults_below_http_reach_the_client(fault: str, error: type[Exception]) -> None:
    settings = WorldSettings(faults=parse_faults(f"news={fault}"), drip_interval_s=0.2)
    async with World(settings) as world, client() as http:
        with pytest.raises(error):
            await http.get(world.url_of("news") + "/rss/2.0/headline?s=AAPL", timeout=0.05)


@pytest.mark.asyncio
async def test_a_broken_stream_is_truncated_too() -> None:
    async with World(WorldSettings(faults=parse_faults("llm=truncated"))) as world, client() as http:
        with pytest.raises(httpx2.RemoteProtocolError):
            await http.post(world.url_of("llm") + "/chat/completions", json={**CHAT, "stream": True})


@pytest.mark.asyncio
async def test_a_stream_arrives_in_pieces_over_the_latency() -> None:
    settings = WorldSettings(latency={"llm": LatencyRange(low_s=0.1, high_s=0.1)})
    loop = asyncio.get_running_loop()
    async with World(settings) as world, client() as http:
        started = loop.time()
        url = world.url_of("llm") + "/chat/completions"
        async with http.stream("POST", url, json={**CHAT, "stream": True}) as response:
            arrivals = [loop.time() - started async for line in response.aiter_lines() if line]
    assert arrivals[0] < arrivals[-1]
    assert arrivals[-1] >= 0.08


@pytest.mark.asyncio
async def test_requests_over_the_rule_are_refused_and_counted_from_another_process_too() -> None:
    async with (
        World(WorldSettings(rules={"news": RateRule(limit=3, period_s=60.0)})) as world,
        client() as http,
    ):
        answers = await asyncio.gather(
            *(http.get(world.url_of("news") + "/rss/2.0/headline?s=A") for _ in range(5))
        )
        statistics = (await http.get(f"{world.url}/_world/stats")).json()
        log = (await http.get(f"{world.url}/_world/log?service=news")).json()
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 429, 429]
    assert (statistics["news"]["requests"], statistics["news"]["largest_window"]) == (5, 5)
    assert len(log) == 5


@pytest.mark.asyncio
async def test_faults_can_be_changed_while_it_runs() -> None:
    async with World() as world, client() as http:
        url = world.url_of("news") + "/rss/2.0/headline?s=A"
        changed = await http.post(f"{world.url}/_world/faults", content="news=500")
        broken = await http.get(url)
        refused = await http.post(f"{world.url}/_world/faults", content="news=lightning")
        reset = await http.post(f"{world.url}/_world/reset")
    assert (changed.status_code, broken.status_code, refused.status_code, reset.status_code) == (
        200,
        500,
        400,
        200,
    )
    assert "lightning" in refused.json()["error"]
    assert not world.entries("news")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET\r\n\r\n", b"400"),
        (b"POST /llm/v1/chat/completions HTTP/1.1\r\nContent-Length: lots\r\n\r\n", b"400"),
        (b"POST /llm/v1/chat/completions HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
    ],
)
@pytest.mark.asyncio
async def test_bytes_that_are_no_request_are_answered_and_closed(sent: bytes, status: bytes) -> None:
    async with World() as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.rpartition(":")[2]))
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.split(b" ")[1] == status


@pytest.mark.asyncio
async def test_closing_the_world_ends_hanging_requests_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    arrived = asyncio.Event()

    def clock() -> float:
        arrived.set()
        return 0.0

    async with client() as http:
        async with World(WorldSettings(faults=parse_faults("news=hang")), clock=clock) as world:
            request = asyncio.ensure_future(http.get(world.url_of("news") + "/rss/2.0/headline?s=A"))
            await arrived.wait()
        with pytest.raises(httpx2.TransportError):
            await request
    assert asyncio.all_tasks() == before


def test_a_world_in_a_thread_serves_synchronous_code() -> None:
    with world_in_thread() as world:
        body = json.dumps(CHAT).encode()
        with urllib.request.urlopen(
            world.url_of("llm") + "/chat/completions", data=body, timeout=5
        ) as answer:
            assert json.load(answer)["object"] == "chat.completion"


def test_asking_a_stopped_world_for_its_address_says_how_to_start_it() -> None:
    with pytest.raises(RuntimeError, match="async with World"):
        _ = World().url


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faults", "sec=lightning"], "lightning"),
        (["--port", "70000"], "70000"),
        (["--time-scale", "inf"], "inf"),
        (["--time-scale", "nan"], "nan"),
        (["--run-for", "nan"], "nan"),
        (["--rules", "sec=many/1"], "many/1"),
        (["--rules", "sec=0/1"], "limit=0"),
        (["--latency", "llm=5-2"], "5.0 to 2.0"),
        (["--latency", "radio=1"], "radio"),
        (["--time-scale", "-1"], "-1"),
    ],
)
def test_the_command_refuses_bad_options_in_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(world_command, arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_the_command_prints_where_everything_is() -> None:
    result = CliRunner().invoke(world_command, ["--time-scale", "0", "--run-for", "0"])
    assert result.exit_code == 0
    assert set(json.loads(result.output)) == {"url", *SERVICES}


def test_the_command_says_when_the_port_is_taken() -> None:
    with world_in_thread() as world:
        result = CliRunner().invoke(world_command, ["--port", world.url.rpartition(":")[2], "--run-for", "0"])
    assert result.exit_code == 1
    assert "choose another --port" in result.output
