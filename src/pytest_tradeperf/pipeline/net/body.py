"""Reads bodies that strangers wrote: bounded, validated, and never trusted to be what they claim."""

import codecs
import html
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn
from xml.etree import ElementTree as ET  # nosec B405 - only through parse_xml, which refuses declarations first

from pytest_tradeperf.pipeline.net.errors import MalformedError

# Deeper than any payload of ours by a factor of ten; the parser's own limit depends on the interpreter.
MAX_DEPTH = 100
_SHOWN = 60
_TAG = re.compile(r"<[^<>]{0,2000}>")
# Legal in no XML 1.0 document, and yet found in feeds.
_XML_FORBIDDEN = bytes(code for code in range(0x20) if code not in b"\t\n\r")
_XML_ENCODINGS = ("utf-8", "iso8859-1", "cp1252", "ascii")
_XML_ENCODING = re.compile(rb"""\A\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_XML_DECLARATION = re.compile(r"<!(DOCTYPE|ENTITY)", re.IGNORECASE)
# Format characters (bidirectional marks, zero-width ones), controls, surrogates and private use: invisible
# to a reader, not to a parser or a model.
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn")


def shown(body: bytes) -> str:
    """Return the start of a body, fit for a message."""
    text = repr(body[:_SHOWN])[2:-1]
    return f"{text}..." if len(body) > _SHOWN else text


def parse_json(body: bytes) -> Any:
    """Return the JSON value in `body`.

    Raises
    ------
    MalformedError
        If it is empty, a page of HTML, not JSON, nested deeper than 100 levels, or holds NaN or Infinity.
    """
    start = body.lstrip()[:1]
    if not start:
        raise MalformedError("the body is empty; expected JSON")
    if start == b"<":
        raise MalformedError(f"the body is markup, not JSON (a challenge or error page?): {shown(body)}")
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MalformedError(f"the body is not JSON ({reason[:120]}): {shown(body)}") from error
    _check_depth(value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = []
        for one in level:
            parts = one.values() if type(one) is dict else one if type(one) is list else ()
            inner += [part for part in parts if type(part) is dict or type(part) is list]
        if not inner:
            return
        level = inner
    raise MalformedError(f"the body is nested deeper than {MAX_DEPTH} levels")


def parse_xml(body: bytes) -> ET.Element:
    """Return the root element of an XML document without a document type.

    Control characters that XML does not allow are dropped first.

    Raises
    ------
    MalformedError
        If it is empty, not well formed, declares a document type or entities, or has an unusual encoding.
    """
    if not body.strip():
        raise MalformedError("the body is empty; expected XML")
    named = _XML_ENCODING.match(body.removeprefix(codecs.BOM_UTF8))
    encoding = named[1].decode("ascii") if named else "utf-8"
    try:
        known = codecs.lookup(encoding).name in _XML_ENCODINGS
        text = body.removeprefix(codecs.BOM_UTF8).translate(None, _XML_FORBIDDEN).decode(encoding)
    except (LookupError, UnicodeDecodeError) as error:
        raise MalformedError(f"the body is not text in {encoding!r}: {shown(body)}") from error
    if not known:
        raise MalformedError(f"the body claims the encoding {encoding!r}; expected one of {_XML_ENCODINGS}")
    if _XML_DECLARATION.search(text):
        raise MalformedError(f"the body declares a document type or entities, no feed does: {shown(body)}")
    # The declaration has been obeyed; a parser fed with text must not obey it again.
    text = re.sub(r"\A\s*<\?xml[^>]*\?>", "", text)
    try:
        return ET.fromstring(text)  # noqa: S314 - entities were refused above  # nosec B314
    except ET.ParseError as error:
        raise MalformedError(f"the body is not XML ({error}): {shown(body)}") from error


def clean_text(text: object, *, limit: int = 500) -> str:
    r"""Return one line of visible text: entities resolved, tags, controls and invisible characters dropped.

    What comes from a feed stays data: it is bounded and printable, its words are not judged here.

    >>> clean_text("Profit &amp; loss\x00 <b>up</b>\n 5 %")
    'Profit & loss up 5 %'
    """
    if not isinstance(text, str):
        return ""
    if text.isascii() and text.isprintable() and not any(mark in text for mark in "<&"):
        return " ".join(text[: 10 * limit].split())[:limit].rstrip()
    # Ten times the limit is ample before tags and entities shrink it, and bounds the work on a huge text.
    plain = _TAG.sub(" ", html.unescape(text[: 10 * limit]))
    visible = "".join(
        " " if char.isspace() else char
        for char in unicodedata.normalize("NFC", plain)
        if char.isspace() or unicodedata.category(char) not in _INVISIBLE
    )
    return " ".join(visible.split())[:limit].rstrip()


def field(value: Any, *path: str | int, what: str) -> Any:
    """Return the value at `path` inside nested mappings and lists.

    Raises
    ------
    MalformedError
        If a step of the path is missing; the message names `what` and the step.
    """
    for step in path:
        inside = (isinstance(step, str) and isinstance(value, Mapping) and step in value) or (
            isinstance(step, int)
            and isinstance(value, Sequence)
            and not isinstance(value, str)
            and step < len(value)
        )
        if not inside:
            raise MalformedError(f"{what} has no {step!r} where it belongs ({' > '.join(map(str, path))})")
        value = value[step]
    return value


def list_field(value: Any, *path: str | int, what: str) -> list[Any]:
    """Return the list at `path`.

    Raises
    ------
    MalformedError
        If it is missing or not a list.
    """
    found = field(value, *path, what=what)
    if not isinstance(found, list):
        place = " > ".join(map(str, path))
        raise MalformedError(f"{what}: {place} is a {type(found).__name__}, expected a list")
    return found


def number(value: Any, default: float = 0.0) -> float:
    """Return `value` as a finite float; `default` for anything that is none.

    >>> number("12.5"), number(None), number(float("inf"), default=-1.0)
    (12.5, 0.0, -1.0)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return default
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return default
    return found if math.isfinite(found) else default


def iso_moment(text: object, *, what: str) -> datetime:
    """Return an ISO 8601 time in UTC; one without a zone is taken as UTC.

    Raises
    ------
    MalformedError
        If the text is no such time.
    """
    try:
        moment = datetime.fromisoformat(text if isinstance(text, str) else "")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise MalformedError(f"{what} is {text!r:.60}, expected an ISO 8601 time") from error
