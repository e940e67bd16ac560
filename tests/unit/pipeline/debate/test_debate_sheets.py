"""Sheets that the deadline cuts: what came counts, what did not is named."""

import asyncio
import itertools
import json

import pytest

from pytest_tradeperf.pipeline import virtual_time
from pytest_tradeperf.pipeline.debate.answers import sheet_of
from pytest_tradeperf.pipeline.debate.decision import DebateSettings
from pytest_tradeperf.pipeline.debate.panel import Panel
from pytest_tradeperf.pipeline.debate.rules import answer_by_rule
from pytest_tradeperf.pipeline.llm.cassette import Cassette, Mode
from pytest_tradeperf.pipeline.llm.errors import UnreachableError
from pytest_tradeperf.pipeline.llm.ledger import Ledger
from pytest_tradeperf.pipeline.llm.messages import Completion
from pytest_tradeperf.pipeline.llm.queue import WorkQueue
from pytest_tradeperf.pipeline.llm.service import AnswerService

SAID = {
    "item_1": {"probability": 0.25, "confidence": 0.75, "reason": "falls, like {this}, or [that]"},
    "item_2": {"probability": 1, "confidence": 0.5, "reason": 'a "quoted" }, word é\u2028'},
    "item_3": {"probability": 0.125, "confidence": 1e-1, "reason": ""},
}


class Speaking:
    """A model that says its answer letter by letter, evenly over ``seconds``, and may break off."""

    def __init__(self, seconds, breaks_at=None):
        self.seconds, self.breaks_at = seconds, breaks_at

    async def complete(self, request):
        text, said = answer_by_rule(request), []
        request.draft.follow(lambda: "".join(said))
        for letter in text:
            await asyncio.sleep(self.seconds / len(text))
            said.append(letter)
            if self.breaks_at is not None and len(said) > self.breaks_at * len(text):
                raise UnreachableError("the line went dead")
        return Completion(text=text)


def decide(model, items, *, deadline, **settings):
    ledger = Ledger()

    async def main():
        async with WorkQueue() as queue:
            panel = Panel(AnswerService(model, queue), settings=DebateSettings(arm="vote", **settings))
            return await panel.decide_many(items, ledger=ledger, deadline=deadline, batch=len(items))

    return virtual_time.run(main()), ledger.statement()


def trend_of(decisions):
    return [next(vote for vote in d.votes if vote.analyst == "trend") for d in decisions]


@pytest.mark.parametrize("order", list(itertools.permutations(("probability", "confidence", "reason"))))
@pytest.mark.parametrize("prefix", ["", "```json\n"])
def test_a_cut_answer_never_says_what_the_whole_one_does_not(order, prefix):
    shape = sheet_of(3)
    said = {name: {key: item[key] for key in order} for name, item in SAID.items()}
    text = prefix + json.dumps(said)
    whole = shape.model_validate_json(json.dumps(said))
    counts = []
    for end in range(len(text) + 1):
        part = shape.in_part(text[:end])
        found = [part.opinion(n) for n in (1, 2, 3)] if part else [None] * 3
        assert all(opinion in (None, whole.opinion(place)) for place, opinion in enumerate(found, 1)), text[
            :end
        ]
        counts.append(sum(opinion is not None for opinion in found))
    assert counts[-1] == 3
    assert counts[len(text) // 2] >= 1
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no object",
        "{",
        "[1]",
        '{"item_9": {}}',
        '{"item_1": 3',
        "{" * 10_000,
        '{"a":' * 10_000,
        "\ud800{",
    ],
)
def test_beginnings_of_something_else_hold_no_opinion(text):
    part = sheet_of(2).in_part(text)
    assert part is None or (part.opinion(1), part.opinion(2)) == (None, None)


def test_items_that_came_before_the_deadline_count_and_the_others_are_named(evidence):
    items = [evidence(f"T{n}") for n in range(6)]
    whole, _ = decide(Speaking(4.0), items, deadline=10.0)
    cut, statement = decide(Speaking(4.0), items, deadline=2.5)
    errors = [vote.error for vote in trend_of(cut)]
    assert errors[:3] == [""] * 3
    assert errors[-2:] == ["timeout"] * 2
    in_time = [vote for vote in trend_of(cut) if not vote.error]
    assert in_time == trend_of(whole)[: len(in_time)]
    assert "vote/trend: timeout" in cut[-1].degraded
    assert statement.unaccounted_tokens > 0  # nobody told what the cut calls used: all of it is booked
    assert statement.reserved_tokens == 0


def test_rules_stand_in_just_for_what_did_not_come(evidence):
    items = [evidence(f"T{n}") for n in range(6)]
    cut, _ = decide(Speaking(4.0), items, deadline=2.5, may_stand_in=True)
    errors = [vote.error for vote in trend_of(cut)]
    assert errors[0] == ""
    assert errors[-1] == "timeout, rules stood in"


def test_a_connection_that_breaks_leaves_what_it_carried(evidence):
    cut, _ = decide(Speaking(4.0, breaks_at=0.5), [evidence(f"T{n}") for n in range(6)], deadline=10.0)
    assert [vote.error for vote in trend_of(cut)][::5] == ["", "unreachable"]


def test_a_cassette_cuts_where_the_recording_was_cut(tmp_path, evidence):
    items = [evidence(f"T{n}") for n in range(6)]
    with_tape = Cassette(tmp_path / "tape", mode=Mode.RECORD, inner=Speaking(4.0))
    recorded, _ = decide(with_tape, items, deadline=2.5)
    with_tape.close()
    for speed in (1, float("inf")):
        replayed, _ = decide(Cassette(tmp_path / "tape", speed=speed), items, deadline=2.5)
        assert [d.record for d in replayed] == [d.record for d in recorded]
