"""Where the sources live and how long a collection may take: one frozen record, read from the environment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pytest_tradeperf.pipeline.altdata import cboe, edgar, news, stocktwits
from pytest_tradeperf.pipeline.errors import SettingError

SOURCE_NAMES = ("sec", "news", "stocktwits", "cboe")
_TIMEOUT_S = 30.0
_LOOPBACK_CONTACT = "tradeperf loopback world@localhost.invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSettings:
    """How feeds are collected.

    Parameters
    ----------
    sec_url, sec_data_url, news_url, stocktwits_url, cboe_url
        Base addresses; the defaults are the real hosts.
    sec_user_agent
        Name and e-mail that the SEC asks for. Without it the SEC is not asked and the report says so.
    timeout_s
        Time for one collection over all sources, in seconds.
    sources
        Which sources to ask.
    cache_folder
        Where answers are kept for the next process; empty keeps them in memory.
    trust_env
        False ignores proxies named in the environment.
    """

    sec_url: str = edgar.FILES_URL
    sec_data_url: str = edgar.DATA_URL
    news_url: str = news.BASE_URL
    stocktwits_url: str = stocktwits.BASE_URL
    cboe_url: str = cboe.BASE_URL
    sec_user_agent: str = ""
    timeout_s: float = _TIMEOUT_S
    sources: tuple[str, ...] = SOURCE_NAMES
    cache_folder: str = ""
    trust_env: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.timeout_s) and self.timeout_s > 0):
            raise SettingError(
                f"timeout_s must be a finite number of seconds above 0, got {self.timeout_s!r}"
            )
        unknown = [name for name in self.sources if name not in SOURCE_NAMES]
        if unknown:
            raise SettingError(f"unknown source {unknown[0]!r}; expected some of {', '.join(SOURCE_NAMES)}")
        for name in ("sec_url", "sec_data_url", "news_url", "stocktwits_url", "cboe_url"):
            if not getattr(self, name).startswith(("http://", "https://")):
                raise SettingError(
                    f"{name} is {getattr(self, name)!r}, expected one like https://host.example"
                )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Return the settings that ``TRADEPERF_*`` variables ask for, defaults for the rest.

        Read are ``TRADEPERF_SEC_USER_AGENT``, ``TRADEPERF_SEC_URL``, ``TRADEPERF_SEC_DATA_URL``,
        ``TRADEPERF_NEWS_URL``, ``TRADEPERF_STOCKTWITS_URL``, ``TRADEPERF_CBOE_URL``,
        ``TRADEPERF_FEEDS_TIMEOUT`` (seconds), ``TRADEPERF_FEEDS_CACHE`` (a folder) and ``TRADEPERF_FEEDS``
        (comma-separated names).

        Raises
        ------
        SettingError
            If a value cannot be used; the message names it.
        """
        timeout = environment.get("TRADEPERF_FEEDS_TIMEOUT") or str(_TIMEOUT_S)
        try:
            seconds = float(timeout.removesuffix("s"))
        except ValueError as error:
            raise SettingError(f"TRADEPERF_FEEDS_TIMEOUT is {timeout!r}, expected seconds like 30") from error
        names = environment.get("TRADEPERF_FEEDS") or ",".join(SOURCE_NAMES)
        sec_url = environment.get("TRADEPERF_SEC_URL")
        return cls(
            sec_url=sec_url or edgar.FILES_URL,
            sec_data_url=environment.get("TRADEPERF_SEC_DATA_URL") or sec_url or edgar.DATA_URL,
            news_url=environment.get("TRADEPERF_NEWS_URL") or news.BASE_URL,
            stocktwits_url=environment.get("TRADEPERF_STOCKTWITS_URL") or stocktwits.BASE_URL,
            cboe_url=environment.get("TRADEPERF_CBOE_URL") or cboe.BASE_URL,
            sec_user_agent=environment.get("TRADEPERF_SEC_USER_AGENT") or "",
            timeout_s=seconds,
            cache_folder=environment.get("TRADEPERF_FEEDS_CACHE") or "",
            sources=tuple(part.strip() for part in names.split(",") if part.strip()),
        )

    @classmethod
    def for_world(cls, url: str, *, timeout_s: float = _TIMEOUT_S) -> Self:
        """Return settings for the loopback world at `url`, past the proxies of the environment."""
        return cls(
            sec_url=f"{url}/sec",
            sec_data_url=f"{url}/sec",
            news_url=f"{url}/news",
            stocktwits_url=f"{url}/stocktwits",
            cboe_url=f"{url}/cboe",
            sec_user_agent=_LOOPBACK_CONTACT,
            timeout_s=timeout_s,
            trust_env=False,
        )
