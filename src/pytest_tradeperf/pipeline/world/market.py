"""Daily bars in the shape of the chart service: a seeded random walk over business days."""

# ruff: noqa: PLR2004 - made-up figures are what this module is made of

import math
from datetime import UTC, datetime, timedelta

from pytest_tradeperf.pipeline.world.companies import price_of
from pytest_tradeperf.pipeline.world.draws import draw, generator
from pytest_tradeperf.pipeline.world.messages import Reply, Scene, WorldRequest

_OPEN_UTC = timedelta(hours=14, minutes=30)
_FIRST = datetime(2000, 1, 3, tzinfo=UTC)


def market(request: WorldRequest, scene: Scene) -> Reply:
    """Answer ``/v8/finance/chart/TICKER`` with daily bars from ``period1`` to ``period2``, Unix seconds."""
    ticker = request.path.removeprefix("/v8/finance/chart/")
    if ticker == request.path or not ticker or "/" in ticker:
        error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
        return Reply.of_json({"chart": {"result": None, "error": error}}, status=404)
    try:
        start = max(
            _FIRST.timestamp(), float(request.query.get("period1", scene.now.timestamp() - 365 * 86_400))
        )
        end = min(scene.now.timestamp(), float(request.query.get("period2", scene.now.timestamp())))
    except ValueError:
        error = {"code": "Bad Request", "description": "Invalid input - period1 and period2 are Unix seconds"}
        return Reply.of_json({"chart": {"result": None, "error": error}}, status=400)
    stamps, rows = _bars(scene.seed, ticker, start, end)
    quote = {
        name: [row[place] for row in rows]
        for place, name in enumerate(("open", "high", "low", "close", "volume"))
    }
    meta = {
        "currency": "USD",
        "symbol": ticker,
        "exchangeName": "NMS",
        "instrumentType": "EQUITY",
        "gmtoffset": -18000,
        "timezone": "EST",
        "exchangeTimezoneName": "America/New_York",
        "dataGranularity": "1d",
        "regularMarketPrice": rows[-1][3] if rows else None,
    }
    indicators = {"quote": [quote], "adjclose": [{"adjclose": quote["close"]}]}
    return Reply.of_json(
        {"chart": {"result": [{"meta": meta, "timestamp": stamps, "indicators": indicators}], "error": None}}
    )


def _bars(seed: int, ticker: str, start: float, end: float) -> tuple[list[int], list[tuple[float, ...]]]:
    # One bridge a calendar year between two seeded levels: a short range is cheap, and a day has the same bar
    # whatever range was asked for.
    stamps: list[int] = []
    rows: list[tuple[float, ...]] = []
    for year in range(
        datetime.fromtimestamp(start, UTC).year, datetime.fromtimestamp(max(start, end), UTC).year + 1
    ):
        rng = generator(seed, "bars", ticker, year)
        first = datetime(year, 1, 1, tzinfo=UTC)
        days = [
            day
            for day in (first + timedelta(days=n) for n in range(366))
            if day.year == year and day.weekday() < 5
        ]
        steps = [rng.gauss(0, 0.015) for _ in days]
        pull = (_level(seed, ticker, year + 1) - _level(seed, ticker, year) - sum(steps)) / len(days)
        close = math.exp(_level(seed, ticker, year))
        for day, step in zip(days, steps, strict=True):
            opened = close * math.exp(rng.gauss(0, 0.004))
            close *= math.exp(step + pull)
            high = max(opened, close) * (1 + abs(rng.gauss(0, 0.004)))
            low = min(opened, close) * (1 - abs(rng.gauss(0, 0.004)))
            volume = rng.randrange(1_000_000, 90_000_000)
            stamp = int((day + _OPEN_UTC).timestamp())
            if start <= stamp <= end:
                stamps.append(stamp)
                rows.append((round(opened, 4), round(high, 4), round(low, 4), round(close, 4), volume))
    return stamps, rows


def _level(seed: int, ticker: str, year: int) -> float:
    return math.log(price_of(seed, ticker)) + 0.8 * (draw(seed, "level", ticker, year) - 0.5)
