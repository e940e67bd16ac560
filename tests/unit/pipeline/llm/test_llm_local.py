"""A real model behind the real client."""

import asyncio
import json
import subprocess
import sys

import httpx2
import psutil
import pytest

from pytest_tradeperf.pipeline.debate.answers import Opinion
from pytest_tradeperf.pipeline.debate.decision import Action, DebateSettings
from pytest_tradeperf.pipeline.debate.evidence import Evidence, facts_from_bars
from pytest_tradeperf.pipeline.debate.panel import Panel
from pytest_tradeperf.pipeline.debate.prompts import vote_request
from pytest_tradeperf.pipeline.debate.roles import ANALYSTS
from pytest_tradeperf.pipeline.errors import MissingExtraError
from pytest_tradeperf.pipeline.llm import local
from pytest_tradeperf.pipeline.llm.client import OpenAiModel
from pytest_tradeperf.pipeline.llm.errors import UnreachableError
from pytest_tradeperf.pipeline.llm.ledger import Ledger
from pytest_tradeperf.pipeline.llm.local import local_model
from pytest_tradeperf.pipeline.llm.messages import Message, Request
from pytest_tradeperf.pipeline.llm.queue import WorkQueue
from pytest_tradeperf.pipeline.llm.service import AnswerService
from pytest_tradeperf.pipeline.marketdata import load_bars


class Tap(httpx2.AsyncHTTPTransport):
    """Adds up the usage figures the server sends, independently of the client."""

    def __init__(self):
        super().__init__()
        self.tokens = self.answers = 0

    async def handle_async_request(self, request):
        response = await super().handle_async_request(request)
        try:
            body = b"".join([piece async for piece in response.stream])
        finally:
            await response.aclose()  # also when cancelled: the server stops working for who has gone
        for line in body.splitlines():
            event = json.loads(line[6:]) if line.startswith(b"data: {") else {}
            if usage := event.get("usage"):
                self.tokens += usage["prompt_tokens"] + usage["completion_tokens"]
                self.answers += 1
        return httpx2.Response(response.status_code, headers=response.headers, stream=httpx2.ByteStream(body))


@pytest.mark.slow
def test_a_real_model_debates_two_tickers_and_the_ledger_is_the_servers_usage():
    pytest.importorskip("xllamacpp", reason="needs the extra llm")
    items = [
        Evidence(
            ticker=ticker,
            as_of="2013-03-01",
            facts={name: facts[name] for name in ("return_20", "rsi_14", "return_5")},
        )
        for ticker in ("IBM", "AAPL")
        for facts in [facts_from_bars(load_bars(ticker))]
    ]
    ledger, tap = Ledger(max_tokens=100_000), Tap()

    async def main(served):
        async with (
            OpenAiModel(base_url=served.base_url, model=served.name, timeout=120, transport=tap) as model,
            WorkQueue(workers=2) as queue,
        ):
            service = AnswerService(model, queue)
            # the first answer pages the weights in, and shows that the model answers in the shape at all
            request = vote_request(ANALYSTS[0], items[0], 5, "first")
            later = asyncio.get_running_loop().time() + 120
            first = await service.ask(request, Opinion, ledger=ledger, deadline=later)
            panel = Panel(
                service,
                analysts=ANALYSTS[:2],
                # few facts and words: a model on two quiet processors reads some 300 tokens a second and says
                # 30, to all its askers together
                settings=DebateSettings(
                    deadline_seconds=28,
                    max_turns=1,
                    reason_characters=12,
                    ambiguous_low=0.0,
                    ambiguous_high=1.0,
                ),
            )
            return first, await panel.decide_many(items, ledger=ledger)

    with local_model(slots=2) as served:
        child = psutil.Process().children()[-1]
        first, decisions = asyncio.run(main(served))
    assert not child.is_running()
    statement = ledger.statement()
    assert any(not vote.error for decision in decisions for vote in decision.votes)
    for decision in decisions:
        print(decision.record, decision.wall_seconds)  # noqa: T201 - figures for the record, shown by -s
        assert decision.wall_seconds < 30
        assert all((vote.probability is None) == bool(vote.error) for vote in decision.votes)
        if decision.action is Action.ABSTAIN:
            assert decision.degraded
        else:
            assert 0 <= decision.probability <= 1
    print(statement, tap.answers)  # noqa: T201
    assert statement.total_tokens == tap.tokens > 0
    assert statement.calls >= tap.answers
    assert statement.unaccounted_tokens == 0 or statement.calls > tap.answers
    told = sum(d.prompt_tokens + d.completion_tokens for d in decisions)
    assert first.usage.total_tokens + told == tap.tokens


@pytest.mark.slow
def test_a_real_model_streams_and_tells_the_time_to_its_first_token():
    pytest.importorskip("xllamacpp", reason="needs the extra llm")

    async def main(served):
        async with OpenAiModel(base_url=served.base_url, model=served.name, trust_env=False) as model:
            request = Request(messages=(Message(role="user", content="Count from 1 to 5."),), max_tokens=30)
            return await model.complete(request)

    with local_model() as served:
        answer = asyncio.run(main(served))
    assert answer.usage.is_reported
    assert 0 < answer.first_token_seconds < answer.wall_seconds


def test_a_child_that_dies_is_one_error_with_its_last_words(tmp_path):
    with pytest.raises((UnreachableError, MissingExtraError)), local_model(tmp_path / "none.gguf"):
        raise AssertionError("it started")


def test_a_missing_package_names_the_extra(monkeypatch):
    real = subprocess.Popen

    def without_packages(command, **more):
        code = f"import sys; sys.modules['xllamacpp'] = None; from {local.__name__} import _serve; _serve('', 1, 1)"
        return real([sys.executable, "-c", code], **more)

    monkeypatch.setattr(local.subprocess, "Popen", without_packages)
    with pytest.raises(MissingExtraError, match=r"xllamacpp.*install pytest-tradeperf\[llm\]"), local_model():
        raise AssertionError("it started")
