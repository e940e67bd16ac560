"""Which import pulled in which: the tree that ``python -X importtime`` prints, read back."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_LINE: Final = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|( +)(\S+)\s*$")
_BEGIN: Final = "tradeperf: begin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One module: whose import asked for it first, its own time, and that with all it pulled in."""

    name: str
    parent: str | None
    self_ns: int
    total_ns: int


def read_tree(stderr: str) -> tuple[Node, ...]:
    r"""Return the modules in the order they finished; a module comes after all it pulled in.

    Examples
    --------
    >>> text = "import time: 200 | 200 |   json.scanner\nimport time: 300 | 500 | json\n"
    >>> [(node.name, node.parent, node.total_ns) for node in read_tree(text)]
    [('json.scanner', 'json', 200000), ('json', None, 500000)]
    """
    _, begun, tail = stderr.rpartition(_BEGIN)
    rows = []
    for line in (tail if begun else stderr).splitlines():
        found = _LINE.match(line)
        if found:
            rows.append((len(found[3]), found[4], int(found[1]) * 1000, int(found[2]) * 1000))
    nodes: list[Node] = []
    above: list[tuple[int, str]] = []  # (depth, name), innermost last, read from the end of the text
    for depth, name, own, total in reversed(rows):
        while above and above[-1][0] >= depth:
            above.pop()
        nodes.append(Node(name=name, parent=above[-1][1] if above else None, self_ns=own, total_ns=total))
        above.append((depth, name))
    return tuple(reversed(nodes))


def chain(nodes: Mapping[str, Node], name: str) -> tuple[str, ...]:
    """Return the modules from the first import down to ``name``, each pulled in by the one before."""
    names = [name]
    while (parent := nodes[names[-1]].parent if names[-1] in nodes else None) and parent not in names:
        names.append(parent)
    return tuple(reversed(names))


def pulled_by(nodes: Iterable[Node], package: str, floor_ns: int) -> tuple[tuple[str, str, int], ...]:
    """Return (module, importer, ns) for what ``package`` imports from outside and pays ``floor_ns`` for.

    These are where an import inside the function that needs it would help. Costliest first; only the
    first import of a module costs anything, so only that one is named.
    """
    found = [
        (node.name, node.parent, node.total_ns)
        for node in nodes
        if node.total_ns >= floor_ns
        and node.parent is not None
        and belongs(node.parent, package)
        and not belongs(node.name, package)
    ]
    return tuple(sorted(found, key=lambda entry: -entry[2]))


def belongs(name: str, package: str) -> bool:
    """Return whether ``name`` is ``package`` or inside it."""
    return name == package or name.startswith(f"{package}.")
