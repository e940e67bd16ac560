"""The stage tree of one test as lines of text."""

from pytest_tradeperf.units import format_duration


def describe_stages(stages: tuple[tuple[str, int, int], ...]) -> list[str]:
    """Return the stage tree as aligned lines, each with its share of all top-level stages."""
    if not stages:
        return []
    walls = {path: wall for path, _, wall in stages}
    total = sum(wall for path, wall in walls.items() if "/" not in path) or 1
    width = max(2 * path.count("/") + len(path.rsplit("/", 1)[-1]) for path in walls)
    lines = []
    for path, calls, wall in sorted(stages, key=lambda s: _tree_order(s[0], list(walls))):
        label = "  " * path.count("/") + path.rsplit("/", 1)[-1]
        times = f" x{calls}" if calls != 1 else ""
        lines.append(f"{label:<{width}}  {format_duration(wall):>9}  {100 * wall / total:3.0f} %{times}")
    return lines


def _tree_order(path: str, order: list[str]) -> list[int]:
    """Sort a child after its parent and siblings as they began."""
    parts = path.split("/")
    return [order.index("/".join(parts[: i + 1])) for i in range(len(parts))]
