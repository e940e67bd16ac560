"""Results of an optimiser kept in files, believed only while their data is what it was.

A file holds a line of JSON and then arrays (numpy's npz, never pickles). The line carries the checksum of the
rest and what the data looked like; a file that does not add up is computed again and written over.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError, SettingError
from pytest_tradeperf.pipeline.features.cache import data_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

FORMAT: Final = 1
SUFFIX: Final = ".results"
# A file changed less than this before its digest was taken could change again without a new time stamp: file
# systems count in steps of up to 2 s.
STAMP_STEP_NS: Final = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCounts:
    """What a result cache did: computed results are `absent` + `stale` + `corrupt`.

    Attributes
    ----------
    hits
        Read from a file.
    absent, stale, corrupt
        Computed because there was no file, the data had changed, the file was damaged.
    unwritten
        Computed and not kept, because the folder could not be written or the data changed meanwhile.
    problem
        The last reason for `corrupt` or `unwritten`, or an empty text.
    """

    hits: int = 0
    absent: int = 0
    stale: int = 0
    corrupt: int = 0
    unwritten: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStamp:
    """What a data file looked like: times and size for a quick look, the digest to be sure."""

    mtime_ns: int
    ctime_ns: int
    size: int
    digest: str
    taken_ns: int

    def is_surely_that_of(self, status: os.stat_result) -> bool:
        """Return whether times and size alone show that the file is unchanged."""
        same = (status.st_mtime_ns, status.st_ctime_ns, status.st_size) == (
            self.mtime_ns,
            self.ctime_ns,
            self.size,
        )
        return same and max(self.mtime_ns, self.ctime_ns) + STAMP_STEP_NS < self.taken_ns


class ResultCache:
    """Named arrays that a costly function answered, kept between processes.

    Parameters
    ----------
    folder
        Made when the first result is kept; can be deleted at any time.
    enabled
        False computes every time; the answers are the same.
    now_ns
        Clock, in ns since the epoch.
    """

    def __init__(
        self, folder: Path | str, *, enabled: bool = True, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._folder = Path(folder)
        self._enabled = enabled
        self._now_ns = now_ns
        self._counts: dict[str, int] = dict.fromkeys(("hits", "absent", "stale", "corrupt", "unwritten"), 0)
        self._problem = ""

    def get(
        self,
        name: str,
        compute: Callable[[], Mapping[str, ArrayLike]],
        *,
        data: Path | NDArray[Any] | tuple[NDArray[Any], ...],
        parameters: Mapping[str, Any],
        version: int = 1,
    ) -> dict[str, NDArray[Any]]:
        """Return what `compute` answers, computed or read.

        Parameters
        ----------
        name
            Of the function, such as ``"sweep-ma-cross"``; letters, digits, ``-`` and ``_``.
        compute
            Answers with arrays, numbers or texts by name.
        data
            The file it reads, or the arrays.
        parameters
            All else the answer depends on, as JSON can hold it.
        version
            Change it when `compute` changes its meaning.

        Returns
        -------
        dict of read-only ndarrays
            Numbers and texts have shape ().

        Raises
        ------
        DataError
            The data file cannot be read.
        SettingError
            The parameters are not JSON, or the name is not a name.
        """
        if not self._enabled:
            return _as_arrays(compute())
        source = data if isinstance(data, Path) else None
        identity = str(data.resolve()) if isinstance(data, Path) else _digest_of(data)
        key = _key(name, identity, parameters, version)
        file = self._folder / f"{name}-{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}{SUFFIX}"
        before = None if source is None else _status(source)
        found = self._read(file, key, source)
        if found is not None:
            self._counts["hits"] += 1
            return found
        stamp = None if source is None else self._stamp(source)
        answer = _as_arrays(compute())
        if source is not None and before is not None and _moved(before, _status(source)):
            self._unwritten(f"{source} changed while its results were computed")
        else:
            self._write(file, key, stamp, answer)
        return answer

    def counts(self) -> ResultCounts:
        """Return what the cache did so far."""
        return ResultCounts(**self._counts, problem=self._problem)

    def _read(self, file: Path, key: str, source: Path | None) -> dict[str, NDArray[Any]] | None:
        try:
            stamp, answer = _loaded(file, key)
        except FileNotFoundError:
            self._counts["absent"] += 1
            return None
        except (ValueError, TypeError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
            self._counts["corrupt"] += 1
            self._problem = f"{file} is damaged and was computed again: {error!r}"
            return None
        if source is None or stamp is None or stamp.is_surely_that_of(_status(source)):
            return answer
        if _file_digest(source) != stamp.digest:
            self._counts["stale"] += 1
            return None
        self._write(
            file, key, self._stamp(source), answer
        )  # touched, not changed: a quick look will do again
        return answer

    def _write(
        self, file: Path, key: str, stamp: SourceStamp | None, answer: Mapping[str, NDArray[Any]]
    ) -> None:
        buffer = io.BytesIO()
        columns: dict[str, Any] = {f"_{name}": array for name, array in answer.items()}
        np.savez(buffer, **columns)
        body = buffer.getvalue()
        header = {"format": FORMAT, "key": key, "checksum": hashlib.sha256(body).hexdigest()}
        header["source"] = None if stamp is None else asdict(stamp)
        draft = file.with_name(f"{file.name}.{os.getpid()}.{time.monotonic_ns()}.draft")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as stream:
                stream.write(json.dumps(header).encode() + b"\n" + body)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(file)
        except OSError as error:
            self._unwritten(f"{file} cannot be written: {error}")
            if draft.parent.is_dir():
                draft.unlink(missing_ok=True)

    def _stamp(self, source: Path) -> SourceStamp:
        status = _status(source)
        taken_ns = self._now_ns()
        return SourceStamp(
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            size=status.st_size,
            digest=_file_digest(source),
            taken_ns=taken_ns,
        )

    def _unwritten(self, problem: str) -> None:
        self._counts["unwritten"] += 1
        self._problem = problem


def _key(name: str, identity: str, parameters: Mapping[str, Any], version: int) -> str:
    if not name or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise SettingError(f"name is {name!r}: expected letters, digits, '-' and '_', like 'sweep-ma-cross'")
    try:
        return json.dumps([name, version, identity, parameters], sort_keys=True)
    except (TypeError, ValueError) as error:
        message = f"parameters of {name} cannot be a key: {error}; use texts, numbers, lists and dicts"
        raise SettingError(message) from error


def _digest_of(data: NDArray[Any] | tuple[NDArray[Any], ...]) -> str:
    arrays = data if isinstance(data, tuple) else (data,)
    return "-".join(data_digest(array).hex() for array in arrays)


def _as_arrays(answer: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in answer.items():
        array = np.array(value)
        if array.dtype.hasobject:
            raise DataError(f"result {name!r} is {value!r}: expected numbers or texts, or arrays of them")
        array.flags.writeable = False
        arrays[name] = array
    return arrays


def _loaded(file: Path, key: str) -> tuple[SourceStamp | None, dict[str, NDArray[Any]]]:
    """Return what a file holds; ValueError and its kind where it does not add up."""
    head, _, body = file.read_bytes().partition(b"\n")
    header = json.loads(head)
    expected = {"format": FORMAT, "key": key, "checksum": hashlib.sha256(body).hexdigest()}
    for name, value in expected.items():
        if header[name] != value:
            raise ValueError(f"{name} is {header[name]!r}, expected {value!r}")
    stamp = None if header["source"] is None else SourceStamp(**header["source"])
    with np.load(io.BytesIO(body), allow_pickle=False) as stored:
        return stamp, _as_arrays({name[1:]: stored[name] for name in stored.files})


def _status(source: Path) -> os.stat_result:
    try:
        return source.stat()
    except OSError as error:
        raise DataError(
            f"data file {str(source)!r} cannot be read: {error.strerror}; check the path"
        ) from error


def _moved(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_mtime_ns, before.st_size, before.st_ino) != (
        after.st_mtime_ns,
        after.st_size,
        after.st_ino,
    )


def _file_digest(source: Path) -> str:
    try:
        with source.open("rb") as stream:
            return hashlib.file_digest(stream, "blake2b").hexdigest()
    except OSError as error:
        raise DataError(
            f"data file {str(source)!r} cannot be read: {error.strerror}; check the path"
        ) from error
