"""Numbers that depend on a seed and names only: order, process and hash seed cannot change them."""

import hashlib
import random


def draw(seed: int, *names: object) -> float:
    """Return a number in [0, 1) fixed by `seed` and `names`.

    >>> draw(1, "sec", "AAPL") == draw(1, "sec", "AAPL")
    True
    >>> draw(1, "sec", "AAPL") == draw(2, "sec", "AAPL")
    False
    """
    text = "\x1f".join(map(str, (seed, *names)))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def generator(seed: int, *names: object) -> random.Random:
    """Return a random generator fixed by `seed` and `names`."""
    return random.Random("\x1f".join(map(str, (seed, *names))))
