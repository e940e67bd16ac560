from __future__ import annotations

import pytest

from pytest_tradeperf.pipeline.backtest import compiled


@pytest.fixture(autouse=True)
def _kernel_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the default engine be what it is in a fresh process, whatever the tests before loaded."""
    monkeypatch.setattr(compiled, "is_loaded", lambda: False)
