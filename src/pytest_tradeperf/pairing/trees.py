"""Which code it was: content ids of ``perf_source``, now, at acceptance and at a revision."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote, unquote

from pytest_tradeperf.errors import RevisionError, SettingsError
from pytest_tradeperf.pairing.git import ask_git, can_git, is_shallow, run_git, scratch_index

ABSENT: Final = "-"
"""Stands for a source that did not exist."""

_OBJECT_ID: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SUBMODULE: Final = b"160000"
NOT_SOURCE: Final = {
    "tests",
    "test",
    "docs",
    "doc",
    "examples",
    "benchmarks",
    "perf-baselines",
    "build",
    "dist",
}
"""Top-level folders that do not hold the code under test."""

_TOOLS: Final = frozenset({"conftest.py", "noxfile.py", "setup.py"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """What ``perf_source`` held: (path, git object id) of each source and of each submodule below one.

    Paths are relative to rootdir with forward slashes. As text: ``src:4b825dc6...``, several parts
    separated by a space. Git finds a part as long as any commit holds that very folder, so neither
    a rebase nor a squash loses it.
    """

    parts: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return " ".join(f"{quote(path)}:{object_id}" for path, object_id in self.parts)

    def holds(self, source: str) -> bool:
        """Return whether ``source`` is one of the parts, or lies below one."""
        return any(source == path or source.startswith(f"{path}/") for path, _ in self.parts)

    @classmethod
    def parse(cls, text: str) -> "SourceTree":
        """Return the tree a baseline line names.

        Raises
        ------
        RevisionError
            Text that is not a list of ``path:id``.
        """
        parts = []
        for part in text.split():
            path, colon, object_id = part.rpartition(":")
            is_known = object_id == ABSENT or _OBJECT_ID.fullmatch(object_id)
            inner = PurePosixPath(unquote(path))
            if not (colon and path and is_known) or inner.is_absolute() or ".." in inner.parts:
                raise RevisionError(f"cannot read {text!r} as a source tree: expected 'path:id'")
            parts.append((unquote(path), object_id))
        if not parts:
            raise RevisionError("the stored line names no source tree: accept it again with --perf-update")
        return cls(parts=tuple(parts))


def default_sources(root: Path) -> tuple[str, ...]:
    """Return ``("src",)`` where it exists, else the importable top-level packages and modules of ``root``."""
    if (root / "src").is_dir():
        return ("src",)
    found = []
    for entry in sorted(root.iterdir()):
        name = entry.name
        if name in NOT_SOURCE or not entry.stem.isidentifier():
            continue
        is_module = name.endswith(".py") and not is_tool_or_test(name)
        if is_module or (entry / "__init__.py").is_file():
            found.append(name)
    return tuple(found)


def is_tool_or_test(name: str) -> bool:
    """Return whether a file beside the code is none of it, by its name."""
    return name.startswith("test_") or name.endswith("_test.py") or name in _TOOLS


def resolve_sources(root: Path, configured: Sequence[str] = ()) -> tuple[str, ...]:
    """Return ``perf_source`` as sorted paths below ``root`` with forward slashes.

    Nothing configured, or ``"."``, means ``default_sources``.

    Raises
    ------
    SettingsError
        A path that leaves ``root`` or does not exist, or nothing found.
    """
    sources: set[str] = set()
    for text in configured or (".",):
        path = (root / text).resolve()
        if path == root.resolve():
            sources.update(default_sources(root))
            continue
        if not path.is_relative_to(root.resolve()):
            raise SettingsError(
                f"perf_source {text!r} is outside rootdir {str(root)!r}: name a path below it"
            )
        if not path.exists():
            raise SettingsError(f"perf_source {text!r} does not exist below rootdir {str(root)!r}")
        sources.add(path.relative_to(root.resolve()).as_posix())
    if not sources:
        raise SettingsError(
            f"no package or module found in rootdir {str(root)!r}: set perf_source to the folder of your code"
        )
    return tuple(sorted(s for s in sources if not any(s.startswith(f"{other}/") for other in sources)))


def source_tree_id(root: Path, sources: Sequence[str], *, keep: bool = False) -> str:
    """Return the text of the ``SourceTree`` of the working tree, uncommitted changes included.

    The user's index is not touched. With ``keep`` the objects are left in the repository, so that the
    tree can be had again until git collects garbage; acceptance wants that, comparison does not.
    Files that git ignores are no part of it. About 20 ms a source.

    Raises
    ------
    RevisionError
        No git, not a repository, or nothing below ``sources`` that git would track.
    """
    parts: list[tuple[str, str]] = []
    for source in sources:
        parts += _working_parts(root, source, keep=keep)
    if all(object_id == ABSENT for _, object_id in parts):
        raise RevisionError(
            f"git tracks nothing below {', '.join(map(repr, sources))}: is it ignored, or empty?"
        )
    return str(SourceTree(parts=tuple(parts)))


def _working_parts(root: Path, source: str, *, keep: bool) -> Iterator[tuple[str, str]]:
    path = root / source
    if not path.exists():
        yield source, ABSENT
        return
    folder, spec = (path, ".") if path.is_dir() else (path.parent, path.name)
    with scratch_index(folder, keep=keep) as env:
        # Starting from what is tracked keeps files that are both tracked and ignored.
        tracked = run_git(folder, "ls-files", "-s", "-z", "--full-name", "--", spec)
        if tracked:
            run_git(folder, "update-index", "-z", "--index-info", stdin=tracked, environment=env)
            run_git(folder, "add", "-u", "--", spec, environment=env)
        others = run_git(folder, "ls-files", "-o", "-z", "--exclude-standard", "--", spec, environment=env)
        files = b"\0".join(name for name in others.split(b"\0") if not name.endswith(b"/"))
        run_git(folder, "update-index", "--add", "-z", "--stdin", stdin=files, environment=env)
        entries = [
            e for e in run_git(folder, "ls-files", "-s", "-z", "--", spec, environment=env).split(b"\0") if e
        ]
        if not entries:
            yield source, ABSENT
        elif path.is_dir():
            prefix = ask_git(folder, "rev-parse", "--show-prefix")
            where = (f"--prefix={prefix}",) if prefix else ()
            yield source, run_git(folder, "write-tree", *where, environment=env).decode().strip()
        else:
            yield source, entries[0].split()[1].decode()
    for entry in entries:
        mode, _, name = entry.partition(b"\t")
        below = f"{source}/{name.decode(errors='surrogateescape')}"
        if mode.startswith(_SUBMODULE) and (root / below / ".git").exists():
            yield from _working_parts(root, below, keep=keep)


def resolve_revision(root: Path, revision: str) -> str:
    """Return the full id of the commit that ``revision`` names.

    Raises
    ------
    RevisionError
        Unknown, ambiguous, or beginning with a dash; a shallow clone is named with its cure.
    """
    if not revision or revision.startswith("-"):
        raise RevisionError(f"{revision!r} is not a revision: name a branch, a tag or a commit")
    ask_git(root, "rev-parse", "--git-dir")  # so that "not a repository" is said before "unknown revision"
    try:
        return ask_git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except RevisionError as error:
        cure = (
            "this clone is shallow: fetch the rest with `git fetch --unshallow` (in CI, `fetch-depth: 0`)"
            if is_shallow(root)
            else "`git branch -a` and `git tag` list what there is"
        )
        raise RevisionError(f"git knows no revision {revision!r} here; {cure}") from error


def revision_tree(root: Path, revision: str, sources: Sequence[str]) -> SourceTree:
    """Return what ``sources`` held at ``revision``.

    Raises
    ------
    RevisionError
        As ``resolve_revision``; or none of the sources existed then.
    """
    commit = resolve_revision(root, revision)
    prefix = ask_git(root, "rev-parse", "--show-prefix")
    parts: list[tuple[str, str]] = []
    for source in sources:
        parts += _committed_parts(root, root, commit, prefix, source)
    if all(object_id == ABSENT for _, object_id in parts):
        raise RevisionError(
            f"none of {', '.join(map(repr, sources))} exists at {revision!r}: set perf_source"
        )
    return SourceTree(parts=tuple(parts))


def _committed_parts(
    root: Path, repository: Path, commit: str, prefix: str, source: str
) -> Iterator[tuple[str, str]]:
    """Yield the parts of ``source``; ``prefix`` leads from the top of ``repository`` to its path."""
    inner = (root / source).relative_to(repository).as_posix()
    steps = PurePosixPath(inner).parts if inner != "." else ()
    for depth in range(len(steps)):
        name = "/".join(steps[: depth + 1])
        listing = run_git(repository, "ls-tree", "-z", "--full-tree", commit, "--", prefix + name)
        if not listing:
            break
        mode, kind, object_id = listing.partition(b"\t")[0].decode().split()
        if mode.encode() == _SUBMODULE:
            yield from _submodule_parts(root, repository / name, object_id, source)
            return
        if depth == len(steps) - 1:
            yield source, object_id
            if kind == "tree":
                yield from _links_below(root, repository, object_id, source)
            return
    if not steps:
        tree = ask_git(repository, "rev-parse", f"{commit}^{{tree}}")
        yield source, tree
        yield from _links_below(root, repository, tree, source)
        return
    yield source, ABSENT


def _links_below(root: Path, repository: Path, tree: str, source: str) -> Iterator[tuple[str, str]]:
    for entry in run_git(repository, "ls-tree", "-r", "-z", "--full-tree", tree).split(b"\0"):
        if entry.startswith(_SUBMODULE):
            mode, _, name = entry.partition(b"\t")
            below = f"{source}/{name.decode(errors='surrogateescape')}"
            if (root / below / ".git").exists():
                yield from _submodule_parts(root, root / below, mode.split()[2].decode(), below)


def _submodule_parts(root: Path, repository: Path, commit: str, source: str) -> Iterator[tuple[str, str]]:
    if not (repository / ".git").exists() or not can_git(
        repository, "cat-file", "-e", f"{commit}^{{commit}}"
    ):
        raise RevisionError(
            f"the submodule at {str(repository)!r} does not hold the commit {commit[:12]}: "
            "run `git submodule update --init --recursive` and fetch in it"
        )
    yield from _committed_parts(root, repository, commit, "", source)


def stand_in_commit(root: Path, tree: str, baseline: Path) -> str | None:
    """Return the oldest commit whose ``baseline`` file names ``tree``; None where history does not show one.

    For a tree that git no longer holds: accepted with uncommitted changes, which were then changed
    again before the commit. In a shallow clone the oldest commit there is stands for all that was
    cut off, so it is no answer.
    """
    try:
        found = ask_git(root, "log", "--reverse", "--format=%H", f"-S{tree}", "--", str(baseline)).split()
        boundary = ask_git(root, "rev-list", "--max-parents=0", "HEAD").split() if is_shallow(root) else []
    except RevisionError:
        return None
    return found[0] if found and found[0] not in boundary else None
