"""What the store keeps: decisions (and the trades they open) and signals (set-ups with their feature vector).

Both are frozen and cannot be built invalid, so a batch is rejected before it reaches a database.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pytest_tradeperf.pipeline.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

ACTIONS: Final = ("buy", "sell", "hold", "abstain")
TRADES: Final = ("buy", "sell")
LONGEST_TEXT: Final = {"key": 32, "symbol": 32, "timeframe": 16, "source": 64, "label": 64}
REQUIRED: Final = ("conviction", "strength")
LARGEST_VECTOR: Final = 4_096


def new_key() -> str:
    """Return 32 hex digits, the first 12 the time in ms: unique, and near its neighbours in an index."""
    milliseconds = int(datetime.now(UTC).timestamp() * 1_000)
    return f"{milliseconds:012x}{secrets.token_hex(10)}"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision for one symbol, and the trade it opened if it did.

    Attributes
    ----------
    symbol, timeframe
        Instrument, and the bars it was decided on (``"1d"``).
    as_of
        Time of the last data the decision saw, with a time zone.
    action
        ``buy`` or ``sell`` (a trade is open until `closed_at`, see `opens_trade`), ``hold``, or ``abstain``
        (no opinion could be formed).
    conviction
        Signed, in -1..1; below 0 expects a fall.
    opens_trade
        False for a buy or sell that opened nothing: one like it was open, or it got no size.
    probability
        Of the expected direction, in 0..1, or None.
    quantity, entry_price, stop_price, target_price
        Of the trade, or None. Prices are above 0.
    closed_at, exit_price, outcome
        Set when the trade is closed; `outcome` is its return as a fraction.
    label
        What it turned out to be (``"win"``), or None.
    source
        Who decided (``"debate"``, ``"vote"``).
    degraded
        Fallbacks that served instead of the real thing.
    details
        Anything else that JSON can hold.
    key
        Unique; adding the same key again changes nothing.
    created_at
        When the decision was made, with a time zone.

    Raises
    ------
    DataError
        A value is out of range; the message names field and value.
    """

    symbol: str
    as_of: datetime
    action: str
    conviction: float = 0.0
    opens_trade: bool = True
    timeframe: str = "1d"
    probability: float | None = None
    quantity: float | None = None
    entry_price: float | None = None
    stop_price: float | None = None
    target_price: float | None = None
    closed_at: datetime | None = None
    exit_price: float | None = None
    outcome: float | None = None
    label: str | None = None
    source: str = ""
    degraded: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    key: str = field(default_factory=new_key)
    created_at: datetime = field(default_factory=_now)

    def __post_init__(self) -> None:
        _check_common(self)
        if self.action not in ACTIONS:
            raise DataError(
                f"action of {self.symbol} is {self.action!r}: expected one of {', '.join(ACTIONS)}"
            )
        if not isinstance(self.opens_trade, bool):
            raise DataError(f"opens_trade of {self.symbol} is {self.opens_trade!r}: expected True or False")
        _settle_number(self, "conviction", -1.0, 1.0)
        _settle_number(self, "probability", 0.0, 1.0)
        _settle_number(self, "quantity", 0.0, math.inf)
        for name in ("entry_price", "stop_price", "target_price", "exit_price"):
            _settle_number(self, name, 0.0, math.inf)
            if getattr(self, name) == 0:
                raise DataError(f"{name} of {self.symbol} is 0: expected a price above 0, or None")
        if self.closed_at is not None:
            object.__setattr__(self, "closed_at", checked_time("closed_at", self.closed_at))
        if isinstance(self.degraded, str) or not all(isinstance(item, str) for item in self.degraded):
            raise DataError(f"degraded of {self.symbol} is {self.degraded!r}: expected a list of texts")
        object.__setattr__(self, "degraded", tuple(self.degraded))

    @property
    def is_open(self) -> bool:
        """True while the trade it opened has not been closed."""
        return self.action in TRADES and self.opens_trade and self.closed_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A decision that is acted on as it is stored, in the same transaction.

    A buy or sell closes the open trades of its symbol in the other direction, at its `entry_price` and its
    `as_of` (none where it has no price), and opens no second trade beside one of a size in its own direction:
    it is stored with `opens_trade` False then.

    Attributes
    ----------
    decision
        What to act on; hold and abstain are only stored.
    """

    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One set-up: what the features looked like at a time, and what came of it once that is known.

    Attributes
    ----------
    symbol, timeframe, as_of, source, label, details, key, created_at
        As in :class:`Decision`; `source` names the strategy or model that saw it.
    strength
        Signed strength of the signal, finite.
    vector
        Features, at most 4,096 finite numbers that float32 can hold; stored as float32 (or int8, see the
        store).
    outcome
        Return that followed, as a fraction, or None while unknown.
    outcome_at
        When the outcome became known, with a time zone; None while there is none, or if that cannot be told.
    """

    symbol: str
    as_of: datetime
    strength: float = 0.0
    vector: Sequence[float] = ()
    timeframe: str = "1d"
    outcome: float | None = None
    outcome_at: datetime | None = None
    label: str | None = None
    source: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    key: str = field(default_factory=new_key)
    created_at: datetime = field(default_factory=_now)

    def __post_init__(self) -> None:
        _check_common(self)
        _settle_number(self, "strength", -math.inf, math.inf)
        if self.outcome_at is not None:
            if self.outcome is None:
                raise DataError(
                    f"outcome_at of {self.symbol} is {self.outcome_at!r}: expected None without an outcome"
                )
            object.__setattr__(self, "outcome_at", checked_time("outcome_at", self.outcome_at))
        object.__setattr__(self, "vector", _checked_vector(self.symbol, self.vector))


