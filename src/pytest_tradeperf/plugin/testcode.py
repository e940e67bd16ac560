"""What a test itself is made of, so that a changed test does not pass for unchanged code."""

import ast
import hashlib
import tokenize
from pathlib import Path
from typing import Final, TypeAlias

import pytest

_Parts: TypeAlias = tuple[tuple[str, str], ...]
"""Top-level statements of a test module: the name of a test or nothing, and the statement's tree."""

_PARTS = pytest.StashKey[dict[Path, _Parts]]()
_DIGITS: Final = 12
_TestNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def code_of(item: pytest.Item) -> str | None:
    """Return a digest of ``item`` and of what its module holds beside other tests.

    Comments, layout, decorators and ``pytestmark`` do not count: they change no work. None for what is no
    Python function, or has no source to read.
    """
    if not isinstance(item, pytest.Function):
        return None
    parts = item.config.stash.setdefault(_PARTS, {})
    if item.path not in parts:
        parts[item.path] = _parts(item.path)
    chain = [node for node in item.listchain() if isinstance(node, pytest.Class | pytest.Function)]
    own = chain[0].originalname if isinstance(chain[0], pytest.Function) else chain[0].name
    kept = [tree for name, tree in parts[item.path] if name in ("", own)]
    if not kept:
        return None
    return hashlib.sha256("\n".join(kept).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def _parts(path: Path) -> _Parts:
    try:
        with tokenize.open(path) as file:
            module = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return ()
    found = []
    for node in module.body:
        if _is_mark(node):
            continue
        name = node.name if isinstance(node, _TestNode) and _is_test(node) else ""
        for inner in ast.walk(node):
            if isinstance(inner, _TestNode) and _is_test(inner):
                inner.decorator_list = []
        found.append((name, ast.dump(node)))
    return tuple(found)


def _is_test(node: _TestNode) -> bool:
    """Return whether a function or a class is a test; a class is by its methods, however it is called."""
    if isinstance(node, ast.ClassDef):
        return node.name.startswith("Test") or any(
            isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name.startswith("test")
            for inner in node.body
        )
    return node.name.startswith("test")


def _is_mark(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in targets)
