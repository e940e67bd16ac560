"""Real parts from a configuration: what is opened for a run, in which order, and closed whatever happens.

Heavy libraries load here, when a run begins, and not before.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.config import PipelineConfig
from pytest_tradeperf.pipeline.debate.decision import Arm, DebateSettings
from pytest_tradeperf.pipeline.debate.panel import Panel
from pytest_tradeperf.pipeline.debate.rules import RuleModel
from pytest_tradeperf.pipeline.desk import Charts, Parts, Recorder
from pytest_tradeperf.pipeline.errors import MissingExtraError, SettingError
from pytest_tradeperf.pipeline.llm.ledger import Ledger, Prices
from pytest_tradeperf.pipeline.llm.messages import ChatModel
from pytest_tradeperf.pipeline.llm.queue import WorkQueue
from pytest_tradeperf.pipeline.llm.service import AnswerService
from pytest_tradeperf.pipeline.positions import RiskSizer
from pytest_tradeperf.pipeline.research import BundledMarket, Feeds, FirstOf, Market, Silence, newest

if TYPE_CHECKING:
    import httpx2

    from pytest_tradeperf.pipeline.world.settings import WorldSettings


@asynccontextmanager
async def opened(
    config: PipelineConfig,
    *,
    model: ChatModel | None = None,
    transport: "Callable[[str], httpx2.AsyncBaseTransport] | None" = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    environment: Mapping[str, str] = os.environ,
) -> AsyncIterator[Parts]:
    """Yield the parts that ``config`` describes; sockets, files and tasks are closed at the end.

    Parameters
    ----------
    model
        Answers instead of the configured endpoint, for cassettes and tests.
    transport
        Makes what replaces real sockets, by service name, for worlds in memory and virtual time.
    now
        Wall clock of a live run; a world's time stands still.
    environment
        Variables that say where live feeds are, which are asked, and where their answers are kept: see
        :class:`~.altdata.settings.FeedSettings`. All else is in ``config``.

    Raises
    ------
    SettingError
        Two settings contradict each other, or a value is refused by the part it is for.
    MissingExtraError
        A part needs a library that is not installed.
    """
    async with AsyncExitStack() as stack:
        as_of = now()
        if config.source != "live":  # bundled bars end in the past, and so does everything about them
            as_of = newest(await BundledMarket().load(config.tickers, seconds=config.feeds_timeout), now)
        reach = _Reach(
            transport=transport,
            world_url=await _world(config, as_of, transport, stack),
            now=now if config.source == "live" else lambda: as_of,
        )
        queue = await stack.enter_async_context(
            WorkQueue(workers=config.llm_workers, cache_ttl=config.llm_cache_ttl)
        )
        model = await _taped(config, model or await _model(config, reach, stack), stack)
        yield Parts(
            market=await _market(config, reach, as_of, stack),
            feeds=await _feeds(config, reach, environment, stack),
            panel=Panel(AnswerService(model, queue), settings=debate_settings(config)),
            queue=queue,
            ledger=ledger(config),
            as_of=as_of,
            sizer=RiskSizer(config.equity),
            charts=await _charts(config, stack),
            recorder=_recorder(config, stack),
        )


def debate_settings(config: PipelineConfig) -> DebateSettings:
    """Return the part of the configuration that a panel needs."""
    return DebateSettings(
        arm=Arm(config.debate_arm),
        deadline_seconds=config.debate_seconds,
        ambiguous_low=config.debate_low,
        ambiguous_high=config.debate_high,
        max_turns=config.debate_turns,
        reason_characters=config.debate_reason,
        is_masked=config.debate_masked,
        may_stand_in=config.debate_stand_in,
    )


def ledger(config: PipelineConfig) -> Ledger:
    """Return an empty ledger with the configured budget and prices."""
    return Ledger(
        max_tokens=config.llm_max_tokens,
        max_cost_usd=config.llm_max_usd,
        prices=Prices(prompt=config.llm_price_prompt, completion=config.llm_price_completion),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reach:
    """How services are reached: a loopback world's address, what replaces sockets, and the time there is."""

    transport: "Callable[[str], httpx2.AsyncBaseTransport] | None"
    world_url: str | None
    now: Callable[[], datetime]

    def transport_of(self, service: str) -> "httpx2.AsyncBaseTransport | None":
        return None if self.transport is None else self.transport(service)


async def _world(
    config: PipelineConfig,
    as_of: datetime,
    transport: "Callable[[str], httpx2.AsyncBaseTransport] | None",
    stack: AsyncExitStack,
) -> str | None:
    """Return the address of a loopback world where anything needs one."""
    if config.source != "world" and config.llm_url != "world":
        return None
    if transport is not None:
        from pytest_tradeperf.pipeline.world.transport import URL

        return URL
    from pytest_tradeperf.pipeline.world.server import World

    return (await stack.enter_async_context(World(world_settings(config, as_of)))).url


def world_settings(config: PipelineConfig, as_of: datetime) -> "WorldSettings":
    """Return the loopback world that ``config`` describes, at one moment."""
    from pytest_tradeperf.pipeline.world.settings import WorldSettings

    settings = WorldSettings.lifelike(seed=config.world_seed, time_scale=config.world_scale)
    return replace(settings, now=as_of, rules=settings.rules if config.world_scale else {})


