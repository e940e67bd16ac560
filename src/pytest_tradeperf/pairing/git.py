"""Git, called so that it neither asks, nor follows a hook's environment, nor touches the user's index."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pytest_tradeperf.errors import RevisionError

_SECONDS: Final = 120.0

# What `git rev-parse --local-env-vars` lists: set inside hooks, they would redirect every call below.
_LOCAL: Final = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)


def run_git(
    folder: Path, *arguments: str, stdin: bytes | None = None, environment: Mapping[str, str] | None = None
) -> bytes:
    """Return what git prints when run in ``folder``.

    Raises
    ------
    RevisionError
        Git is not installed, took over two minutes, or failed; the message carries git's own last line.
    """
    env = {name: value for name, value in os.environ.items() if name not in _LOCAL}
    env |= {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", **(environment or {})}
    command = ["git", "-c", "core.fsmonitor=false", "-c", "advice.addEmbeddedRepo=false", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=env,
            input=stdin or b"",
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise RevisionError(f"the folder {str(folder)!r} does not exist") from error
        raise RevisionError(
            "git is not on PATH, so the accepted code cannot be had: install git to compare timings in pairs"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RevisionError(f"git {arguments[0]} could not run in {str(folder)!r}: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        if any("not a git repository" in line for line in said):
            raise RevisionError(
                f"{str(folder)!r} is not inside a git repository, so no accepted code can be had to measure"
            )
        why = said[-1] if said else f"exit code {done.returncode}"
        if any("dubious ownership" in line for line in said):
            why = "the repository belongs to another user; `git config --global --add safe.directory DIR`"
        raise RevisionError(f"git {arguments[0]} failed in {str(folder)!r}: {why}")
    return done.stdout


def ask_git(folder: Path, *arguments: str) -> str:
    """Return what git prints, as text without the newline at its end."""
    return os.fsdecode(run_git(folder, *arguments)).removesuffix("\n")


def can_git(folder: Path, *arguments: str) -> bool:
    """Return whether the command succeeds."""
    try:
        run_git(folder, *arguments)
    except RevisionError:
        return False
    return True


def is_shallow(folder: Path) -> bool:
    """Return whether history was cut off when this repository was cloned."""
    try:
        return ask_git(folder, "rev-parse", "--is-shallow-repository") == "true"
    except RevisionError:
        return False


@contextmanager
def scratch_index(folder: Path, *, keep: bool) -> Iterator[dict[str, str]]:
    """Give the environment in which git uses an index of its own, removed afterwards.

    New objects go to the repository with ``keep``, else (and where the repository is read-only)
    to a folder removed as well.
    """
    with tempfile.TemporaryDirectory(prefix="tradeperf-git-") as scratch:
        environment = {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
        objects = Path(folder, ask_git(folder, "rev-parse", "--git-path", "objects")).resolve()
        if not keep or not os.access(objects, os.W_OK):
            own = Path(scratch, "objects")
            own.mkdir()
            environment |= {
                "GIT_OBJECT_DIRECTORY": str(own),
                # Quoted, or a colon in the path would split it.
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": '"'
                + str(objects).replace("\\", r"\\").replace('"', r"\"")
                + '"',
            }
        yield environment
