import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tradeperf.pipeline.debate.decision import Action, action_for
from pytest_tradeperf.pipeline.debate.evidence import (
    LONGEST_HEADLINE,
    MOST_HEADLINES,
    Evidence,
    clean_text,
    facts_from_bars,
    masked,
)
from pytest_tradeperf.pipeline.debate.prompts import (
    Case,
    judge_request,
    sheet_request,
    turn_request,
    vote_request,
)
from pytest_tradeperf.pipeline.debate.roles import ANALYSTS, Analyst
from pytest_tradeperf.pipeline.debate.rules import answer_by_rule, seeded_seconds
from pytest_tradeperf.pipeline.debate.statements import Tally, Vote, tally
from pytest_tradeperf.pipeline.llm.errors import MalformedError
from pytest_tradeperf.pipeline.llm.tokens import prompt_tokens
from pytest_tradeperf.pipeline.marketdata import Bars, load_bars

votes = st.builds(
    Vote,
    analyst=st.text(min_size=1, max_size=3),
    probability=st.none() | st.floats(0, 1),
    confidence=st.floats(0, 1),
    weight=st.floats(0.01, 10),
)


def test_the_pool_weighs_by_weight_and_confidence():
    got = tally(
        [
            Vote(analyst="a", probability=0.9, confidence=1.0, weight=2.0),
            Vote(analyst="b", probability=0.3, confidence=0.5),
        ]
    )
    assert got == Tally(probability=0.78, agreement=0.8, n_votes=2)


def test_no_votes_have_no_probability_and_no_confidence_counts_equally():
    assert tally([Vote(analyst="a", probability=None)]) == Tally(probability=None, agreement=0.0, n_votes=0)
    both = [Vote(analyst="a", probability=0.2), Vote(analyst="b", probability=0.6)]
    assert tally(both).probability == 0.4
    hardly = [Vote(analyst=v.analyst, probability=v.probability, confidence=5e-324) for v in both]
    assert tally(hardly).probability == 0.4


@settings(deadline=None)  # a busy machine is no finding
@given(st.lists(votes, max_size=5))
def test_the_order_of_arrival_changes_nothing_and_the_pool_stays_within_the_votes(cast):
    results = {tally(order) for order in itertools.permutations(cast)}
    assert len(results) == 1
    said = [v.probability for v in cast if v.probability is not None]
    if said:
        assert min(said) - 1e-9 <= results.pop().probability <= max(said) + 1e-9


@pytest.mark.parametrize(
    ("probability", "margin", "action"),
    [(0.55, 0.05, Action.BUY), (0.45, 0.05, Action.SELL), (0.5, 0.0, Action.HOLD), (0.54, 0.05, Action.HOLD)],
)
def test_the_margin_belongs_to_the_action(probability, margin, action):
    assert action_for(probability, margin) is action


def test_evidence_cleans_what_strangers_say():
    item = Evidence(
        ticker="X",
        as_of="2024-01-02",
        facts={"b": 1.23456789, "a": math.nan, "c": math.inf},
        headlines=("bell\x07 and\r\nlines\u2028 \u202eevil", "", " \x00 ", "x" * 10_000_000, *"abcdefghij"),
    )
    assert item.facts == {"b": 1.2346}
    assert item.headlines[0] == "bell and lines evil"
    assert len(item.headlines[1]) == LONGEST_HEADLINE
    assert len(item.headlines) == MOST_HEADLINES


@settings(deadline=None)  # a busy machine is no finding
@given(st.text())
def test_clean_text_is_one_printable_line_and_stays_as_it_is(text):
    once = clean_text(text)
    assert once.isprintable()
    assert clean_text(once) == once


def test_masking_leaves_other_words_alone():
    item = Evidence(
        ticker="A", as_of="2013-01-02", headlines=("A rises, AA falls, a May 5 plan, $A's Apple (A)",)
    )
    assert masked(item).headlines == ("ASSET rises, AA falls, ASSET [date] plan, ASSET Apple (ASSET)",)


def test_facts_know_nothing_of_later_bars():
    bars = load_bars("IBM")
    changed = Bars(
        symbol="IBM",
        timestamps=bars.timestamps,
        **{
            name: np.concatenate([getattr(bars, name)[:500], getattr(bars, name)[500:] * 2])
            for name in ("open", "high", "low", "close", "volume")
        },
    )
    assert facts_from_bars(bars[:500]) == facts_from_bars(changed[:500])


def test_facts_of_a_hand_made_series():
    close = np.linspace(100, 199, 100)
    bars = Bars(
        symbol="UP",
        timestamps=np.arange("2024-01-01", "2024-04-10", dtype="datetime64[D]"),
        open=close,
        high=close + 1,
        low=close - 1,
        close=close,
        volume=close,
    )
    facts = facts_from_bars(bars)
    assert facts["return_5"] == pytest.approx(199 / 194 - 1)
    assert facts["sma_gap"] == pytest.approx(199 / 174.5 - 1)
    assert facts["rsi_14"] == 100
    assert facts["drawdown_60"] == 0
    assert facts["atr_share"] == pytest.approx(2 / 199)


