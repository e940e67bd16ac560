"""The fresh process from which both sides of one pair are forked.

It has one thread and has imported nothing of the project, so both sides share hash seed, address
layout and preloaded libraries; the next pair comes from another parent with others. It waits until
the controller closes its stdin or dies, then ends both sides with everything they started. While both
sides run at once it is their metronome, and while a test waits it can keep the CPU awake.
"""

import gc
import importlib
import json
import os
import select
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_tradeperf.pairing.protocol import Channel, ClosedError
from pytest_tradeperf.pairing.redirect import Redirect
from pytest_tradeperf.pairing.shared import SharedFiles

COMMAND: Final = (
    "import json, sys; sys.path[:] = json.load(open(sys.argv[1], encoding='utf-8'))['path']; "
    "from pytest_tradeperf.pairing.parent import main; main(sys.argv[1], preload=len(sys.argv) == 2)"
)
"""What ``python -c`` runs; the first argument is the plan file, a second one forbids preloading."""

BEAT: Final = b"+"
REST: Final = b"-"
"""Written to the parent's stdin: make the kernel change between the sides from now on, and no more."""

WATCH: Final = b"w"
SLEEP: Final = b"s"
"""Written to the parent's stdin: keep the CPU awake from now on, and no more."""

_LOOK_SECONDS: Final = 0.5
_BEAT_SECONDS: Final = 0.001
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PR_SET_CHILD_SUBREAPER: Final = 36


if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class SideContext:
    """What a forked side is given: its channel, its finder, and what the controller asked for."""

    name: str
    channel: Channel
    redirect: Redirect
    payload: dict[str, Any]


def main(plan_file: str, *, preload: bool = True) -> None:
    """Fork both sides and outlive them; never returns to a half-ended pair."""
    owner = os.getppid()
    die_with_parent(signal.SIGTERM)
    plan = json.loads(Path(plan_file).read_text(encoding="utf-8"))
    if preload:
        for name in plan["preload"]:
            with suppress(Exception):  # whatever a library does not like about it, it will say to the sides
                importlib.import_module(name)
        if _threads() > 1 or _has_loaded(plan["head"], plan["sources"]):
            # Threads would be lost in the fork, and the project's code must not be shared: start again.
            os.execv(sys.executable, [*sys.orig_argv, "bare"])  # noqa: S606 - this very program
    padding = [bytes(size) for size in plan["padding"]]
    gc.collect()
    gc.freeze()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what a side leaves behind in a session of its own comes here
    children = [_fork(plan, name) for name in plan["order"]]
    for side in plan["sides"].values():
        os.close(side["read"])
        os.close(side["write"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if os.getppid() == owner:
            _wait(children)
    finally:
        for child in children:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
        _kill_orphans()
        del padding
        os._exit(0)


def _wait(children: list[int]) -> None:
    """Return when stdin is closed or both sides have ended; beat time when told to.

    Left alone the kernel changes between two busy processes of a CPU at its ticks, every 4 ms at 250 Hz.
    Whatever wakes up there makes it choose anew, and it chooses the one that has had less of the CPU.
    Linux shares a CPU among sessions first: what woke up in the controller's would hand the CPU to
    whatever else runs there, so it is this process, of the sides' own session, that does.
    """
    running, seconds = set(children), _LOOK_SECONDS
    watchers: set[int] = set()
    while running:
        readable, _, _ = select.select([0], [], [], seconds)
        if readable:
            said = os.read(0, 64)
            if not said:
                return
            for word in (said[i : i + 1] for i in range(len(said))):
                if word in (BEAT, REST):
                    seconds = _BEAT_SECONDS if word == BEAT else _LOOK_SECONDS
                elif word == WATCH:
                    with suppress(OSError):  # no more processes may be started; the CPU idles then
                        watchers.add(_watch())
                else:
                    for watcher in watchers:
                        os.kill(watcher, signal.SIGKILL)
        running -= _ended(running)
        watchers -= _ended(watchers)


def _ended(children: set[int]) -> set[int]:
    return {child for child in children if os.waitpid(child, os.WNOHANG)[0] == child}


def _watch() -> int:
    """Fork a process that keeps the CPU from idling, and from waking up late, without taking it from anybody.

    Linux runs it when nothing else is to run. Where it shares a CPU among sessions first, it must be a
    session of its own and of the least weight, or what it burns would count as the sides'.
    """
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        die_with_parent(signal.SIGKILL)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.setsid()
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text("19", encoding="ascii")
        while os.getppid() == parent:
            pass
    finally:
        os._exit(0)


def _fork(plan: dict[str, Any], name: str) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        with suppress(OSError):  # the child does the same; whoever is first
            os.setpgid(child, child)
        return child
    status = 1
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        die_with_parent(signal.SIGKILL)
        if os.getppid() == parent:
            _run_side(plan, name)
            status = 0
    except BaseException:  # noqa: BLE001 - nothing may escape into the parent's stack
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _run_side(plan: dict[str, Any], name: str) -> None:
    side = plan["sides"][name]
    for other, files in plan["sides"].items():
        if other != name:
            os.close(files["read"])
            os.close(files["write"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(side["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    channel = Channel(side["read"], side["write"])
    redirect = Redirect(
        head=Path(plan["head"]),
        side=Path(side["folder"]),
        sources=plan["sources"],
        shared=SharedFiles(plan["tests"], sources=plan["sources"], overlay=plan["overlay"]),
        cache=Path(plan["cache"]),
    )
    redirect.install()
    module, _, function = plan["entry"].partition(":")
    entry: Callable[[SideContext], None] = getattr(importlib.import_module(module), function)
    with suppress(ClosedError):
        entry(SideContext(name=name, channel=channel, redirect=redirect, payload=plan["payload"]))


def _has_loaded(head: str, sources: list[str]) -> bool:
    places = tuple(os.path.realpath(Path(head) / source) for source in sources)
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return any(isinstance(file, str) and os.path.realpath(file).startswith(places) for file in files)


def _threads() -> int:
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return 1


def die_with_parent(number: int) -> None:
    """Ask Linux to send ``number`` to this process when its parent dies; elsewhere stdin tells."""
    _prctl(_PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value)


def _kill_orphans() -> None:
    """End what is left of the sides: every child of this process, and theirs as they become its own."""
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children")
    seen: set[int] = set()
    with suppress(OSError):  # a system that does not tell
        while left := {int(child) for child in children.read_text(encoding="ascii").split()} - seen:
            seen |= left
            for child in left:
                with suppress(OSError):
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
