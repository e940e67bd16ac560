"""Features computed once: a least-recently-used cache bounded by bytes.

A key is the digest of the data, the function itself, its version and its parameters. Nothing here can change
an answer: results are handed out read-only, and what cannot be keyed safely is computed every time.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

Result = TypeVar("Result")
DEFAULT_BYTES: Final = 64 * 1024 * 1024
# What an entry costs beside its arrays: key, list node, array objects.
ENTRY_BYTES: Final = 512
DIGEST_BYTES: Final = 16
# Kinds whose equal values are the same value.
PLAIN: Final = frozenset({int, str, bool, bytes, type(None)})


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounts:
    """What a cache did.

    Attributes
    ----------
    hits, misses, evictions
        Since it was made.
    uncacheable
        Calls computed without looking, because a parameter has no safe key or the result is no array.
    entries, n_bytes
        Held now.
    """

    hits: int
    misses: int
    evictions: int
    uncacheable: int
    entries: int
    n_bytes: int


class DataDigests:
    """Digests of arrays; those of arrays that nobody can write are remembered while they live.

    An array is *known* when it and everything it is a view of is read-only, as the columns of bars are.
    Others are digested at every call: they may have changed.
    """

    __slots__ = ("_known", "_lock")

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[NDArray[Any]], bytes]] = {}
        self._lock = threading.Lock()

    def of(self, array: NDArray[Any]) -> bytes:
        """Return 16 bytes that depend on values, shape and type; below 1 us for a known array."""
        known = self._known.get(id(array))
        is_same = known is not None and known[0]() is array and not array.flags.writeable
        if known is not None and is_same and (array.base is None or _is_frozen(array)):
            return known[1]
        digest = data_digest(array)
        if _is_frozen(array):
            self._remember(array, digest)
        return digest

    def __len__(self) -> int:
        """Return the number of arrays known."""
        return len(self._known)

    def _remember(self, array: NDArray[Any], digest: bytes) -> None:
        place = id(array)

        def forget(gone: weakref.ref[NDArray[Any]]) -> None:
            # Another array may live at this address by now.
            known = self._known.get(place)
            if known is not None and known[0] is gone:
                del self._known[place]

        with self._lock:
            self._known[place] = (weakref.ref(array, forget), digest)


class FeatureCache:
    """Results of pure functions of arrays; safe to share between threads.

    Parameters
    ----------
    max_bytes
        Arrays held, with 512 bytes for each entry; the least recently used go first. A result larger than
        that is not held at all.
    enabled
        False computes every time; the answers are the same.

    Examples
    --------
    >>> from pytest_tradeperf.pipeline.features import sma
    >>> cache = FeatureCache()
    >>> closes = np.array([1.0, 2.0, 3.0])
    >>> cache.get(sma, closes, window=2) is cache.get(sma, closes.copy(), window=2)
    True
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES, *, enabled: bool = True) -> None:
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 0:
            raise SettingError(f"max_bytes is {max_bytes!r}: expected a whole number of bytes, at least 0")
        self._max_bytes = max_bytes
        self._enabled = enabled
        self._digests = DataDigests()
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._n_bytes = self._hits = self._misses = self._evictions = self._uncacheable = 0

    def get(
        self,
        function: Callable[..., Result],
        /,
        *arrays: NDArray[Any],
        version: Hashable = 0,
        **parameters: Any,
    ) -> Result:
        """Return ``function(*arrays, **parameters)``, computed or remembered.

        Parameters
        ----------
        function
            Pure, answering with an array or a tuple of arrays. It is part of the key itself, not by its name.
        arrays
            Data, handed over by position.
        version
            Change it when the function's meaning changes while its object stays.
        parameters
            Numbers, texts, None and tuples, lists or dicts of them. Anything else has no key: computed every
            time.

        Returns
        -------
        what the function returns
            Its arrays read-only, also when computed, so that no caller changes what the next one gets.
        """
        if not self._enabled:
            return _frozen(function(*arrays, **parameters), arrays)[0]
        try:
            key = self.key(function, arrays, version, parameters)
            hash(key)
        except TypeError:  # a function or version without a hash
            key = None
        if key is None:
            return self._computed(function, arrays, parameters)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
                self._hits += 1
                found: Result = entry[0]
                return found
        result, n_bytes = _frozen(function(*arrays, **parameters), arrays)
        if n_bytes is None:
            with self._lock:
                self._uncacheable += 1
            return result
        return self._held(key, result, n_bytes + ENTRY_BYTES)

    def key(
        self,
        function: Callable[..., Any],
        arrays: tuple[NDArray[Any], ...],
        version: Hashable,
        parameters: dict[str, Any],
    ) -> Hashable | None:
        """Return the key of a call, or None where there is no safe one."""
        digest = self._digests.of
        parts: list[Hashable] = [function, version, len(arrays)]
        try:
            for array in arrays:
                parts.append(digest(array))  # noqa: PERF401 - this loop is the cost of a hit
            for name in parameters if len(parameters) == 1 else sorted(parameters):
                value = parameters[name]
                kind = value.__class__
                parts += (name, kind, value if kind is int or kind in PLAIN else _keyed(value))
        except (TypeError, AttributeError):
            return None
        return tuple(parts)

    def counts(self) -> CacheCounts:
        """Return what the cache did so far."""
        with self._lock:
            return CacheCounts(
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                uncacheable=self._uncacheable,
                entries=len(self._entries),
                n_bytes=self._n_bytes,
            )

    def clear(self) -> None:
        """Forget all results; the counts go on."""
        with self._lock:
            self._entries.clear()
            self._n_bytes = 0

    def _computed(
        self, function: Callable[..., Result], arrays: tuple[Any, ...], parameters: dict[str, Any]
    ) -> Result:
        with self._lock:
            self._uncacheable += 1
        return _frozen(function(*arrays, **parameters), arrays)[0]

    def _held(self, key: Hashable, result: Result, n_bytes: int) -> Result:
        with self._lock:
            self._misses += 1
            entry = self._entries.get(key)
            if entry is not None:  # another thread was first: everybody gets the same object
                first: Result = entry[0]
                return first
            if n_bytes > self._max_bytes:
                return result
            self._entries[key] = (result, n_bytes)
            self._n_bytes += n_bytes
            while self._n_bytes > self._max_bytes:
                _, (_, freed) = self._entries.popitem(last=False)
                self._n_bytes -= freed
                self._evictions += 1
        return result


