from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pytest_tradeperf.pipeline.altdata.commands import feeds_command


def test_feeds_are_shown_from_the_loopback_world() -> None:
    result = CliRunner().invoke(feeds_command, ["aapl", "--items", "2"])
    assert result.exit_code == 0, result.output
    assert "symbols/min" in result.output
    assert "AAPL  sentiment" in result.output
    assert result.output.count(" UTC  ") == 2


def test_json_holds_stamps_and_metrics() -> None:
    result = CliRunner().invoke(feeds_command, ["AAPL", "--format", "json"])
    value = json.loads(result.output)
    assert value["reports"]["cboe"]["symbols_per_minute"] > 0
    assert value["reports"]["cboe"]["feeds"]["AAPL"]["items"][0]["available_at"]


def test_what_is_no_ticker_is_a_line_and_not_a_traceback() -> None:
    result = CliRunner().invoke(feeds_command, ["../x"])
    assert result.exit_code == 0
    assert "news ../x: ticker, nothing instead" in result.output


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "shown"),
    [
        ([], {}, 2, "TICKERS"),
        (["A", "--timeout", "0"], {}, 2, "timeout"),
        (["A", "--live"], {"TRADEPERF_FEEDS_TIMEOUT": "soon"}, 1, "TRADEPERF_FEEDS_TIMEOUT is 'soon'"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str], environment: dict[str, str], code: int, shown: str
) -> None:
    result = CliRunner().invoke(feeds_command, arguments, env=environment)
    assert result.exit_code == code
    assert shown in result.output
    assert "Traceback" not in result.output
