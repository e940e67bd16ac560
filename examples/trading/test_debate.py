"""Debates over an OpenAI-compatible endpoint in memory: how long, how many calls, what is decided.

The loopback world answers with lifelike latencies (2-5 s) on a clock that jumps, so the seconds recorded
here are exact and cost milliseconds. Real sockets in real time: benchmarks/live.py.
"""

import pytest

from pytest_tradeperf.pipeline import virtual_time
from pytest_tradeperf.pipeline.debate.evidence import Evidence, facts_from_bars
from pytest_tradeperf.pipeline.debate.panel import Panel
from pytest_tradeperf.pipeline.debate.prompts import vote_request
from pytest_tradeperf.pipeline.debate.roles import ANALYSTS
from pytest_tradeperf.pipeline.debate.rules import RuleModel
from pytest_tradeperf.pipeline.llm.ledger import Ledger
from pytest_tradeperf.pipeline.llm.queue import WorkQueue
from pytest_tradeperf.pipeline.llm.service import AnswerService
from pytest_tradeperf.pipeline.llm.tokens import prompt_tokens

pytest.importorskip("httpx2", reason="a language model needs pytest-tradeperf[pipeline]")

from pytest_tradeperf.pipeline.debate.decision import DebateSettings
from pytest_tradeperf.pipeline.llm.client import OpenAiModel
from pytest_tradeperf.pipeline.world.settings import LIFELIKE_LATENCY, WorldSettings, parse_faults
from pytest_tradeperf.pipeline.world.transport import URL, WorldTransport

HEADLINES = ("beats estimates and raises guidance", "regulators open investigation")


def evidence_of(symbol, bars):
    facts = facts_from_bars(bars) | {"sentiment": 0.1, "put_call": 0.9, "filings": 3.0}
    return Evidence(ticker=symbol, as_of="2013-03-01", facts=facts, headlines=HEADLINES)


class Endpoint:
    """An endpoint in memory, and panels that ask it."""

    def __init__(self, seed=1, faults=""):
        latency = {"llm": LIFELIKE_LATENCY["llm"]}
        self.transport = WorldTransport(
            WorldSettings(seed=seed, latency=latency, faults=parse_faults(faults))
        )
        self.ledger = Ledger()

    def decide(self, *evidences, **settings):
        return virtual_time.run(self._decide(evidences, DebateSettings(**settings)))

    async def _decide(self, evidences, settings):
        async with (
            OpenAiModel(base_url=f"{URL}/llm/v1", model="world-1", transport=self.transport) as model,
            WorkQueue(workers=16) as queue,
        ):
            panel = Panel(AnswerService(model, queue), settings=settings)
            return await panel.decide_many(evidences, ledger=self.ledger)

    def slowest_chain(self):
        """Seconds of votes, turns and rulings, each as long as its slowest answer."""
        stages = {}
        for entry in self.transport.core.entries("llm"):
            stages.setdefault(round(entry.at_s, 3), []).append(entry.latency_s)
        return sum(map(max, stages.values()))


@pytest.mark.perf_budget(wall="10 s", threshold="10%")
def test_a_healthy_debate(perf, goog):
    endpoint = Endpoint()
    (decision,) = endpoint.decide(evidence_of("GOOG", goog), ambiguous_low=0.0, ambiguous_high=1.0)
    ratio = decision.wall_seconds / endpoint.slowest_chain()
    assert decision.degraded == ()
    assert decision.wall_seconds < 30
    assert ratio <= 1.1
    perf.record("debate_seconds", decision.wall_seconds, unit="s", better="lower")
    perf.record("ratio_to_slowest_chain", ratio, better="lower")
    perf.record("llm_calls", decision.calls, better="same")
    perf.record("tokens", decision.prompt_tokens + decision.completion_tokens, better="lower")
    perf.digest("decision", decision.record)


@pytest.mark.perf_budget(wall="10 s", threshold="10%")
@pytest.mark.parametrize(
    "fault", ["hang", "drip", "429", "500", "reset", "truncated", "html", "schema", "huge"]
)
def test_a_broken_endpoint_ends_in_time_and_is_never_a_hold(perf, goog, fault):
    endpoint = Endpoint(faults=f"llm={fault}")
    (decision,) = endpoint.decide(evidence_of("GOOG", goog))
    assert decision.wall_seconds < 30
    assert decision.action == "abstain"
    if fault == "hang":  # the others are retried after pauses with jitter
        perf.record("debate_seconds", decision.wall_seconds, unit="s", better="lower")


@pytest.mark.perf_budget(wall="10 s", threshold="10%")
def test_five_stocks_offline(perf, all_bars):
    """The default without a model: rules in the same protocol; what clear votes save is recorded."""

    async def decide():
        async with WorkQueue() as queue:
            items = [evidence_of(symbol, bars) for symbol, bars in all_bars.items()]
            return await Panel(AnswerService(RuleModel(), queue)).decide_many(items)

    decisions = perf(lambda: virtual_time.run(decide()))
    perf.record("calls", sum(d.calls for d in decisions), better="lower")
    perf.record("calls_saved", sum(d.calls_saved for d in decisions), better="higher")
    perf.digest("decisions", [d.record for d in decisions])


@pytest.mark.perf_budget(threshold="10%")
def test_prompts_stay_short(perf, goog):
    """A prompt that grows costs money in every call."""
    item = evidence_of("GOOG", goog)
    for analyst in ANALYSTS:
        count = prompt_tokens(vote_request(analyst, item, 5, "GOOG"))
        perf.record(f"prompt_tokens_{analyst.name}", count, better="lower")
