"""Messages between the controller and a side: one JSON object a line, over two pipes, with deadlines.

The controller says what to do (``{"do": ...}``), a side answers what is (``{"is": ...}``). The pipes
are neither stdin nor stdout, so nothing a test prints can be taken for a message.
"""

import json
import os
import select
import time
from typing import Any, Final, TypeAlias

from pytest_tradeperf.errors import WorkerError

Message: TypeAlias = dict[str, Any]

_CHUNK: Final = 65536


class ClosedError(WorkerError):
    """The other end is gone."""


class LateError(WorkerError):
    """The other end did not answer in time."""


class Channel:
    """Both directions between two processes; each end belongs to one thread."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read, self._write = read_fd, write_fd
        self._buffer = b""

    def send(self, message: Message) -> None:
        """Send one message; raises ClosedError when nobody is there to read it."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while data:
                data = data[os.write(self._write, data) :]
        except OSError as error:
            raise ClosedError("the measuring process is gone") from error

    def receive(self, seconds: float | None = None) -> Message:
        """Return the next message, waiting at most ``seconds`` (None: for ever).

        Raises
        ------
        LateError
            Nothing arrived in time.
        ClosedError
            The other end is gone, or spoke nonsense.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if deadline is not None:
                self._await(deadline, seconds)
            try:
                data = os.read(self._read, _CHUNK)
            except OSError as error:
                raise ClosedError("the measuring process is gone") from error
            if not data:
                raise ClosedError("the measuring process is gone")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError as error:
            raise ClosedError(f"a measuring process answered {line[:60]!r}") from error
        if not isinstance(message, dict):
            raise ClosedError(f"a measuring process answered {line[:60]!r}")
        return message

    def _await(self, deadline: float, seconds: float | None) -> None:
        poll = select.poll()
        poll.register(self._read, select.POLLIN | select.POLLHUP)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise LateError(f"no answer within {seconds:.3g} s")

    def close(self) -> None:
        """Close both pipes."""
        for fd in (self._read, self._write):
            os.close(fd)
