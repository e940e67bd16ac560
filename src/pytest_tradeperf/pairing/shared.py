"""Which files below ``perf_source`` are the present ones on both sides: tests and what is theirs alone."""

import fnmatch
from collections.abc import Collection, Sequence
from typing import Final

_TEST_FOLDERS: Final = ("tests", "test")


class SharedFiles:
    """The files that no side has of its own; paths are relative to rootdir, with forward slashes.

    A name decides nothing but for conftests: ``walk_forward_test.py`` may be production code, and so may
    a folder ``test``. What counts is what pytest collected.

    Parameters
    ----------
    tests
        Files in which tests were collected.
    sources
        ``perf_source``.
    overlay
        ``perf_overlay``: glob patterns of further files.

    Examples
    --------
    >>> shared = SharedFiles(["src/shop/tests/unit/test_cart.py"], sources=["src"])
    >>> "src/shop/tests/builders.py" in shared, "src/shop/stress_test.py" in shared
    (True, False)
    """

    def __init__(
        self, tests: Collection[str], *, sources: Sequence[str], overlay: Sequence[str] = ()
    ) -> None:
        self._tests, self._overlay = frozenset(tests), tuple(overlay)
        self._folders = tuple({folder for test in tests for folder in _folders_of(test, sources)})

    def __contains__(self, path: object) -> bool:
        """Return whether ``path`` is a test file, a conftest, lies in a folder of tests, or is an overlay."""
        if not isinstance(path, str):
            return False
        if path in self._tests or path.rpartition("/")[2] == "conftest.py":
            return True
        return path.startswith(self._folders) or any(fnmatch.fnmatch(path, glob) for glob in self._overlay)


def _folders_of(test: str, sources: Sequence[str]) -> list[str]:
    """Return the outermost folder of tests around ``test``, below a source, with its slash."""
    source = next((s for s in sources if test.startswith(f"{s}/")), None)
    if source is None:
        return []
    *folders, _ = test.removeprefix(f"{source}/").split("/")
    for depth, folder in enumerate(folders):
        if folder in _TEST_FOLDERS:
            return ["/".join([source, *folders[: depth + 1]]) + "/"]
    return []
