"""Filings from SEC EDGAR: 8-K and 10-Q by default, with the moment of acceptance as the point-in-time key.

Rules of the source: a User-Agent that names a contact, and at most 10 requests a second over all its hosts
(breaking it closes the door for 10 minutes).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pytest_tradeperf.pipeline.altdata.model import Item, TickerFeed
from pytest_tradeperf.pipeline.altdata.source import HttpSource
from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.net.body import clean_text, field, iso_moment, list_field, parse_json
from pytest_tradeperf.pipeline.net.errors import MalformedError, NotFoundError
from pytest_tradeperf.pipeline.net.policy import HostPolicy, RateRule

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.net.fetcher import Fetcher

FILES_URL = "https://www.sec.gov"
DATA_URL = "https://data.sec.gov"
POLICY = HostPolicy(name="sec", rules=(RateRule(limit=10, period_s=1.0),), max_in_flight=20, fresh_s=300.0)
_MAP_FRESH_S = 24 * 3600.0
_EASTERN = ZoneInfo("America/New_York")
# EDGAR takes filings from 06:00 to 22:00 Eastern (sec.gov, "EDGAR Operational Status"). A margin of minutes
# covers those accepted just after.
_OPENS, _CLOSES = 6.0, 22.25
_CIK_DIGITS = 10
_COLUMNS = ("accessionNumber", "acceptanceDateTime", "form", "primaryDocument")
# Form 8-K, general instructions, section B.
_ITEMS_8K = {
    "1.01": "material agreement", "1.02": "end of a material agreement",
    "1.03": "bankruptcy or receivership", "1.05": "cybersecurity incident",
    "2.01": "acquisition or disposition", "2.02": "results of operations",
    "2.03": "new financial obligation", "2.04": "triggering event of an obligation",
    "2.05": "exit or disposal costs", "2.06": "material impairment", "3.01": "delisting notice",
    "3.02": "unregistered sale of equity", "4.01": "change of auditor",
    "4.02": "earlier statements not to be relied on", "5.01": "change of control",
    "5.02": "change of directors or officers", "5.03": "change of bylaws", "5.07": "votes of shareholders",
    "7.01": "regulation FD disclosure", "8.01": "other events", "9.01": "statements and exhibits",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filing:
    serial: str
    form: str
    stamp: datetime
    document: str
    items: str
    title: str


class EdgarSource(HttpSource):
    """Filings of the forms asked for.

    Parameters
    ----------
    fetcher
        Made with a ``User-Agent`` that holds a contact; see :func:`contact_agent`.
    base_url
        Host of ``/files/company_tickers.json``.
    data_url
        Host of ``/submissions/``; the same as `base_url` when None.
    forms
        Which forms; amendments (``8-K/A``) come along.
    limit
        Newest filings kept for each ticker.
    """

    name = "sec"

    def __init__(
        self,
        fetcher: "Fetcher",
        *,
        base_url: str = FILES_URL,
        data_url: str | None = None,
        forms: Sequence[str] = ("8-K", "10-Q"),
        limit: int = 40,
    ) -> None:
        super().__init__(fetcher, base_url=base_url)
        self._data = (data_url or base_url).rstrip("/")
        self._forms = frozenset(forms) | {f"{form}/A" for form in forms}
        self._limit = limit

    async def feed(self, ticker: str) -> TickerFeed:
        """Return the ticker's newest filings of the wanted forms."""
        listed = await self._fetcher.get(
            f"{self._base}/files/company_tickers.json", _parse_map, fresh_s=_MAP_FRESH_S
        )
        cik = listed.value.get(ticker.replace(".", "-"))
        if cik is None:
            raise NotFoundError(
                f"{ticker} is not in the SEC's list of tickers; only companies that file there are"
            )
        answer = await self._fetcher.get(
            f"{self._data}/submissions/CIK{cik:0{_CIK_DIGITS}d}.json", _parse_filings
        )
        is_local = _stamps_are_local(filing.stamp for filing in answer.value)
        wanted = [filing for filing in answer.value if filing.form in self._forms][: self._limit]
        items = [self._item(filing, ticker, cik, is_local, answer.fetched_at) for filing in wanted]
        return self._found(ticker, answer, items)

    def _item(self, filing: _Filing, ticker: str, cik: int, is_local: bool, fetched_at: datetime) -> Item:
        accepted = filing.stamp
        if is_local:
            accepted = filing.stamp.replace(tzinfo=_EASTERN).astimezone(UTC)
        subjects = [
            _ITEMS_8K.get(code.strip(), code.strip()) for code in filing.items.split(",") if code.strip()
        ]
        text = f"{filing.form}: {', '.join(subjects) or filing.title or 'filed'}"
        folder = f"{self._base}/Archives/edgar/data/{cik}/{filing.serial.replace('-', '')}"
        return Item(
            source=self.name,
            ticker=ticker,
            kind=filing.form,
            text=clean_text(text),
            published_at=accepted,
            available_at=accepted,
            fetched_at=fetched_at,
            url=f"{folder}/{filing.document}" if filing.document else folder,
            detail={
                "accession_number": filing.serial,
                "items": filing.items,
                "clock": "eastern" if is_local else "utc",
            },
        )


