"""Which allocation sites grew between an accepted and a measured heap peak."""

import json
from collections.abc import Mapping
from typing import Final

from pytest_tradeperf.units import format_quantity

NAMED: Final = 5
"""Sites named in a failure."""


def grown_sites(accepted: str, measured: str) -> tuple[str, ...]:
    """Return lines for the sites that hold more than accepted, the largest growth first.

    Both texts map a site without its line number (lines move with every edit) to [place, bytes].

    Examples
    --------
    >>> grown_sites('{"a.py in f": ["a.py:3 in f", 1024]}', '{"a.py in f": ["a.py:9 in f", 4096]}')
    ('+3.00 KiB held by a.py:9 in f (1.00 KiB -> 4.00 KiB)',)
    """
    before, after = _sites(accepted), _sites(measured)
    growth = sorted(
        ((held - before.get(site, ("", 0))[1], site) for site, (_, held) in after.items()), reverse=True
    )
    lines = []
    for more, site in growth[:NAMED]:
        if more <= 0:
            break
        place, held = after[site]
        was = format_quantity(before[site][1], "B") if site in before else "not among the largest"
        lines.append(f"+{format_quantity(more, 'B')} held by {place} ({was} -> {format_quantity(held, 'B')})")
    return tuple(lines)


def _sites(text: str) -> Mapping[str, tuple[str, int]]:
    try:
        return {str(site): (str(place), int(held)) for site, (place, held) in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):  # edited by hand
        return {}
