"""The real client against the loopback world: every fault it knows, in a shape a debate survives."""

import asyncio
from dataclasses import replace
from urllib.parse import urlsplit

import psutil
import pytest

from pytest_tradeperf.pipeline.debate.decision import Action, DebateSettings
from pytest_tradeperf.pipeline.debate.evidence import Evidence
from pytest_tradeperf.pipeline.debate.panel import Panel
from pytest_tradeperf.pipeline.llm.client import OpenAiModel
from pytest_tradeperf.pipeline.llm.ledger import Ledger
from pytest_tradeperf.pipeline.llm.queue import WorkQueue
from pytest_tradeperf.pipeline.llm.service import AnswerService
from pytest_tradeperf.pipeline.world.server import World
from pytest_tradeperf.pipeline.world.settings import FaultKind, FaultRule, LatencyRange, WorldSettings

ITEM = Evidence(
    ticker="AAPL",
    as_of="2013-01-02",
    facts={"return_20": 0.02, "rsi_14": 60.0, "volatility_ratio": 1.0, "sentiment": 0.1},
)


def connections_to(port):
    """Return this process's open connections to and from ``port``; other descriptors are others' business."""
    found = psutil.Process().net_connections("tcp")
    return [c for c in found if c.laddr.port == port or (c.raddr and c.raddr.port == port)]


def debate_against(settings, *, items=(ITEM,), batch=1, is_streaming=True, **more):
    """Return (decisions, ledger statement, the world's count of calls, seconds, tasks left)."""
    ledger = Ledger()
    port = 0

    async def main():
        nonlocal port
        loop = asyncio.get_running_loop()
        async with World(settings) as world:
            port = urlsplit(world.url).port
            start = loop.time()
            async with (
                OpenAiModel(
                    base_url=world.url_of("llm"),
                    model="world-1",
                    timeout=more.pop("timeout", 2.0),
                    trust_env=False,
                    is_streaming=is_streaming,
                    api_key="k",
                ) as model,
                WorkQueue(workers=8) as queue,
            ):
                panel = Panel(AnswerService(model, queue), settings=DebateSettings(**more))
                decisions = await panel.decide_many(items, ledger=ledger, batch=batch)
            seconds = loop.time() - start
            names = {t.get_coro().__qualname__ for t in asyncio.all_tasks() - {asyncio.current_task()}}
            return decisions, ledger.statement(), len(world.entries("llm")), seconds, names

    result = asyncio.run(main())
    assert connections_to(port) == []
    assert {n for n in result[-1] if "OpenAi" in n or "Sitting" in n or "Panel" in n} == set()
    return result


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_healthy_endpoint_is_debated_with_and_every_token_is_in_the_ledger(is_streaming, batch):
    items = [replace(ITEM, ticker=name) for name in ("AAPL", "GOOG", "IBM")]
    decisions, statement, calls, *_ = debate_against(
        WorldSettings(seed=3), items=items, batch=batch, is_streaming=is_streaming
    )
    assert not [line for d in decisions for line in d.degraded]
    assert statement.calls == calls == sum(d.calls for d in decisions)
    assert statement.total_tokens == sum(d.prompt_tokens + d.completion_tokens for d in decisions) > 0
    assert (statement.unaccounted_tokens, statement.overrun_tokens) == (0, 0)
    assert {d.action for d in decisions} <= {Action.BUY, Action.SELL, Action.HOLD}


@pytest.mark.parametrize("kind", list(FaultKind))
def test_no_fault_makes_a_hold_an_exception_or_a_late_answer(kind):
    settings = WorldSettings(
        seed=1, faults={"llm": (FaultRule(kind=kind),)}, retry_after_s=0.01, huge_bytes=3_000_000
    )
    patience = (14.0, 28.0) if kind is FaultKind.STALE else (0.5, 2.5)
    (decision,), statement, _, seconds, _ = debate_against(
        settings, timeout=patience[0], deadline_seconds=patience[1]
    )
    assert seconds < patience[1] + 10.0
    assert statement.reserved_tokens == 0
    if kind is FaultKind.STALE:
        assert decision.degraded == ()  # nothing in a chat completion can be stale
    else:
        assert decision.action is Action.ABSTAIN, decision.degraded
        assert decision.degraded


@pytest.mark.slow
def test_a_healthy_debate_is_within_a_tenth_of_its_slowest_chain():
    settings = WorldSettings(seed=5, latency={"llm": LatencyRange(low_s=0.2, high_s=0.5)})
    (decision,), *_ = debate_against(settings, ambiguous_low=0.0, ambiguous_high=1.0)
    assert decision.turns
    longest = 0.5 * (2 + decision.turns)
    assert decision.wall_seconds < 1.1 * longest