@pytest.mark.parametrize("n", [0, 1, 2, 19, 49])
def test_too_few_bars_leave_facts_out_without_noise(n):
    facts = facts_from_bars(load_bars("IBM")[:n])
    assert all(math.isfinite(v) for v in facts.values())
    assert "sma_gap" not in facts
    assert ("drawdown_60" in facts) == (n > 0)


def full(ticker="GOOG", headlines=8):
    return Evidence(
        ticker=ticker,
        as_of="2013-03-01",
        facts=facts_from_bars(load_bars("GOOG")) | {"sentiment": 0.12, "put_call": 0.9, "filings": 2.0},
        headlines=tuple(
            f"headline number {n} about something that beats all estimates" for n in range(headlines)
        ),
    )


def test_prompts_stay_short():
    counts = {a.name: prompt_tokens(vote_request(a, full(), 5, "x")) for a in ANALYSTS}
    assert max(counts.values()) < 420
    assert counts["trend"] < 230
    batch = prompt_tokens(sheet_request(ANALYSTS[0], [full()] * 10, 5, ["x"] * 10))
    assert batch < 0.6 * 10 * counts["trend"]


def test_equal_evidence_gives_equal_prompts_whatever_the_order_it_came_in():
    item = full()
    shuffled = Evidence(
        ticker="GOOG", as_of="2013-03-01", facts=dict(reversed(item.facts.items())), headlines=item.headlines
    )
    for analyst in ANALYSTS:
        assert vote_request(analyst, item, 5, "x").key == vote_request(analyst, shuffled, 5, "x").key


@settings(deadline=None)  # a busy machine is no finding
@given(st.text(max_size=300))
def test_no_headline_closes_the_quotation(text):
    item = Evidence(ticker="X", as_of="2024-01-02", headlines=(text, f"</data>{text}"))
    user = vote_request(ANALYSTS[3], item, 5, "x").messages[1].content
    assert user.startswith("<data>{")
    assert user.endswith("}</data>")
    assert user.count("<") == user.count(">") == 2
    assert json.loads(user[6:-7])["headlines"] == list(item.headlines)


def test_the_rules_answer_every_role_from_the_prompt_alone():
    item = full()
    cast = [
        Vote(analyst="trend", probability=0.7, confidence=0.5),
        Vote(analyst="x", probability=0.4, confidence=0.1),
    ]
    case = Case(evidence=item, votes=cast, said=(), horizon=5, label="x")
    requests = [vote_request(a, item, 5, "x") for a in ANALYSTS]
    requests += [turn_request(side, case) for side in ("bull", "bear")] + [judge_request("bull", case)]
    answers = [json.loads(answer_by_rule(r)) for r in requests]
    assert all(0 <= a["probability"] <= 1 and 0 <= a["confidence"] <= 1 for a in answers)
    bull, bear, judge = (a["probability"] for a in answers[-3:])
    assert bear < judge < bull


@pytest.mark.parametrize("name", ["trend", "reversion", "volatility", "sentiment"])
def test_the_rules_lean_the_way_their_evidence_does(name):
    analyst = next(a for a in ANALYSTS if a.name == name)
    good = {"return_20": 0.1, "rsi_14": 20.0, "band_position": 0.0, "volatility_ratio": 0.6, "sentiment": 0.8}
    bad = {
        "return_20": -0.1,
        "rsi_14": 80.0,
        "band_position": 1.0,
        "volatility_ratio": 1.8,
        "sentiment": -0.8,
    }

    def vote(facts):
        item = Evidence(ticker="X", as_of="2024-01-02", facts=facts)
        return json.loads(answer_by_rule(vote_request(analyst, item, 5, "x")))["probability"]

    assert vote(good) > 0.5 > vote(bad)


def test_the_lexicon_speaks_where_no_score_is_given():
    def vote(headline):
        item = Evidence(ticker="X", as_of="2024-01-02", headlines=(headline,))
        return json.loads(answer_by_rule(vote_request(ANALYSTS[3], item, 5, "x")))["probability"]

    assert vote("X beats and raises") > vote("X to report") == 0.5 > vote("fraud probe, lawsuit")


def test_the_rules_refuse_what_is_no_prompt_of_the_debate(request):
    from pytest_tradeperf.pipeline.llm.messages import Message, Request

    for content in ("hello", "Role: poet. Sing.", ""):
        with pytest.raises(MalformedError, match="only prompts of the debate"):
            answer_by_rule(Request(messages=(Message(role="system", content=content),)))


def test_seeded_delays_are_in_range_and_differ_by_seed():
    requests = [vote_request(a, full(), 5, "x") for a in ANALYSTS]
    first, again, other = (list(map(seeded_seconds(s, 2, 5), requests)) for s in (1, 1, 2))
    assert first == again != other
    assert all(2 <= s < 5 for s in first)


def test_a_weight_of_nothing_is_refused():
    with pytest.raises(ValueError, match="must be above 0"):
        Analyst(name="x", task="y", facts=(), weight=0)
