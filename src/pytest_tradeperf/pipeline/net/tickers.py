"""What counts as a ticker: everything else is refused before it can reach a URL, a file name or a prompt."""

import re

from pytest_tradeperf.pipeline.errors import SettingError

# Letters and digits with the separators that real listings use: BRK.B, BTC-USD, ES=F, ^SPX, 0700.HK.
_TICKER = re.compile(r"\^?[A-Z0-9]{1,10}(?:[.=-][A-Z0-9]{1,6}){0,2}")


class TickerError(SettingError):
    """A text that is no ticker; the message shows it and what is expected."""


def normalised(ticker: str) -> str:
    """Return the ticker in upper case.

    >>> normalised(" brk.b ")
    'BRK.B'

    Raises
    ------
    TickerError
        If it holds anything but ASCII letters, digits, and single ``.``, ``-`` or ``=`` between them, or is
        longer than any listing.
    """
    # Upper case only after the check for ASCII: 'ß'.upper() is 'SS', and would become somebody else's ticker.
    text = str(ticker).strip()
    if not text.isascii() or _TICKER.fullmatch(text.upper()) is None:
        raise TickerError(
            f"{ticker!r:.60} is not a ticker; expected letters and digits like AAPL, BRK.B or ^SPX"
        )
    return text.upper()


def name_of(ticker: str) -> str:
    """Return what a report calls the ticker: normalised, or just as it was given if it is none.

    >>> name_of("ibm"), name_of("ß")
    ('IBM', 'ß')
    """
    try:
        return normalised(ticker)
    except TickerError:
        return str(ticker)
