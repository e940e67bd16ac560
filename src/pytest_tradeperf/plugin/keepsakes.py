"""What pytest keeps of a running test: log records, output, warnings, patches, properties.

A search for leaks calls a test thousands of times; without forgetting, each of these would grow with
every call and pass for the test's own leak.
"""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from _pytest.capture import CaptureIO  # what sys.stdout is under capsys and --capture=sys
from _pytest.logging import LogCaptureHandler  # on the root logger in every test


@contextmanager
def forgetting(*, keep_first_warnings: bool = True) -> Iterator[Callable[[], None]]:
    """Yield a function that drops the log records, output and warnings that came since the block began.

    The warnings of the first call are kept, so that somebody sees them.
    """
    handlers = [
        (handler, len(handler.records), handler.stream.tell())
        for handler in logging.getLogger().handlers
        if isinstance(handler, LogCaptureHandler)
    ]
    outputs = [(out, out.tell()) for out in (sys.stdout, sys.stderr) if isinstance(out, CaptureIO)]
    warned = _recorded_warnings()
    keep = None if keep_first_warnings else len(warned)

    def forget() -> None:
        nonlocal keep
        for handler, count, end in handlers:
            del handler.records[count:]
            _cut(handler.stream, end)
        for out, end in outputs:
            _cut(out, end)
        keep = len(warned) if keep is None else keep
        del warned[keep:]

    yield forget


@contextmanager
def forgetting_all(item: pytest.Item) -> Iterator[Callable[[], None]]:
    """Yield a function after which the test may run again as if for the first time.

    Beside ``forgetting`` it undoes what the test did to its own fixtures: patches, properties, calls of
    mocks.
    """
    fixtures = list(getattr(item, "funcargs", {}).values())
    patches = [_Patches(f) for f in fixtures if isinstance(f, pytest.MonkeyPatch)]
    mock = sys.modules.get("unittest.mock")
    mocks = [f for f in fixtures if mock is not None and isinstance(f, mock.NonCallableMock)]
    properties = len(item.user_properties)
    with forgetting(keep_first_warnings=False) as forget:

        def forget_all() -> None:
            forget()
            for patch in patches:
                patch.undo()
            for fixture in mocks:
                fixture.reset_mock()
            del item.user_properties[properties:]

        yield forget_all


def _recorded_warnings() -> list[Any]:
    """Return the list that warnings are recorded in now: pytest's or that of ``recwarn``."""
    append = getattr(warnings, "_showwarnmsg_impl", None)  # how catch_warnings(record=True) does it
    found = getattr(append, "__self__", None)
    return found if isinstance(found, list) else []


class _Patches:
    """What was patched through one ``monkeypatch`` so far; ``undo`` takes back what came later."""

    def __init__(self, monkeypatch: Any) -> None:
        self._patch = monkeypatch
        self._attributes = len(monkeypatch._setattr)  # noqa: SLF001 - undo() would take the fixtures' too
        self._items = len(monkeypatch._setitem)  # noqa: SLF001
        self._folder, self._path = monkeypatch._cwd, monkeypatch._savesyspath  # noqa: SLF001

    def undo(self) -> None:
        patch: Any = self._patch
        later: Any = pytest.MonkeyPatch()
        later._setattr = patch._setattr[self._attributes :]  # noqa: SLF001
        later._setitem = patch._setitem[self._items :]  # noqa: SLF001
        del patch._setattr[self._attributes :], patch._setitem[self._items :]  # noqa: SLF001
        if self._folder is None:
            later._cwd, patch._cwd = patch._cwd, None  # noqa: SLF001
        if self._path is None:
            later._savesyspath, patch._savesyspath = patch._savesyspath, None  # noqa: SLF001
        later.undo()


def _cut(stream: Any, end: int) -> None:
    if stream.tell() > end:
        stream.seek(end)
        stream.truncate()
