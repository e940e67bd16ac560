from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from pytest_tradeperf.pipeline.net.policy import RateRule
from pytest_tradeperf.pipeline.world.core import WorldCore, largest_window
from pytest_tradeperf.pipeline.world.messages import WorldRequest
from pytest_tradeperf.pipeline.world.settings import (
    SERVICES,
    FaultKind,
    FaultRule,
    LatencyRange,
    WorldSettings,
    parse_faults,
)

NOW = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)


def ask(service: str, path: str, *, body: bytes = b"", method: str = "GET", **query: str) -> WorldRequest:
    headers = {"user-agent": "unit test test@example.org"}
    return WorldRequest(method=method, service=service, path=path, query=query, headers=headers, body=body)


TARGETS = {
    "sec": ask("sec", "/submissions/CIK0000320193.json"),
    "news": ask("news", "/rss/2.0/headline", s="AAPL"),
    "stocktwits": ask("stocktwits", "/api/2/streams/symbol/AAPL.json"),
    "cboe": ask("cboe", "/api/global/delayed_quotes/options/AAPL.json"),
    "market": ask("market", "/v8/finance/chart/AAPL"),
}


@pytest.mark.parametrize(
    ("arrivals", "period", "expected"),
    [
        ([], 1.0, 0),
        ([5.0], 1.0, 1),
        ([0.0, 1.0], 1.0, 1),
        ([0.0, 0.999], 1.0, 2),
        ([0.95, 0.0, 1.0, 1.05], 1.0, 3),
    ],
)
def test_largest_window_is_half_open(arrivals: list[float], period: float, expected: int) -> None:
    assert largest_window(arrivals, period) == expected


@pytest.mark.parametrize("service", sorted(TARGETS))
def test_the_same_seed_and_moment_give_the_same_bytes(service: str) -> None:
    bodies = {
        WorldCore(WorldSettings(seed=4, now=NOW)).plan(TARGETS[service], 0.0).reply.body for _ in range(2)
    }
    other = WorldCore(WorldSettings(seed=5, now=NOW)).plan(TARGETS[service], 0.0).reply.body
    assert len(bodies) == 1
    assert other not in bodies


def test_latency_depends_on_the_request_and_not_on_the_order() -> None:
    settings = WorldSettings(seed=1, latency={"news": LatencyRange(low_s=0.3, high_s=2.0)}, now=NOW)
    requests = [ask("news", "/rss/2.0/headline", s=ticker) for ticker in ("AAPL", "MSFT", "IBM")]
    forward, backward = WorldCore(settings), WorldCore(settings)
    first = {request.target: forward.plan(request, 0.0).latency_s for request in requests}
    second = {request.target: backward.plan(request, 0.0).latency_s for request in reversed(requests)}
    assert first == second
    assert len(set(first.values())) == 3
    assert all(0.3 <= latency <= 2.0 for latency in first.values())


def test_a_repeated_request_draws_a_new_latency() -> None:
    core = WorldCore(WorldSettings(seed=1, latency={"news": LatencyRange(low_s=0.0, high_s=1.0)}, now=NOW))
    latencies = {core.plan(TARGETS["news"], 0.0).latency_s for _ in range(5)}
    assert len(latencies) == 5


def test_the_rate_rule_is_enforced_and_says_how_long_to_wait() -> None:
    core = WorldCore(WorldSettings(rules={"sec": RateRule(limit=2, period_s=1.0)}, now=NOW))
    statuses = [core.plan(TARGETS["sec"], at).reply.status for at in (0.0, 0.2, 0.4, 1.0, 1.1)]
    assert statuses == [200, 200, 429, 200, 429]
    refused = core.plan(TARGETS["sec"], 1.15).reply
    assert refused.headers["Retry-After"] == "1"
    assert core.statistics()["sec"]["rate_limited"] == 3


def test_breaking_the_rule_closes_the_service_for_the_penalty() -> None:
    core = WorldCore(WorldSettings(rules={"sec": RateRule(limit=1, period_s=1.0)}, penalty_s=600.0, now=NOW))
    statuses = [core.plan(TARGETS["sec"], at).reply.status for at in (0.0, 0.5, 599.0, 600.6)]
    assert statuses == [200, 429, 429, 200]