def data_digest(array: NDArray[Any]) -> bytes:
    """Return 16 bytes that depend on the values, shape and type of an array (BLAKE2b, RFC 7693).

    Raises
    ------
    TypeError
        An array of Python objects: their addresses say nothing.
    """
    if array.dtype.hasobject:
        raise TypeError(f"an array of {array.dtype} has no digest: use numbers")
    digest = blake2b(f"{array.dtype.str}{array.dtype.descr}{array.shape}".encode(), digest_size=DIGEST_BYTES)
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.digest()


def _is_frozen(array: NDArray[Any]) -> bool:
    """Return whether neither the array nor what it is a view of can be written."""
    if array.flags.writeable:
        return False
    base = array.base
    while base is not None:
        if not isinstance(base, np.ndarray):
            return isinstance(base, bytes)  # a mapped file or foreign buffer may change without us
        if base.flags.writeable:
            return False
        base = base.base
    return True


def _keyed(value: Any) -> Hashable:
    """Return a key that tells 1, 1.0 and True apart, and 0.0 from -0.0; TypeError where there is none."""
    kind = value.__class__
    if kind in PLAIN:
        return (kind, value)
    if kind is float:
        return value.hex() if value == value else "nan"  # noqa: PLR0124 - NaN equals nothing, itself included
    if kind is tuple or kind is list:
        return (kind, tuple([_keyed(item) for item in value]))
    if kind is dict:
        return (kind, tuple([(_keyed(name), _keyed(item)) for name, item in value.items()]))
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return (value.dtype.str, value.tobytes())
    raise TypeError(f"{value!r} cannot be part of a key")


def _frozen(result: Result, arrays: tuple[NDArray[Any], ...]) -> tuple[Result, int | None]:
    """Return the result with its arrays read-only, and their bytes; None where it is not arrays alone.

    A result that shares memory with the data is copied: the caller's array must stay writable, and a write to
    it must not reach what is held.
    """
    parts: tuple[Any, ...] = result if isinstance(result, tuple) else (result,)
    if not all(isinstance(part, np.ndarray) for part in parts):
        return result, None
    if any(np.may_share_memory(part, array) for part in parts for array in arrays):
        parts = tuple(part.copy() for part in parts)
        if isinstance(result, tuple):
            result = result._make(parts) if hasattr(result, "_make") else type(result)(parts)
        else:
            result = parts[0]
    n_bytes = 0
    for part in parts:
        part.flags.writeable = False
        n_bytes += max(part.nbytes, getattr(part.base, "nbytes", 0))
    return result, n_bytes