async def _market(config: PipelineConfig, reach: _Reach, as_of: datetime, stack: AsyncExitStack) -> Market:
    """Return the bundled bars, the network's, or both in turn."""
    if config.market == "bundled" or (config.market == "auto" and config.source == "off"):
        return BundledMarket()
    if reach.world_url is None and config.source != "live":
        raise SettingError("market 'network' needs source 'world' or 'live'")
    try:
        from pytest_tradeperf.pipeline.adapters import NetworkMarket
        from pytest_tradeperf.pipeline.marketdata.network import BASE_URL, POLICY, NetworkBars
        from pytest_tradeperf.pipeline.net.fetcher import Fetcher
    except ImportError as error:
        raise MissingExtraError(
            f"bars over the network need the network stack ({error.name} is missing);"
            " install pytest-tradeperf[pipeline]"
        ) from error
    unpaced = config.source == "world" and config.world_scale == 0
    fetcher = await stack.enter_async_context(
        Fetcher(
            replace(POLICY, rules=()) if unpaced else POLICY,
            headers={"User-Agent": "pytest-tradeperf"},
            transport=reach.transport_of("market"),
            trust_env=reach.world_url is None,
            now=reach.now,
        )
    )
    source = NetworkBars(
        fetcher, base_url=f"{reach.world_url}/market" if config.source == "world" else BASE_URL
    )
    network = NetworkMarket(source, as_of)
    return (
        network
        if config.source == "live" or config.market == "network"
        else FirstOf(BundledMarket(), network)
    )


async def _model(config: PipelineConfig, reach: _Reach, stack: AsyncExitStack) -> ChatModel:
    if not config.llm_url:
        return RuleModel()
    base_url, name = config.llm_url, config.llm_model
    if config.llm_url == "world":
        base_url = f"{reach.world_url}/llm/v1"
    elif config.llm_url == "local":
        from pytest_tradeperf.pipeline.llm.local import local_model

        served = stack.enter_context(local_model(slots=min(4, config.llm_workers)))
        base_url, name = served.base_url, served.name
    try:
        from pytest_tradeperf.pipeline.llm.client import OpenAiModel

        client = OpenAiModel(
            base_url=base_url,
            model=name,
            api_key=config.llm_api_key,
            timeout=config.llm_timeout,
            max_connections=config.llm_workers,
            is_streaming=config.llm_streaming,
            transport=reach.transport_of("llm"),
            trust_env=config.llm_url not in ("world", "local"),
        )
    except ImportError as error:
        raise MissingExtraError(
            f"a language model needs the network stack ({error.name} is missing);"
            " install pytest-tradeperf[pipeline]"
        ) from error
    except ValueError as error:
        raise SettingError(f"llm_url: {error}") from error
    return await stack.enter_async_context(client)


async def _taped(config: PipelineConfig, model: ChatModel, stack: AsyncExitStack) -> ChatModel:
    """Return the model behind the configured cassette, if there is one."""
    if not config.llm_cassette:
        return model
    from pytest_tradeperf.pipeline.llm.cassette import Cassette, Mode

    tape = Cassette(config.llm_cassette, mode=Mode(config.llm_cassette_mode), inner=model)
    return await stack.enter_async_context(tape)


async def _feeds(
    config: PipelineConfig, reach: _Reach, environment: Mapping[str, str], stack: AsyncExitStack
) -> Feeds:
    if config.source == "off":
        return Silence()
    from pytest_tradeperf.pipeline.adapters import AltFeeds
    from pytest_tradeperf.pipeline.altdata.collect import open_sources
    from pytest_tradeperf.pipeline.altdata.settings import FeedSettings

    if config.source == "live" or reach.world_url is None:
        # The configuration has read this variable already, and understands more spellings of it.
        others = {name: text for name, text in environment.items() if name != "TRADEPERF_FEEDS_TIMEOUT"}
        settings = FeedSettings.from_environment(others)
        settings = replace(
            settings,
            sec_user_agent=config.sec_user_agent or settings.sec_user_agent,
            timeout_s=config.feeds_timeout,
        )
        sources, notes = await stack.enter_async_context(
            open_sources(settings, transport=reach.transport, now=reach.now)
        )
        return AltFeeds(sources, notes)
    settings = FeedSettings.for_world(reach.world_url, timeout_s=config.feeds_timeout)
    sources, notes = await stack.enter_async_context(
        open_sources(
            settings,
            policy=None if config.world_scale else lambda policy: replace(policy, rules=()),
            transport=reach.transport,
            now=reach.now,  # a world's time stands still, and so do the ages of what it says
        )
    )
    return AltFeeds(sources, notes)


async def _charts(config: PipelineConfig, stack: AsyncExitStack) -> Charts | None:
    if not config.charts:
        return None
    from pytest_tradeperf.pipeline.charts import ChartCache, ChartQueue, clean_up
    from pytest_tradeperf.pipeline.drawing import ChartDrawer, warm_up

    folder = Path(config.output) / "charts"
    clean_up(folder, timedelta(days=config.chart_keep_days))
    queue = ChartQueue(
        workers=config.chart_workers, cache=ChartCache(ttl_s=config.chart_cache_ttl), folder=folder
    )
    stack.callback(queue.close, cancel=True)
    # Half a second of imports: before the run, whose every timer would feel it, and in a thread, so that
    # Ctrl-C is heard meanwhile. The thread is our own: the loop would wait for its default executor's.
    warmer = ThreadPoolExecutor(1, thread_name_prefix="charts-warm-up")
    try:
        await asyncio.get_running_loop().run_in_executor(warmer, warm_up)
    finally:
        warmer.shutdown(wait=False)
    return ChartDrawer(queue)


def _recorder(config: PipelineConfig, stack: AsyncExitStack) -> Recorder | None:
    if config.store == "off":
        return None
    from pytest_tradeperf.pipeline.adapters import StoreRecorder
    from pytest_tradeperf.pipeline.store import SignalStore

    path = Path(config.output).absolute() / "decisions.db"
    return StoreRecorder(stack.enter_context(SignalStore(config.store or f"sqlite:///{path}")))