def test_sec_refuses_a_client_without_a_contact() -> None:
    request = WorldRequest(
        method="GET", service="sec", path="/files/company_tickers.json", headers={"user-agent": "x"}
    )
    assert WorldCore(WorldSettings(now=NOW)).plan(request, 0.0).reply.status == 403


def test_no_filing_is_accepted_in_the_future() -> None:
    recent = json.loads(WorldCore(WorldSettings(now=NOW)).plan(TARGETS["sec"], 0.0).reply.body)["filings"][
        "recent"
    ]
    assert max(recent["acceptanceDateTime"]) <= "2026-03-02T15:30:00.000Z"
    assert len({len(column) for column in recent.values()}) == 1


def test_bars_are_consistent_and_overlapping_ranges_agree() -> None:
    core = WorldCore(WorldSettings(seed=2, now=NOW))

    def bars(first: str, last: str) -> dict[int, tuple[float, ...]]:
        body = core.plan(ask("market", "/v8/finance/chart/IBM", period1=first, period2=last), 0.0).reply.body
        result = json.loads(body)["chart"]["result"][0]
        quote = result["indicators"]["quote"][0]
        columns = (quote[name] for name in ("open", "high", "low", "close", "volume"))
        return dict(zip(result["timestamp"], zip(*columns, strict=True), strict=True))

    long, short = bars("1420070400", "1767225600"), bars("1600000000", "1610000000")
    assert len(short) > 50
    assert short.items() <= long.items()
    assert all(low <= min(o, c) and high >= max(o, c) for o, high, low, c, _ in long.values())


def test_faults_strike_the_nth_request_only() -> None:
    core = WorldCore(WorldSettings(faults=parse_faults("news=500@2"), now=NOW))
    assert [core.plan(TARGETS["news"], 0.0).reply.status for _ in range(3)] == [200, 500, 200]


def test_a_share_of_requests_is_hit_and_the_same_ones_each_time() -> None:
    settings = WorldSettings(seed=9, faults=parse_faults("news=500:0.3"), now=NOW)
    requests = [ask("news", "/rss/2.0/headline", s=f"T{number:03d}") for number in range(400)]
    first, second = WorldCore(settings), WorldCore(settings)
    hit = [first.plan(request, 0.0).fault is not None for request in requests]
    again = {request.target: second.plan(request, 0.0).fault is not None for request in reversed(requests)}
    assert 90 < sum(hit) < 150
    assert [again[request.target] for request in requests] == hit


def test_a_fault_can_be_aimed_at_one_ticker() -> None:
    core = WorldCore(WorldSettings(faults=parse_faults("news=html~MSFT"), now=NOW))
    assert core.plan(TARGETS["news"], 0.0).fault is None
    assert core.plan(ask("news", "/rss/2.0/headline", s="MSFT"), 0.0).fault is FaultKind.HTML


def test_stale_payloads_are_days_old() -> None:
    core = WorldCore(WorldSettings(faults=parse_faults("cboe=stale"), now=NOW))
    assert json.loads(core.plan(TARGETS["cboe"], 0.0).reply.body)["timestamp"] == "2026-02-25 15:30:00"


def test_a_client_that_has_the_payload_gets_304() -> None:
    core = WorldCore(WorldSettings(now=NOW))
    tag = core.plan(TARGETS["news"], 0.0).reply.headers["ETag"]
    again = WorldRequest(
        method="GET",
        service="news",
        path="/rss/2.0/headline",
        query={"s": "AAPL"},
        headers={"if-none-match": tag},
    )
    assert core.plan(again, 1.0).reply.status == 304


@pytest.mark.parametrize(
    "text", ["sec", "nowhere=500", "sec=lightning", "sec=500:many", "sec=500:2", "sec=500@0", "sec="]
)
def test_an_unreadable_fault_rule_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|probability|counted from 1"):
        parse_faults(text)


def test_all_stands_for_every_service() -> None:
    assert parse_faults("all=hang@3") == dict.fromkeys(SERVICES, (FaultRule(kind=FaultKind.HANG, nth=3),))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latency": {"radio": LatencyRange()}}, "unknown service 'radio'"),
        ({"now": datetime(2026, 1, 1)}, "needs a time zone"),  # noqa: DTZ001 - the mistake under test
    ],
)
def test_bad_settings_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldSettings(**arguments)  # type: ignore[arg-type]
