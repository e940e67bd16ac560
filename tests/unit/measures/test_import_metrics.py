from pytest_tradeperf.measures.import_metrics import import_measurements
from pytest_tradeperf.measures.imports import ImportReport, ModuleImport
from pytest_tradeperf.model import Kind


def report(*outside: str, memory: int | None = 1000, error: str | None = None) -> ImportReport:
    loaded: dict[str, str | None] = dict.fromkeys(["shop", "shop.feeds", "_private", *outside])
    itself = ModuleImport(name="shop", error=error, wall_ns=30, cpu_ns=20, memory_bytes=memory, loaded=loaded)
    return ImportReport(package="shop", itself=itself)


def test_every_figure_has_its_metric() -> None:
    found = import_measurements(report("json", "numpy.core", "numpy"))
    values = {name: m.value for name, m in found.items() if m.metric.kind is Kind.COUNTER}
    assert values == {"wall": 30, "cpu": 20, "memory": 1000, "modules": 6, "failures": 0}
    assert found["memory"].metric.name == "import_memory:shop"
    assert found["set"].text == '{"set":["json","numpy"]}'


def test_the_set_changes_with_what_is_outside_the_package_alone() -> None:
    same = import_measurements(report("json")), import_measurements(report("json"))
    other = import_measurements(report("json", "pandas"))
    assert same[0]["set"].value == same[1]["set"].value != other["set"].value


def test_memory_the_system_does_not_tell_is_absent_and_failures_count() -> None:
    found = import_measurements(report(memory=None, error="ValueError: x"))
    assert "memory" not in found
    assert found["failures"].value == 1
