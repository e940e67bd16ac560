"""When and how often the heap is tracked in this session."""

from typing import Final

import pytest

from pytest_tradeperf.plugin.session import SESSION

MEMRAY_MARKERS: Final = ("limit_memory", "limit_leaks", "limit_leaked_objects")
"""Markers for which pytest-memray tracks a test without being asked to on the command line."""


def is_kept(config: pytest.Config) -> bool:
    """Return whether this session stores or judges heap figures, rather than hold them against limits."""
    session = config.stash.get(SESSION, None)
    return session is not None and session.settings.keeps_values


def other_tracker(item: pytest.Item) -> str | None:
    """Return why the heap of ``item`` cannot be tracked beside pytest-memray, None when it can."""
    config = item.config
    if not config.pluginmanager.hasplugin("memray_manager"):
        return None
    for name in MEMRAY_MARKERS:
        if item.get_closest_marker(name) is not None:
            return f"pytest-memray tracks this test for its {name} marker, and memray allows one tracker"
    try:
        is_on = config.getoption("memray", None) or config.getini("memray")
    except ValueError:  # it declares no such setting
        return None
    told = "pytest-memray tracks this session, and memray allows one tracker: run without --memray"
    return told if is_on else None
