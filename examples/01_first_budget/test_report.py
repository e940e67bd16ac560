import pytest


def slow_report(rows: int) -> int:
    return sum(i * i % 7 for i in range(rows))


@pytest.mark.perf_budget(wall="30 s")
def test_report_is_quick_enough():
    assert slow_report(10_000) > 0


@pytest.mark.perf_budget(wall="50 ms")
def test_each_call_is_quick_enough(perf):
    assert perf(slow_report, 10_000) > 0
