"""A panel on virtual time over a model of one's choice."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_tradeperf.pipeline import virtual_time
from pytest_tradeperf.pipeline.debate.decision import DebateSettings, Decision
from pytest_tradeperf.pipeline.debate.evidence import Evidence
from pytest_tradeperf.pipeline.debate.panel import Panel
from pytest_tradeperf.pipeline.debate.rules import answer_by_rule
from pytest_tradeperf.pipeline.llm.ledger import Ledger, Statement
from pytest_tradeperf.pipeline.llm.messages import Completion, Request, Usage
from pytest_tradeperf.pipeline.llm.queue import QueueStats, WorkQueue
from pytest_tradeperf.pipeline.llm.service import AnswerService


@dataclass
class Outcome:
    decisions: tuple[Decision, ...]
    seconds: float
    left: set[Any]
    stats: QueueStats
    statement: Statement


def opinion(probability: float, confidence: float = 0.8, reason: str = "because") -> str:
    return json.dumps({"probability": probability, "confidence": confidence, "reason": reason})


class Script:
    """Answers by the last part of the label: text, an error to raise, ``...`` to hang, or the rules."""

    def __init__(self, answers: dict[str, Any], seconds: Any = 1.0) -> None:
        self.answers, self.seconds = answers, seconds
        self.asked: list[Request] = []

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        place = request.label.split("/", 2)[2] if request.label.count("/") > 1 else request.label
        found = next((v for k, v in self.answers.items() if place.startswith(k)), None)
        await asyncio.sleep(self.seconds(request) if callable(self.seconds) else self.seconds)
        if found is ...:
            await asyncio.get_running_loop().create_future()
        if isinstance(found, BaseException):
            raise found
        text = found if found is not None else answer_by_rule(request)
        return Completion(text=text, usage=Usage(prompt_tokens=100, completion_tokens=20))


@pytest.fixture
def script():
    return Script


@pytest.fixture
def say():
    return opinion


@pytest.fixture
def evidence():
    def make(ticker: str = "AAPL", **more: Any) -> Evidence:
        facts = {
            "return_5": 0.01,
            "return_20": 0.03,
            "return_60": 0.01,
            "sma_gap": 0.01,
            "sma_cross": 0.0,
            "rsi_14": 61.0,
            "band_position": 0.7,
            "volatility_20": 0.2,
            "volatility_ratio": 1.1,
            "atr_share": 0.02,
            "drawdown_60": -0.04,
            "sentiment": 0.1,
        }
        settings = {
            "as_of": "2013-01-02",
            "facts": facts,
            "headlines": (f"{ticker} beats estimates",),
        } | more
        return Evidence(ticker=ticker, **settings)

    return make


@pytest.fixture
def deliberate():
    def run(
        model: Any,
        *items: Evidence,
        ledger: Ledger | None = None,
        workers: int = 8,
        batch: int = 1,
        **settings: Any,
    ) -> Outcome:
        ledger = ledger or Ledger()

        async def main() -> Outcome:
            loop = asyncio.get_running_loop()
            queue = WorkQueue(workers=workers)
            panel = Panel(AnswerService(model, queue), settings=DebateSettings(**settings))
            decisions = await panel.decide_many(items, ledger=ledger, batch=batch)
            seconds = loop.time()
            await queue.aclose(drain=False)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            return Outcome(decisions, seconds, left, queue.stats(), ledger.statement())

        return virtual_time.run(main())

    return run
