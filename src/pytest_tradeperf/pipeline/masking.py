"""Addresses fit for messages, logs and printed settings: passwords and keys in them become stars."""

import re
from typing import Final
from urllib.parse import unquote_plus

STARS: Final = "***"
_SECRET: Final = re.compile(r"key|token|secret|pass|pwd|auth|credential|signature", re.IGNORECASE)
# To the last @: a password typed as it is may hold '/', '?', '#' and '@', and then no parser agrees with the
# next on where it ends. An address with a port and an @ behind it loses more than it had to.
_PASSWORD: Final = re.compile(r"(://[^:]*:).*@", re.DOTALL)
_USER: Final = re.compile(r"://[^/?]*@")
_PAIR: Final = re.compile(r"([?&])([^=&]*)=([^&]*)")


def without_secrets(address: str) -> str:
    """Return ``address`` with its password, and the values of its query that look secret, as stars.

    Text that is no address comes back as it is.

    Examples
    --------
    >>> without_secrets("postgresql://bob:s3cr/et@db/x?sslmode=require&password=s3cret")
    'postgresql://bob:***@db/x?sslmode=require&password=***'
    """
    return without_query_secrets(_PASSWORD.sub(rf"\1{STARS}@", address))


def without_query_secrets(address: str) -> str:
    """Return ``address`` with the values of its query that look secret as stars.

    Examples
    --------
    >>> without_query_secrets("https://host.example/p?s=AAPL&access_token=12345")
    'https://host.example/p?s=AAPL&access_token=***'
    """
    return _PAIR.sub(
        lambda pair: f"{pair[1]}{pair[2]}={STARS if _SECRET.search(unquote_plus(pair[2])) else pair[3]}",
        address,
    )


def redacted(url: str) -> str:
    """Return ``url`` for messages about requests: also without user, who may be a token, and fragment.

    Examples
    --------
    >>> redacted("https://me:pw@host.example/path?s=AAPL&apikey=12345#top")
    'https://host.example/path?s=AAPL&apikey=***'
    """
    return _USER.sub("://", without_secrets(url)).partition("#")[0]


def quoted(address: object) -> str:
    """Return what cannot be read as an address in quotes, or only that it holds credentials.

    Examples
    --------
    >>> quoted("host.example/v1"), quoted("bob:s3cret@host.example")
    ("'host.example/v1'", 'one with credentials')
    """
    text = str(address)
    return "one with credentials" if "@" in text else f"{without_secrets(text)!r:.200}"
