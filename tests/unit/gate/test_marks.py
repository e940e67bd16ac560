"""What perf_leak and perf_imports say, and what they make of what was measured."""

import pytest

from pytest_tradeperf.errors import MarkerError
from pytest_tradeperf.gate.imports import import_rows, read_import, read_imports
from pytest_tradeperf.gate.leaks import LeakSpec, read_leak
from pytest_tradeperf.model import Kind, Measurement, Metric, Verdict


def test_no_leak_mark_is_no_search() -> None:
    assert read_leak([]) is None
    assert read_leak([((), {})]) == LeakSpec()


def test_the_nearest_leak_mark_wins_argument_by_argument() -> None:
    spec = read_leak([((), {"calls": 5}), ((), {"calls": 9, "allow": "1 KiB", "time": "2 s"})])
    assert spec == LeakSpec(calls=5, allow_bytes=1024, limit_ns=2_000_000_000)


@pytest.mark.parametrize("calls", [0, -1, True, 1.5, "9"])
def test_calls_that_are_no_count_are_refused(calls: object) -> None:
    with pytest.raises(MarkerError, match="whole number of at least 1"):
        read_leak([((), {"calls": calls})])


def test_one_import_mark_a_package_the_nearest_counts() -> None:
    first, second = read_imports([(("a",), {"modules": 3}), (("b",), {}), (("a",), {"modules": 9})])
    assert (first.package, first.limits["modules"].value) == ("a", 3)
    assert (second.package, second.limits) == ("b", {})


@pytest.mark.parametrize("arguments", [(), ("a", "b"), (3,), ("",)])
def test_a_missing_package_name_is_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(MarkerError, match="the name of one package"):
        read_import(*arguments)


@pytest.mark.parametrize("forbid", ["torch", [3], [""]])
def test_forbid_takes_a_list_of_names(forbid: object) -> None:
    with pytest.raises(MarkerError, match="write a list of module names"):
        read_import("a", forbid=forbid)


def measured(name: str, value: float, unit: str) -> dict[str, Measurement]:
    metric = Metric(name=f"import_{name}:shop", kind=Kind.COUNTER, unit=unit)
    return {name: Measurement(metric=metric, value=value)}


def test_a_limit_that_is_kept_gives_no_row_and_one_that_is_not_names_both() -> None:
    spec = read_import("shop", modules=10)
    assert import_rows(spec, "t", measured("modules", 10, "1"), forbidden=(), failures=()) == []
    (row,) = import_rows(spec, "t", measured("modules", 11, "1"), forbidden=(), failures=())
    assert row.verdict is Verdict.OVER_BUDGET
    assert row.note == "importing shop: modules 11, limit <= 10"


def test_a_limit_on_what_the_system_does_not_tell_is_undecided() -> None:
    spec = read_import("shop", memory="1 MiB")
    (row,) = import_rows(spec, "t", {}, forbidden=(), failures=())
    assert row.verdict is Verdict.UNDECIDED


def test_everything_not_allowed_is_one_row_with_all_lines() -> None:
    spec = read_import("shop")
    (row,) = import_rows(spec, "t", {}, forbidden=["torch is imported"], failures=["shop.a: ValueError: x"])
    assert row.verdict is Verdict.OVER_BUDGET
    assert row.note == "forbidden: torch is imported (and 1 more)"
    assert row.detail == ("cannot be imported: shop.a: ValueError: x",)
