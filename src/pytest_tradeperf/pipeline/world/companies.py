"""The companies of the world: some real names, and a stable made-up one for every other ticker."""

from pytest_tradeperf.pipeline.world.draws import draw, generator

# Ticker, central index key and title as EDGAR lists them (company_tickers.json is in the public domain).
_KNOWN: dict[str, tuple[int, str]] = {
    "AAPL": (320193, "Apple Inc."),
    "MSFT": (789019, "MICROSOFT CORP"),
    "GOOG": (1652044, "Alphabet Inc."),
    "GOOGL": (1652044, "Alphabet Inc."),
    "AMZN": (1018724, "AMAZON COM INC"),
    "NVDA": (1045810, "NVIDIA CORP"),
    "META": (1326801, "Meta Platforms, Inc."),
    "FB": (1326801, "Meta Platforms, Inc."),
    "TSLA": (1318605, "Tesla, Inc."),
    "IBM": (51143, "INTERNATIONAL BUSINESS MACHINES CORP"),
    "INTC": (50863, "INTEL CORP"),
    "AMD": (2488, "ADVANCED MICRO DEVICES INC"),
    "ORCL": (1341439, "ORACLE CORP"),
    "CSCO": (858877, "CISCO SYSTEMS, INC."),
    "NFLX": (1065280, "NETFLIX INC"),
    "JPM": (19617, "JPMORGAN CHASE & CO"),
    "BAC": (70858, "BANK OF AMERICA CORP /DE/"),
    "XOM": (34088, "EXXON MOBIL CORP"),
    "CVX": (93410, "CHEVRON CORP"),
    "JNJ": (200406, "JOHNSON & JOHNSON"),
    "PFE": (78003, "PFIZER INC"),
    "KO": (21344, "COCA COLA CO"),
    "PEP": (77476, "PEPSICO INC"),
    "WMT": (104169, "Walmart Inc."),
    "DIS": (1744489, "Walt Disney Co"),
    "BA": (12927, "BOEING CO"),
    "GE": (40545, "GENERAL ELECTRIC CO"),
    "T": (732717, "AT&T INC."),
    "VZ": (732712, "VERIZON COMMUNICATIONS INC"),
    "HD": (354950, "HOME DEPOT, INC."),
    "MCD": (63908, "MCDONALDS CORP"),
    "NKE": (320187, "NIKE, Inc."),
    "BRK-B": (1067983, "BERKSHIRE HATHAWAY INC"),
}
# Made-up listings, so that a test with hundreds of symbols finds each of them in the SEC's map.
_MADE_UP = {f"T{number:03d}": (9_000_000 + number, f"Test Company {number}") for number in range(500)}
LISTED: dict[str, tuple[int, str]] = {**_KNOWN, **_MADE_UP}


def title_of(ticker: str) -> str:
    """Return the company's name."""
    return LISTED[ticker][1] if ticker in LISTED else f"{ticker} Holdings"


def ticker_of(cik: int) -> str | None:
    """Return the first ticker listed under a central index key, None if there is none."""
    return next((ticker for ticker, (known, _) in LISTED.items() if known == cik), None)


def price_of(seed: int, ticker: str) -> float:
    """Return the ticker's price level in dollars, 20 to 420."""
    return round(20 + 400 * draw(seed, "price", ticker), 2)


def mood_of(seed: int, ticker: str, day: int) -> float:
    """Return how good the news about `ticker` are on `day` (days since the epoch), -1 to 1.

    All services of one world share it, so a ticker with bad headlines has bearish messages and many puts.
    """
    slow = generator(seed, "mood", ticker, day // 20).uniform(-0.7, 0.7)
    fast = generator(seed, "mood", ticker, "day", day).uniform(-0.3, 0.3)
    return slow + fast
