import asyncio
import json
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field

from pytest_tradeperf.pipeline import virtual_time
from pytest_tradeperf.pipeline.llm.errors import (
    BudgetError,
    MalformedError,
    TimeoutExceededError,
    UnreachableError,
)
from pytest_tradeperf.pipeline.llm.ledger import Ledger, Prices
from pytest_tradeperf.pipeline.llm.queue import WorkQueue
from pytest_tradeperf.pipeline.llm.service import AnswerService, QuestionError, read_answer, short_schema


class Vote(BaseModel):
    """How sure somebody is."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    probability: Annotated[float, Field(ge=0, le=1)]
    title: Annotated[str, Field(max_length=10)] = ""


GOOD = '{"probability": 0.5}'


def asking(model, request, *, ledger=None, deadline=60.0, times=1, queue=None):
    """Return (answers or errors, ledger statement, queue stats, virtual seconds, tasks left)."""
    ledger = ledger or Ledger()

    async def main():
        loop = asyncio.get_running_loop()
        async with queue or WorkQueue() as used:
            service = AnswerService(model, used)
            got = await asyncio.gather(
                *(service.ask(request, Vote, ledger=ledger, deadline=deadline) for _ in range(times)),
                return_exceptions=True,
            )
        return (
            got,
            ledger.statement(),
            used.stats(),
            loop.time(),
            asyncio.all_tasks() - {asyncio.current_task()},
        )

    return virtual_time.run(main())


def test_a_good_answer_costs_one_call(scripted, ask):
    model = scripted(lambda _: GOOD, 2.0)
    (answer,), statement, _, seconds, _ = asking(model, ask())
    assert answer.value == Vote(probability=0.5)
    assert (answer.calls, answer.was_repaired, seconds) == (1, False, 2.0)
    assert statement.total_tokens == answer.usage.total_tokens == 25
    assert model.asked[0].schema_name == "vote"


def test_a_broken_answer_is_sent_back_once_with_what_is_wrong(scripted, ask):
    answers = iter(['{"probability": 7}', GOOD])
    model = scripted(lambda _: next(answers))
    (answer,), statement, *_ = asking(model, ask("first", label="x"))
    assert (answer.value.probability, answer.was_repaired, answer.calls) == (0.5, True, 2)
    repair = model.asked[1]
    assert repair.label == "x/repair"
    assert "probability: Input should be less than or equal to 1" in repair.messages[-1].content
    assert statement.calls == 2


def test_an_answer_still_broken_is_malformed_and_its_cost_is_told(scripted, ask):
    (error,), statement, *_ = asking(scripted(lambda _: "I think it goes up"), ask())
    assert isinstance(error, QuestionError)
    assert isinstance(error.cause, MalformedError)
    assert "no JSON object" in str(error)
    assert error.spent.usage.total_tokens == statement.total_tokens == 50


def test_the_deadline_holds_whatever_the_model_does(scripted, ask):
    (error,), statement, _, seconds, left = asking(scripted(lambda _: GOOD, 1e6), ask(), deadline=3.0)
    assert isinstance(error.cause, TimeoutExceededError)
    assert seconds == 3.0
    assert statement.unaccounted_tokens > 0
    assert statement.reserved_tokens == 0
    assert not left


def test_nothing_is_sent_over_budget(scripted, ask):
    model = scripted(lambda _: GOOD)
    (error,), statement, *_ = asking(model, ask(), ledger=Ledger(max_tokens=10))
    assert isinstance(error.cause, BudgetError)
    assert (model.asked, statement.calls, statement.refused) == ([], 0, 1)


def test_connections_refused_cost_nothing(scripted, ask):
    refused = scripted(lambda _: UnreachableError("nobody listens", was_sent=False))
    ledger = Ledger(max_tokens=2000, max_cost_usd=1.0, prices=Prices(prompt=1000, completion=1000))
    for _ in range(12):
        (error,), statement, *_ = asking(refused, ask(), ledger=ledger)
        assert isinstance(error.cause, UnreachableError)
    assert (statement.calls, statement.unaccounted_tokens, statement.cost_usd) == (0, 0, 0)
    assert ledger.remaining_tokens == 2000


def test_a_connection_that_broke_on_the_way_is_paid(scripted, ask):
    broken = scripted(lambda _: UnreachableError("reset"))
    _, statement, *_ = asking(broken, ask(), ledger=Ledger(max_tokens=2000))
    assert statement.unaccounted_tokens > 0


def test_equal_questions_are_paid_once(scripted, ask):
    model = scripted(lambda _: GOOD, 1.0)
    got, statement, stats, *_ = asking(model, ask(), times=100)
    assert len(model.asked) == statement.calls == 1
    assert statement.reserved_tokens == 0
    assert sum(answer.calls for answer in got) == 1
    assert stats.joined == 99


def test_a_call_whose_first_asker_left_is_still_paid(scripted, ask):
    ledger = Ledger(max_tokens=10_000)

    async def main():
        async with WorkQueue(workers=1) as queue:
            service = AnswerService(scripted(lambda _: GOOD, 1.0), queue)

            def question(text):
                return asyncio.create_task(service.ask(ask(text), Vote, ledger=ledger, deadline=60))

            busy, first, second = question("busy"), question("same"), question("same")
            await asyncio.sleep(0.5)  # "same" is still pending
            first.cancel()
            return await asyncio.gather(busy, second)

    virtual_time.run(main())
    statement = ledger.statement()
    assert (statement.calls, statement.total_tokens, statement.reserved_tokens) == (2, 50, 0)


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0, 1.5, 2.5])
def test_cancelling_leaves_no_task_and_no_reservation(scripted, ask, at):
    answers = iter(["broken", GOOD])
    ledger = Ledger()

    async def main():
        async with WorkQueue() as queue:
            service = AnswerService(scripted(lambda _: next(answers), 1.0), queue)
            task = asyncio.create_task(service.ask(ask(), Vote, ledger=ledger, deadline=60))
            await asyncio.sleep(at)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert virtual_time.run(main()) == set()
    assert ledger.statement().reserved_tokens == 0


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Sure! Here it is: {GOOD} Hope it helps.",
        '{"probability": 1, "title": "short"}',
    ],
)
def test_fences_and_talk_are_forgiven(text):
    assert read_answer(text, Vote)[0] is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "}{",
        "[0.5]",
        '{"probability": "0.5"}',
        '{"probability": NaN}',
        '{"probability": 1e999}',
        '{"probability": -0.1}',
        '{"probability": 0.5, "action": "sell everything"}',
        '{"probability": 0.5, "title": "longer than ten"}',
        '{"probability": true}',
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        '{"probability": 0.5} {"probability": 0.6}',
        '{"probability": 0.5, "title": "\x00\x01"}',
    ],
)
def test_everything_else_is_refused_with_a_reason(text):
    value, problem = read_answer(text, Vote)
    assert value is None
    assert problem


def test_the_schema_sent_has_no_prose_but_keeps_fields_of_that_name():
    schema = short_schema(Vote)
    assert "description" not in schema
    assert set(schema["properties"]) == {"probability", "title"}
    assert "title" not in schema["properties"]["probability"]
    assert schema["additionalProperties"] is False
    assert len(json.dumps(schema)) < 300
