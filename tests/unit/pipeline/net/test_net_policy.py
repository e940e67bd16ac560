from __future__ import annotations

from typing import Any

import pytest

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.net.errors import NetworkError
from pytest_tradeperf.pipeline.net.metrics import NetStatistics
from pytest_tradeperf.pipeline.net.policy import HostPolicy, RateRule, RetryPolicy


@pytest.mark.parametrize(
    ("make", "arguments", "shown"),
    [
        (RateRule, {"limit": 0, "period_s": 1.0}, "limit=0"),
        (RateRule, {"limit": 1, "period_s": 0.0}, "0.0"),
        (RateRule, {"limit": 1, "period_s": float("nan")}, "nan"),
        (RetryPolicy, {"attempts": 0}, "got 0"),
        (RetryPolicy, {"wait_max_s": float("inf")}, "inf"),
        (HostPolicy, {"name": "x", "deadline_s": -1.0}, "deadline_s"),
        (HostPolicy, {"name": "x", "max_in_flight": 0}, "max_in_flight"),
        (HostPolicy, {"name": "x", "transit_s": -0.1}, "transit_s"),
    ],
)
def test_a_policy_that_makes_no_sense_cannot_be_built(
    make: Any, arguments: dict[str, Any], shown: str
) -> None:
    with pytest.raises(SettingError, match=shown):
        make(**arguments)


def test_every_failure_has_its_own_word() -> None:
    kinds = [error.kind for error in NetworkError.__subclasses__()]
    assert len(kinds) == len(set(kinds)) == 11


def test_statistics_of_one_run_are_a_difference() -> None:
    earlier = NetStatistics(requests=10, upstream=6, cache_hits=3, joined=1, errors={"timeout": 1})
    later = NetStatistics(
        requests=15, upstream=7, cache_hits=6, joined=2, errors={"timeout": 1, "malformed": 2}
    )
    run = later.since(earlier)
    assert (run.requests, run.upstream, run.cache_hits, run.joined) == (5, 1, 3, 1)
    assert run.errors == {"malformed": 2}
    assert run.error_rate == pytest.approx(0.4)
    assert run.cache_hit_rate == pytest.approx(0.8)


def test_rates_without_requests_are_zero() -> None:
    assert NetStatistics().error_rate == NetStatistics().cache_hit_rate == 0.0