Record: TypeAlias = Decision | Signal | Execution
"""What a store takes."""


def checked_time(name: str, value: datetime) -> datetime:
    """Return the time in UTC, or say that it has no time zone."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        example = "datetime(2024, 1, 2, tzinfo=UTC)"
        message = f"{name} is {value!r}: expected a datetime with a time zone, like {example}"
        raise DataError(message)
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise DataError(
            f"{name} is {value!r}: expected a time whose UTC is in the years 1 to 9999"
        ) from error


def checked_outcome(key: str, outcome: float, label: str | None) -> float:
    """Return the outcome as a float, or say that it or its label cannot be stored."""
    epoch = datetime.fromtimestamp(0, UTC)
    checked = Signal(
        symbol="signal", as_of=epoch, created_at=epoch, key=key, outcome=outcome, label=label
    ).outcome
    if checked is None:
        raise DataError(f"outcome of signal {key!r} is None: expected a finite number")
    return checked


def _check_common(record: Decision | Signal) -> None:
    for name, longest in LONGEST_TEXT.items():
        text = getattr(record, name)
        if text is None and name == "label":
            continue
        least = 0 if name == "source" else 1
        if not isinstance(text, str) or not least <= len(text) <= longest or not text.isprintable():
            message = f"{name} is {text!r}: expected {least} to {longest} printable characters"
            raise DataError(message)
    for name in ("as_of", "created_at"):
        object.__setattr__(record, name, checked_time(name, getattr(record, name)))
    _settle_number(record, "outcome", -math.inf, math.inf)
    if not isinstance(record.details, Mapping) or not all(isinstance(name, str) for name in record.details):
        raise DataError(
            f"details of {record.symbol} are {record.details!r}: expected a dict with texts as keys"
        )


def _settle_number(record: Decision | Signal, name: str, low: float, high: float) -> None:
    """Turn a field into a float of Python's own (a database stores numpy's as bytes), or refuse it."""
    value = getattr(record, name)
    if value is None and name not in REQUIRED:
        return
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and low <= number <= high):
        bounds = "a finite number"
        if math.isfinite(low):
            bounds = (
                f"a number from {low:g} to {high:g}"
                if math.isfinite(high)
                else f"a finite number from {low:g}"
            )
        raise DataError(f"{name} of {record.symbol} is {value!r}: expected {bounds}")
    object.__setattr__(record, name, number)


def _checked_vector(symbol: str, values: Sequence[float]) -> tuple[float, ...]:
    try:
        if isinstance(values, (str, bytes)):
            raise TypeError(f"it is {type(values).__name__}")  # noqa: TRY301 - a text is a sequence float() could read
        numbers = tuple(map(float, values))
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"vector of {symbol} cannot be read as numbers: {error}; give one number a feature"
        ) from error
    if len(numbers) > LARGEST_VECTOR:
        raise DataError(f"vector of {symbol} has {len(numbers)} features: expected at most {LARGEST_VECTOR}")
    for place, number in enumerate(numbers):
        if not abs(number) <= 3.4e38:  # noqa: PLR2004 - largest float32; NaN fails the comparison too
            raise DataError(
                f"vector of {symbol} has {number!r} at feature {place}: expected a finite float32"
            )
    return numbers
