"""The body of a chart service: what it says of which day, and which bars that makes at which moment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError
from pytest_tradeperf.pipeline.marketdata.bars import Bars
from pytest_tradeperf.pipeline.marketdata.sessions import last_finished_day
from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe
from pytest_tradeperf.pipeline.net.body import field as at
from pytest_tradeperf.pipeline.net.body import list_field, number, parse_json
from pytest_tradeperf.pipeline.net.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

_DAY_S = 86_400
_COLUMNS = ("open", "high", "low", "close", "volume")
# Sources round each price by itself, so an open may lie outside its bar's range by a hair.
_ROUNDING = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chart:
    """One row a day, the day of the answer among them, whether its session was over or not.

    Attributes
    ----------
    days
        int64 ndarray of shape (n_days,): days at the exchange since 1970.
    values
        float64 ndarrays of shape (n_days,) by name: prices, volume, perhaps ``adjclose``; NaN where missing.
    """

    symbol: str
    days: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]

    def bars(self, *, fetched_at: datetime) -> Bars:
        """Return the bars of the days that were over when the source said this, adjusted by adjusted close.

        A day that was still open is left out however late this is asked: what was said of it is no bar.

        Raises
        ------
        MalformedError
            The prices make no sense.
        """
        over = self.days <= np.datetime64(last_finished_day(fetched_at), "D").astype(np.int64)
        try:
            return _bars(self.symbol, self.days[over], {name: row[over] for name, row in self.values.items()})
        except DataError as error:
            raise MalformedError(str(error)) from error


def parse_chart(body: bytes, symbol: str) -> Chart:
    """Return what a chart answer says; the last of several rows of one day counts.

    Raises
    ------
    MalformedError
        If the body is no chart, has no rows, or its columns differ in length.
    """
    chart = parse_json(body)
    result = at(chart, "chart", "result", 0, what="the chart")
    stamps = result.get("timestamp") or []
    quote = at(result, "indicators", "quote", 0, what="the chart")
    columns = {name: list_field(quote, name, what="the chart") for name in _COLUMNS} if stamps else {}
    adjusted = at(result, "indicators", what="the chart").get("adjclose")
    if adjusted and stamps:
        columns["adjclose"] = list_field(adjusted, 0, "adjclose", what="the chart")
    if any(len(column) != len(stamps) for column in columns.values()):
        lengths = {name: len(column) for name, column in columns.items()}
        raise MalformedError(f"the chart has {len(stamps)} timestamps and columns of {lengths}")
    if not stamps:
        raise MalformedError(f"the chart of {symbol} has no bars")
    offset = number(at(result, "meta", what="the chart").get("gmtoffset"))
    days = _days(stamps, offset)
    last = np.append(days[1:] != days[:-1], True)
    values = {name: np.array([number(one, math.nan) for one in column]) for name, column in columns.items()}
    return Chart(
        symbol=symbol, days=days[last], values={name: column[last] for name, column in values.items()}
    )


def _days(stamps: Sequence[Any], offset_s: float) -> NDArray[np.int64]:
    seconds = np.array([number(stamp, math.nan) for stamp in stamps])
    if not np.isfinite(seconds).all():
        raise MalformedError("the chart has a timestamp that is no number")
    return np.floor((seconds + offset_s) / _DAY_S).astype(np.int64)


def _bars(symbol: str, days: NDArray[np.int64], values: Mapping[str, NDArray[np.float64]]) -> Bars:
    prices = {name: values[name] for name in ("open", "high", "low", "close")}
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = values["adjclose"] / values["close"] if "adjclose" in values else np.ones(days.size)
    missing = ~np.isfinite(np.array([*prices.values(), ratio])).all(axis=0)
    prices = {name: np.where(missing, np.nan, column * ratio) for name, column in prices.items()}
    top, bottom = np.fmax(prices["open"], prices["close"]), np.fmin(prices["open"], prices["close"])
    for name, bound, pick in (("high", top, np.fmax), ("low", bottom, np.fmin)):
        near = np.abs(prices[name] - bound) <= _ROUNDING * bound
        prices[name] = np.where(near, pick(prices[name], bound), prices[name])
    return Bars(
        symbol=symbol,
        timestamps=days.astype("datetime64[D]").astype("datetime64[ns]"),
        volume=values["volume"],
        timeframe=Timeframe(minutes=24 * 60),
        **prices,
    )
