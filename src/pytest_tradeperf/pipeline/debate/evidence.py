"""What the analysts are told about one ticker on one day: numbers from bars, words from outside.

Everything here is data from strangers: numbers are checked, words are cleaned and bounded, and neither
ever becomes an instruction (see ``prompts``).
"""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.marketdata import Bars

LONGEST_HEADLINE: Final = 160
MOST_HEADLINES: Final = 8
_DIGITS: Final = 4
_SESSIONS_PER_YEAR: Final = 252
_DATES: Final = re.compile(
    r"\b(?:(?:19|20)\d\d(?:-\d\d(?:-\d\d)?)?|Q[1-4]|FY\d\d"
    r"|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.? \d{1,2})\b"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One ticker as of one day (ISO date). ``facts`` are finite; ``headlines`` clean and bounded.

    Building one cleans what it is given: facts that are not finite are left out, control characters
    become spaces, long headlines are cut and only the first eight are kept.
    """

    ticker: str
    as_of: str
    facts: Mapping[str, float] = field(default_factory=dict)
    headlines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        facts = {
            name: round(float(value), _DIGITS)
            for name, value in sorted(self.facts.items())
            if math.isfinite(value)
        }
        headlines = tuple(clean for text in self.headlines if (clean := clean_text(text)))
        object.__setattr__(self, "facts", facts)
        object.__setattr__(self, "headlines", headlines[:MOST_HEADLINES])


def clean_text(text: str, longest: int = LONGEST_HEADLINE) -> str:
    """Return one printable line of at most ``longest`` characters, compatibility forms folded."""
    folded = unicodedata.normalize("NFKC", text[: 4 * longest])
    printable = "".join(c if c.isprintable() else " " for c in folded)
    return " ".join(printable.split())[:longest]


def masked(evidence: Evidence, aliases: Sequence[str] = ()) -> Evidence:
    """Return ``evidence`` without ticker, names and dates, so that no model can remember what came next.

    Parameters
    ----------
    aliases
        Other words that give the company away, such as its name.
    """
    names = [re.escape(name) for name in (evidence.ticker, *aliases) if name]
    pattern = re.compile(rf"(?<!\w)\$?(?:{'|'.join(names)})(?:'s)?(?!\w)", re.IGNORECASE)
    headlines = tuple(_DATES.sub("[date]", pattern.sub("ASSET", text)) for text in evidence.headlines)
    return replace(evidence, ticker="ASSET", as_of="", headlines=headlines)


def facts_from_bars(bars: "Bars") -> dict[str, float]:
    """Return what the last bar says, looking at nothing after it: returns, averages, bands, volatility.

    Returns
    -------
    dict
        ``return_N`` and ``drawdown_60`` as fractions, ``sma_gap`` close over its 50-bar average minus 1,
        ``sma_cross`` the 20-bar over the 50-bar average minus 1, ``rsi_14`` 0..100, ``band_position``
        0 at the lower and 1 at the upper Bollinger band, ``volatility_20`` annualised,
        ``volatility_ratio`` of 20 over 60 bars, ``atr_share`` of the price. What needs more bars than
        there are is left out; no bars give {}.
    """
    import numpy as np

    from pytest_tradeperf.pipeline.features import atr, bollinger, rsi, sma

    known = ~bars.is_missing
    recent = np.flatnonzero(known)[-_SESSIONS_PER_YEAR:]
    close, high, low = bars.close[recent], bars.high[recent], bars.low[recent]
    facts: dict[str, float] = {}
    if close.size == 0:
        return facts
    last = float(close[-1])
    for window in (5, 20, 60):
        if close.size > window:
            facts[f"return_{window}"] = last / float(close[-1 - window]) - 1
    slow, fast = float(sma(close, 50)[-1]), float(sma(close, 20)[-1])
    bands = bollinger(close, 20)
    height = float(bands.upper[-1] - bands.lower[-1])
    moves = np.diff(np.log(close))
    short, long = (float(moves[-n:].std()) if moves.size >= n else math.nan for n in (20, 60))
    facts |= {
        "sma_gap": last / slow - 1,
        "sma_cross": fast / slow - 1,
        "rsi_14": float(rsi(close, 14)[-1]),
        "band_position": (last - float(bands.lower[-1])) / height if height > 0 else math.nan,
        "volatility_20": short * math.sqrt(_SESSIONS_PER_YEAR),
        "volatility_ratio": short / long if long > 0 else math.nan,
        "atr_share": float(atr(high, low, close, 14)[-1]) / last,
        "drawdown_60": last / float(close[-60:].max()) - 1,
    }
    return {name: value for name, value in facts.items() if math.isfinite(value)}
