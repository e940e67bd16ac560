from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from pytest_tradeperf.pipeline.errors import DataError
from pytest_tradeperf.pipeline.store.codec import from_line, to_line
from pytest_tradeperf.pipeline.store.records import Decision, Signal, new_key

MONDAY = datetime(2024, 1, 8, tzinfo=UTC)


def decision(**changes: Any) -> Decision:
    values: dict[str, Any] = {"symbol": "GOOG", "as_of": MONDAY, "action": "buy"}
    return Decision(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action": "wait"}, "action of GOOG is 'wait': expected one of buy, sell, hold, abstain"),
        ({"conviction": 1.5}, "conviction of GOOG is 1.5: expected a number from -1 to 1"),
        ({"conviction": None}, "conviction of GOOG is None"),
        ({"conviction": float("nan")}, "conviction of GOOG is nan"),
        ({"probability": -0.1}, "expected a number from 0 to 1"),
        ({"quantity": -1}, "expected a finite number from 0"),
        ({"entry_price": 0}, "expected a price above 0"),
        ({"entry_price": float("inf")}, "entry_price of GOOG is inf"),
        ({"as_of": datetime(2024, 1, 8)}, "as_of is .* expected a datetime with a time zone"),  # noqa: DTZ001
        ({"as_of": datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))}, "in the years 1 to 9999"),
        ({"details": None}, "details of GOOG are None: expected a dict"),
        ({"details": {1: 2}}, "with texts as keys"),
        ({"symbol": ""}, "symbol is '': expected 1 to 32 printable characters"),
        ({"symbol": "A" * 33}, "expected 1 to 32"),
        ({"symbol": "A\x00B"}, "printable"),
        ({"symbol": "\ud800"}, "printable"),
        ({"label": "a\nb"}, "label is"),
        ({"degraded": "llm"}, "expected a list of texts"),
        ({"outcome": "much"}, "outcome of GOOG is 'much': expected a finite number"),
    ],
)
def test_decision_refuses_and_names_the_field(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        decision(**changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_signal_refuses_a_vector_that_float32_cannot_hold(value: float) -> None:
    with pytest.raises(DataError, match="feature 1: expected a finite float32"):
        Signal(symbol="X", as_of=MONDAY, vector=[0.0, value])


@pytest.mark.parametrize("vector", [["a"], "123", b"123", [[1.0]], None, 5])
def test_signal_refuses_a_vector_of_something_else(vector: Any) -> None:
    with pytest.raises(DataError, match="vector of X cannot be read as numbers"):
        Signal(symbol="X", as_of=MONDAY, vector=vector)


def test_numbers_of_numpy_become_plain_floats() -> None:
    made = decision(conviction=np.float32(0.5), entry_price=np.int64(7))
    assert type(made.conviction) is float
    assert type(made.entry_price) is float


def test_times_are_kept_in_utc() -> None:
    eastern = timezone(timedelta(hours=-5))
    assert decision(as_of=datetime(2024, 1, 8, 16, tzinfo=eastern)).as_of == datetime(
        2024, 1, 8, 21, tzinfo=UTC
    )
    assert decision(as_of=datetime(2024, 1, 8, 16, tzinfo=eastern)).as_of.tzinfo is UTC


def test_only_buys_and_sells_without_closing_time_are_open() -> None:
    assert decision(action="sell").is_open
    assert not decision(action="hold").is_open
    assert not decision(closed_at=MONDAY).is_open


def test_keys_are_unique_and_grow_with_time() -> None:
    keys = [new_key() for _ in range(100)]
    assert len(set(keys)) == 100
    assert [key[:12] for key in keys] == sorted(key[:12] for key in keys)


@pytest.mark.parametrize(
    "record",
    [
        decision(degraded=["llm", "news"], details={"a": [1, {"b": None}]}, closed_at=MONDAY, exit_price=3.5),
        Signal(symbol="Ünïcode", as_of=MONDAY, vector=[0.1, -1e-30], outcome=-0.25, label="loss"),
    ],
)
def test_a_line_of_json_holds_the_whole_record(record: Decision | Signal) -> None:
    assert from_line(to_line(record)) == record
