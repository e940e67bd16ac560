from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tradeperf.pipeline.net.body import (
    clean_text,
    field,
    iso_moment,
    list_field,
    number,
    parse_json,
    parse_xml,
)
from pytest_tradeperf.pipeline.net.errors import MalformedError


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"<html>challenge</html>", "markup"),
        (b"{", "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b"[" * 100_000 + b"]" * 100_000, "nested"),
        (b"[" * 150 + b"]" * 150, "deeper than 100"),
        (b"\xff\xfe\xff", "not JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_body_that_is_no_json_is_named(body: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_json(body)


def test_json_of_ordinary_depth_is_returned() -> None:
    assert parse_json(b' {"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b"<rss>", "not XML"),
        (b'<!DOCTYPE r [<!ENTITY a "b">]><r>&a;</r>', "document type"),
        (b'<?xml version="1.0" encoding="utf-16"?><r/>', "utf-16"),
        (b'<?xml version="1.0" encoding="no-such"?><r/>', "no-such"),
        (b'<?xml version="1.0"?><r>\xff</r>', "not text"),
    ],
)
def test_a_body_that_is_no_safe_xml_is_named(body: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_xml(body)


def test_control_characters_and_encodings_in_xml_are_survived() -> None:
    assert parse_xml(b"<r>a\x00\x07b</r>").text == "ab"
    assert parse_xml('<?xml version="1.0" encoding="ISO-8859-1"?><r>é</r>'.encode("latin-1")).text == "é"
    assert parse_xml(b"\xef\xbb\xbf<r>x</r>").text == "x"


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("plain", "plain"),
        ("two\nlines\tand  spaces", "two lines and spaces"),
        ("R&amp;D &lt;b&gt;up&lt;/b&gt;", "R&D up"),
        ("bell\x07 null\x00 \x1b[31mred", "bell null [31mred"),
        ("\u202eevil\u202c zero\u200bwidth", "evil zerowidth"),
        ("Überraschung 株価 🚀", "Überraschung 株価 🚀"),
        ("lone \ud800 surrogate", "lone surrogate"),
        (None, ""),
        (12, ""),
    ],
)
def test_text_of_strangers_becomes_one_visible_line(raw: object, clean: str) -> None:
    assert clean_text(raw) == clean


@given(st.text(max_size=300), st.integers(1, 80))
def test_clean_text_is_bounded_printable_and_stable(raw: str, limit: int) -> None:
    once = clean_text(raw, limit=limit)
    assert len(once) <= limit
    assert "\n" not in once
    assert "\x00" not in once
    assert once == once.strip()


@pytest.mark.parametrize("path", [("b",), ("a", 5), ("a", "x"), ("a", 0, "z")])
def test_a_missing_field_names_the_step(path: tuple[Any, ...]) -> None:
    with pytest.raises(MalformedError, match=r"the thing has no"):
        field({"a": [{"c": 1}]}, *path, what="the thing")


def test_a_field_of_the_wrong_type_is_named() -> None:
    with pytest.raises(MalformedError, match="str, expected a list"):
        list_field({"a": "text"}, "a", what="the thing")


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3.0), ("4.5", 4.5), (True, 0.0), ("x", 0.0), (10**400, 0.0)]
)
def test_number_is_finite_or_the_default(value: object, expected: float) -> None:
    assert number(value) == expected


def test_times_are_utc() -> None:
    assert iso_moment("2026-01-05T10:00:00-05:00", what="t") == datetime(2026, 1, 5, 15, tzinfo=UTC)
    assert iso_moment("2026-01-05 10:00:00", what="t") == datetime(2026, 1, 5, 10, tzinfo=UTC)
    with pytest.raises(MalformedError, match="yesterday"):
        iso_moment("yesterday", what="t")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=10,
    )
)
def test_json_survives_the_round_trip(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value
