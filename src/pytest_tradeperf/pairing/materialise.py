"""The accepted code as files: a source tree written into a folder of its own, and prepared there."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pytest_tradeperf.errors import RevisionError
from pytest_tradeperf.pairing.git import ask_git, can_git, is_shallow, run_git, scratch_index
from pytest_tradeperf.pairing.trees import ABSENT, SourceTree

_SHOWN: Final = 6


def is_available(root: Path, tree: SourceTree) -> bool:
    """Return whether git still holds every part of ``tree``."""
    return all(
        object_id == ABSENT or can_git(_repository_of(root, path), "cat-file", "-e", object_id)
        for path, object_id in tree.parts
    )


def materialise(root: Path, tree: SourceTree, target: Path) -> None:
    """Write ``tree`` below ``target`` at the same paths that it has below ``root``.

    Neither the index nor the list of worktrees of the repository changes.

    Raises
    ------
    RevisionError
        A part that git no longer holds; the message names the cure.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path, object_id in tree.parts:
        if object_id == ABSENT:
            continue
        repository = _repository_of(root, path)
        if not can_git(repository, "cat-file", "-e", object_id):
            raise RevisionError(_gone(root, path, object_id))
        place = target / path
        if ask_git(repository, "cat-file", "-t", object_id) == "blob":
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(run_git(repository, "cat-file", "blob", object_id))
            continue
        place.mkdir(parents=True, exist_ok=True)
        top = Path(ask_git(repository, "rev-parse", "--show-toplevel"))
        with scratch_index(top, keep=False) as environment:
            run_git(top, "read-tree", object_id, environment=environment)
            run_git(
                top, "checkout-index", "-a", "-f", f"--prefix={place.resolve()}/", environment=environment
            )


def link_surroundings(root: Path, tree: SourceTree, target: Path, sources: Sequence[str]) -> None:
    """Give the accepted code what lies beside it: rootdir's tracked entries, linked; single files copied.

    Not the present ``sources``: a package that the accepted code did not have is none of its surroundings.

    Code that reaches for ``Path(__file__).parents[2] / "data"`` finds the present data, and
    ``perf_prepare`` finds the build files.
    """
    taken = {path.split("/", 1)[0] for path in (*sources, *(path for path, _ in tree.parts))}
    tracked = run_git(root, "ls-files", "-z", "--", ".").split(b"\0")
    for name in sorted({os.fsdecode(entry.split(b"/", 1)[0]) for entry in tracked if entry} - taken):
        source, place = root / name, target / name
        if place.exists() or not source.exists():
            continue
        if source.is_file() and not source.is_symlink():
            shutil.copyfile(source, place)
        else:
            place.symlink_to(source.resolve(), target_is_directory=source.is_dir())


def prepare(command: str, root: Path, target: Path, seconds: float) -> None:
    """Run ``perf_prepare`` in the folder of the accepted code.

    ``TRADEPERF_HEAD`` and ``TRADEPERF_BASE`` name the two folders.

    Raises
    ------
    RevisionError
        The command failed or took longer than ``seconds``; the message carries its last line.
    """
    environment = {**os.environ, "TRADEPERF_HEAD": str(root), "TRADEPERF_BASE": str(target)}
    try:
        done = subprocess.run(  # noqa: S602 - the user's own command from the user's own configuration
            command,
            shell=True,  # nosec B602
            cwd=target,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RevisionError(f"perf_prepare {command!r} took longer than {seconds:.0f} s") from error
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        raise RevisionError(f"perf_prepare {command!r} failed with exit code {done.returncode}: {said[0]}")


def generated_files(root: Path, sources: Sequence[str]) -> list[str]:
    """Return files below ``sources`` that git ignores (no byte code): what the base may be missing."""
    names = ignored_files(root, [s for s in sources if (root / s).exists()])
    return [name for name in names if "__pycache__" not in name and not name.endswith((".pyc", ".pyo"))]


def ignored_files(root: Path, files: Sequence[str]) -> list[str]:
    """Return which of ``files``, relative to ``root``, git ignores."""
    try:
        listing = run_git(root, "ls-files", "-o", "-i", "--exclude-standard", "-z", "--", *files)
    except RevisionError:
        return []
    return [os.fsdecode(name) for name in listing.split(b"\0") if name]


def describe_generated(root: Path, sources: Sequence[str]) -> str:
    """Return a clause that names generated files and the cure; empty where there are none."""
    names = generated_files(root, sources)
    if not names:
        return ""
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"git ignores {shown}: set perf_prepare to a command that makes such files in the base folder"


def _repository_of(root: Path, path: str) -> Path:
    """Return the nearest folder at or above ``path`` that exists, for git to run in."""
    folder = root / path
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _gone(root: Path, path: str, object_id: str) -> str:
    if is_shallow(root):
        cure = "this clone is shallow: `git fetch --unshallow` (in CI, `fetch-depth: 0`)"
    else:
        cure = "accept the present code with --perf-update"
    return f"the accepted {path!r} ({object_id[:12]}) is no longer in the repository; {cure}"