def contact_agent(contact: str) -> str:
    """Return the User-Agent for `contact`, for example ``Jane Doe jane@example.org``.

    Raises
    ------
    SettingError
        If it holds no e-mail address, or characters a header cannot carry.
    """
    text = contact.strip()
    if "@" not in text or not text.isascii() or not text.isprintable():
        raise SettingError(
            f"the SEC asks for a contact in the User-Agent, got {contact!r}; set TRADEPERF_SEC_USER_AGENT "
            "to something like 'Jane Doe jane@example.org'"
        )
    return text


def _parse_map(body: bytes) -> dict[str, int]:
    rows = parse_json(body)
    if not isinstance(rows, dict) or not rows:
        raise MalformedError("the list of tickers is not an object with rows")
    listed: dict[str, int] = {}
    for row in rows.values():
        ticker, cik = (
            field(row, "ticker", what="a row of tickers"),
            field(row, "cik_str", what="a row of tickers"),
        )
        listed.setdefault(str(ticker).upper(), int(cik))
    return listed


def _parse_filings(body: bytes) -> tuple[_Filing, ...]:
    recent = field(parse_json(body), "filings", "recent", what="the submissions")
    columns = [list_field(recent, name, what="the submissions") for name in _COLUMNS]
    count = len(columns[0])
    if any(len(column) != count for column in columns):
        raise MalformedError(
            f"the submissions' columns differ in length: {[len(column) for column in columns]}"
        )
    items = recent.get("items") or [""] * count
    titles = recent.get("primaryDocDescription") or [""] * count
    return tuple(
        _Filing(
            serial=_safe(serial),
            form=clean_text(form, limit=20),
            stamp=iso_moment(stamp, what=f"acceptanceDateTime of filing {place}"),
            document=_safe(document),
            items=clean_text(codes, limit=100),
            title=clean_text(title, limit=200),
        )
        for place, (serial, stamp, form, document, codes, title) in enumerate(
            zip(*columns, items, titles, strict=True)
        )
    )


def _safe(name: object) -> str:
    """Return a file or serial name, empty if it could lead out of its folder."""
    text = clean_text(name, limit=200)
    return (
        text if text and all(char.isalnum() or char in "._-/" for char in text) and ".." not in text else ""
    )


def _stamps_are_local(stamps: Iterable[datetime]) -> bool:
    """Return whether a filer's stamps are New York clocks although they end in Z.

    The submissions of about a fifth of the filers are so; the others are true UTC, and the convention
    belongs to the filer (measured on 64,936 filings of 808 filers, github.com/theOGognf/finagg issue 64).
    EDGAR takes no filings at night, so stamps that would fall into the night under one reading speak for
    the other. Without such evidence the Z is taken at its word.
    """
    night_if_utc = night_if_local = 0
    for stamp in stamps:
        eastern = stamp.astimezone(_EASTERN)
        night_if_utc += not _OPENS <= eastern.hour + eastern.minute / 60 <= _CLOSES
        night_if_local += not _OPENS <= stamp.hour + stamp.minute / 60 <= _CLOSES
    return night_if_utc > night_if_local
