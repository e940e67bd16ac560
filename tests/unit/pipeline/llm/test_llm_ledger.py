import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tradeperf.pipeline.llm.errors import BudgetError
from pytest_tradeperf.pipeline.llm.ledger import Ledger, Prices
from pytest_tradeperf.pipeline.llm.messages import Usage
from pytest_tradeperf.pipeline.llm.tokens import count_tokens, prompt_tokens, reservation_tokens


def used(prompt, completion):
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


def test_a_call_is_refused_before_it_is_sent_when_too_little_is_left():
    ledger = Ledger(max_tokens=100)
    first = ledger.reserve_tokens(prompt_tokens=50, completion_tokens=20)
    with pytest.raises(BudgetError, match="31 tokens were asked for and 30 are left of 100"):
        ledger.reserve_tokens(prompt_tokens=30, completion_tokens=1)
    first.settle(used(40, 5))
    assert ledger.remaining_tokens == 55
    assert ledger.statement().refused == 1


def test_money_is_reserved_and_settled_in_dollars_a_million_tokens():
    ledger = Ledger(max_cost_usd=0.002, prices=Prices(prompt=2.0, completion=10.0))
    reservation = ledger.reserve_tokens(prompt_tokens=500, completion_tokens=100)
    assert reservation.cost_usd == pytest.approx(0.002)
    with pytest.raises(BudgetError, match=r"\$0.000002 was asked for and \$0.000000 is left of \$0.002000"):
        ledger.reserve_tokens(prompt_tokens=1, completion_tokens=0)
    reservation.settle(used(500, 10))
    assert ledger.statement().cost_usd == pytest.approx(0.0011)


def test_what_nobody_told_the_use_of_stays_spent_and_is_shown():
    ledger = Ledger(max_tokens=100)
    ledger.reserve_tokens(prompt_tokens=50, completion_tokens=20).forfeit()
    statement = ledger.statement()
    assert (statement.unaccounted_tokens, statement.total_tokens, ledger.remaining_tokens) == (70, 0, 30)


def test_only_the_first_end_of_a_reservation_counts():
    ledger = Ledger(max_tokens=100)
    reservation = ledger.reserve_tokens(prompt_tokens=50, completion_tokens=0)
    reservation.release()
    reservation.settle(used(50, 0))
    reservation.forfeit()
    assert ledger.remaining_tokens == 100
    assert ledger.statement().calls == 0


def test_use_beyond_the_reservation_is_booked_and_shown():
    ledger = Ledger(max_tokens=100)
    ledger.reserve_tokens(prompt_tokens=10, completion_tokens=10).settle(used(90, 30))
    assert ledger.statement().overrun_tokens == 100
    assert ledger.remaining_tokens == 0


def test_parts_do_not_take_each_others_share_and_book_on_the_whole():
    whole = Ledger(max_tokens=100, max_cost_usd=1.0, prices=Prices(prompt=1.0))
    a, b = whole.divide(2)
    a.reserve_tokens(prompt_tokens=50, completion_tokens=0).settle(used(50, 0))
    with pytest.raises(BudgetError):
        a.reserve_tokens(prompt_tokens=1, completion_tokens=0)
    b.reserve_tokens(prompt_tokens=50, completion_tokens=0).settle(used(10, 0))
    assert whole.statement().prompt_tokens == 60
    assert whole.statement().refused == 1
    assert whole.remaining_tokens == 40
    assert whole.statement().cost_usd == pytest.approx(60e-6)


def test_without_limits_nothing_is_refused():
    ledger = Ledger()
    ledger.divide(3)[0].reserve_tokens(prompt_tokens=10**9, completion_tokens=0).settle(used(5, 5))
    assert (ledger.remaining_tokens, ledger.remaining_cost_usd) == (None, None)
    assert ledger.statement().total_tokens == 10


@pytest.mark.parametrize("bad", [-1, math.inf, math.nan])
def test_limits_and_prices_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="finite and at or above zero"):
        Ledger(max_tokens=bad)
    with pytest.raises(ValueError, match="finite and at or above zero"):
        Prices(prompt=bad)


def test_a_ledger_is_divided_into_at_least_one_part():
    with pytest.raises(ValueError, match="at least one part"):
        Ledger().divide(0)


@settings(deadline=None)  # a busy machine is no finding
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.sampled_from(["settle", "forfeit", "release"])),
        max_size=30,
    )
)
def test_never_more_is_spent_than_the_limit_while_usage_stays_within_reservations(calls):
    ledger = Ledger(max_tokens=200)
    for prompt, completion, end in calls:
        try:
            reservation = ledger.reserve_tokens(prompt_tokens=prompt, completion_tokens=completion)
        except BudgetError:
            continue
        if end == "settle":
            reservation.settle(used(prompt // 2, completion))
        else:
            getattr(reservation, end)()
    statement = ledger.statement()
    spent = statement.total_tokens + statement.unaccounted_tokens
    assert spent <= 200
    assert spent + ledger.remaining_tokens == 200
    assert statement.reserved_tokens == 0


def test_token_counts_of_known_texts():
    assert count_tokens("") == 0
    assert count_tokens("price") == 1
    assert count_tokens("prices") == 2
    assert count_tokens("1999") == 4
    assert count_tokens("日本\n") == 3


@settings(deadline=None)  # a busy machine is no finding
@given(st.text(), st.text())
def test_a_longer_text_never_counts_fewer_tokens(a, b):
    assert count_tokens(a + " " + b) == count_tokens(a) + count_tokens(b)


def test_the_reservation_bounds_the_prompt_estimate_and_adds_the_answer(ask):
    request = ask("Headlines: profit warning, guidance cut to 12.5%.", max_tokens=50)
    assert prompt_tokens(request) < reservation_tokens(request) - 50
