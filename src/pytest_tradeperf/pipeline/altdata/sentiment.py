"""How good or bad a line of text is for a stock: VADER's rules with the words of finance.

VADER (Hutto and Gilbert, 2014) was made for social media: it hears "crude" and "liability" as insults and
does not know a downgrade. The terms below follow the finance word lists of Loughran and McDonald (2011)
and, for message boards, common usage; weights are on VADER's scale of -4 to 4.
"""

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.errors import MissingExtraError

if TYPE_CHECKING:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

# Phrases first: they become one word, so that "cuts guidance" is not judged by its parts.
_PHRASES: dict[str, float] = {
    "beats estimates": 2.8,
    "beat estimates": 2.8,
    "beats expectations": 2.8,
    "tops estimates": 2.8,
    "misses estimates": -2.8,
    "missed estimates": -2.8,
    "misses expectations": -2.8,
    "falls short": -2.2,
    "raises guidance": 2.8,
    "raises full-year guidance": 2.8,
    "raises outlook": 2.6,
    "lifts forecast": 2.4,
    "cuts guidance": -2.8,
    "lowers guidance": -2.8,
    "cuts forecast": -2.6,
    "profit warning": -3.0,
    "weak outlook": -2.2,
    "strong demand": 2.2,
    "record quarter": 2.4,
    "record revenue": 2.4,
    "share buyback": 1.8,
    "stock buyback": 1.8,
    "raises dividend": 2.2,
    "cuts dividend": -2.8,
    "going concern": -3.2,
    "chapter 11": -3.6,
    "files for bankruptcy": -3.8,
    "class action": -2.2,
    "open investigation": -2.4,
    "opens investigation": -2.4,
    "accounting irregularities": -3.4,
    "short squeeze": 1.8,
    "short seller": -1.6,
    "to the moon": 3.0,
    "diamond hands": 1.6,
    "bag holder": -1.8,
    "puts printing": -2.4,
    "calls printing": 2.4,
    "loading calls": 2.0,
    "loading puts": -2.0,
    "all-time high": 2.2,
    "52-week low": -1.8,
    "52-week high": 1.8,
    "dead cat bounce": -1.8,
    "price target cut": -2.0,
}
_TERMS: dict[str, float] = {
    "beats": 1.6,
    "misses": -1.8,
    "missed": -1.6,
    "upgrade": 2.2,
    "upgraded": 2.2,
    "upgrades": 2.2,
    "downgrade": -2.2,
    "downgraded": -2.2,
    "downgrades": -2.2,
    "outperform": 2.0,
    "underperform": -2.0,
    "overweight": 1.6,
    "underweight": -1.6,
    "bullish": 2.4,
    "bearish": -2.4,
    "rally": 2.0,
    "rallies": 2.0,
    "surge": 2.0,
    "surges": 2.0,
    "soars": 2.4,
    "jumps": 1.8,
    "slump": -2.2,
    "slumps": -2.2,
    "plunge": -2.6,
    "plunges": -2.6,
    "tumbles": -2.2,
    "sinks": -2.0,
    "dump": -1.8,
    "breakout": 1.8,
    "oversold": 0.8,
    "overbought": -0.8,
    "overvalued": -1.8,
    "undervalued": 1.8,
    "buyback": 1.6,
    "dilution": -2.0,
    "layoffs": -1.8,
    "restructuring": -1.2,
    "impairment": -2.2,
    "writedown": -2.2,
    "restatement": -2.6,
    "recall": -1.8,
    "lawsuit": -1.8,
    "probe": -1.6,
    "subpoena": -2.2,
    "investigation": -1.8,
    "bankruptcy": -3.6,
    "default": -2.8,
    "delisting": -3.0,
    "delisted": -3.0,
    "slowing": -1.4,
    "headwinds": -1.6,
    "tailwinds": 1.6,
    "accretive": 1.6,
    "profitable": 1.8,
    "unprofitable": -1.8,
    "moon": 1.8,
    "calls": 0.0,
    "puts": 0.0,
    "selling": -1.0,
    # Words VADER scores that carry no mood in finance.
    "crude": 0.0,
    "liability": 0.0,
    "liabilities": 0.0,
    "debt": 0.0,
    "share": 0.0,
    "shares": 0.0,
    "interest": 0.0,
    "gross": 0.0,
    "tax": 0.0,
    "vice": 0.0,
    "mine": 0.0,
    "cancer": 0.0,
    "capital": 0.0,
    "credit": 0.0,
}


class SentimentScorer:
    """Scores lines of text; the lexicon is loaded on the first one (about 25 ms) and shared."""

    def __init__(self) -> None:
        longest_first = sorted(map(re.escape, _PHRASES), key=len, reverse=True)
        self._pattern = re.compile("|".join(longest_first), re.IGNORECASE)

    def prepare(self) -> None:
        """Load the lexicon now, so that the first score does not hold up an event loop.

        Raises
        ------
        MissingExtraError
            If vaderSentiment is not installed.
        """
        _analyzer()

    def score(self, text: str) -> float:
        """Return VADER's compound score of `text` in [-1, 1]; 0 where no word carries a mood.

        Raises
        ------
        MissingExtraError
            If vaderSentiment is not installed.
        """
        joined = self._pattern.sub(lambda found: _joined(found[0]), text)
        return _score(joined) if joined.strip() else 0.0


@lru_cache(maxsize=4096)
def _score(text: str) -> float:
    return float(_analyzer().polarity_scores(text)["compound"])


@cache
def _analyzer() -> "SentimentIntensityAnalyzer":
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise MissingExtraError(
            "sentiment needs vaderSentiment; install pytest-tradeperf[pipeline]"
        ) from error
    analyzer = SentimentIntensityAnalyzer()
    analyzer.lexicon |= _TERMS
    analyzer.lexicon |= {_joined(phrase): weight for phrase, weight in _PHRASES.items()}
    return analyzer


def _joined(phrase: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", phrase.lower())
