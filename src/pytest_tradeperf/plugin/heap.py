"""When and how often the heap is tracked in this session."""

from typing import Final

import pytest

from pytest_tradeperf.plugin.session import SESSION

STORED_PASSES: Final = 3
"""Tracked passes whose smallest figures are stored or judged against stored ones."""


def passes_of(config: pytest.Config) -> int:
    """Return how many tracked passes this session makes of a test: one where only limits are judged."""
    session = config.stash.get(SESSION, None)
    return STORED_PASSES if session is not None and session.settings.has_answer else 1


def other_tracker(config: pytest.Config) -> str | None:
    """Return why the heap cannot be tracked beside pytest-memray, None when that does not track."""
    if config.pluginmanager.hasplugin("memray_manager"):
        return "pytest-memray tracks this session, and memray allows one tracker: run without --memray"
    return None
