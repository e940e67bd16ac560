"""Keys of charts: a digest of everything that is drawn, and names that a file may have."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LONGEST_NAME: Final = 48


def chart_key(kind: str, facts: object, *arrays: ArrayLike) -> str:
    """Return 32 hex digits that depend on the kind, on facts with a stable repr and on the arrays."""
    import numpy as np

    digest = blake2b(f"{kind} {facts!r}".encode("utf-8", "surrogatepass"), digest_size=16)
    for values in arrays:
        for array in values if isinstance(values, tuple) else (values,):
            column = np.ascontiguousarray(array)
            digest.update(f"{column.dtype.str}{column.shape}".encode())
            digest.update(column.tobytes())
    return digest.hexdigest()


def file_name(name: str, key: str) -> str:
    """Return a file name: letters, digits and dashes of the name, and 16 digits of the key's digest.

    Examples
    --------
    >>> file_name("price-../../etc", "any key")
    'price-etc-e1e2db0504d6b6f5.png'
    """
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:LONGEST_NAME] or "chart"
    return f"{plain}-{blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}.png"
