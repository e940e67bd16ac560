"""Imports in fresh interpreters: what loads, what fails, who pulled it in."""

import sys
from pathlib import Path

import pytest

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures.import_tree import chain, pulled_by, read_tree
from pytest_tradeperf.measures.imports import Band, ImportReport, ModuleImport, difference, import_report

TREE = """import time: 10 | 10 | site
tradeperf: begin
import time:       100 |        100 |       numpy.core
some noise of the module: import time
import time:     30000 |      30100 |     numpy
import time:      5000 |      35100 |   pandas
import time:       200 |        200 |   shop.feeds
import time:       300 |      35600 | shop
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    package = tmp_path / "shop"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("import colorsys\n")
    (package / "__main__.py").write_text("raise SystemExit('a program ran')\n")
    (package / "broken.py").write_text("import not_there_at_all\n")
    (package / "quits.py").write_text("raise SystemExit(3)\n")
    (package / "dies.py").write_text("import os\nos._exit(7)\n")
    (package / "loud.py").write_text(
        "print('{}')\nimport sys\nsys.stderr.write('import time: 1 | 1 | fake\\n')\n"
    )
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "heavy.py").write_text("import decimal\nblock = bytearray(b'x') * 8_000_000\n")
    return tmp_path


def report_of(folder: Path, **options: object) -> ImportReport:
    options = {"repeats": 1, "jobs": 2, **options}
    return import_report("shop", path=[str(folder), *sys.path], **options)  # type: ignore[arg-type]


def test_every_submodule_is_imported_and_failures_are_named(shop: Path) -> None:
    report = report_of(shop)
    found = {module.name: module for module in report.all}
    assert sorted(found) == [
        "shop",
        "shop.broken",
        "shop.dies",
        "shop.inner",
        "shop.inner.heavy",
        "shop.loud",
        "shop.quits",
    ]
    assert report.skipped == ("shop.__main__",)
    assert found["shop.broken"].error == "ModuleNotFoundError: No module named 'not_there_at_all'"
    assert found["shop.quits"].error == "SystemExit: 3"
    assert "ended with code 7" in (found["shop.dies"].error or "")
    assert found["shop.broken"].band is Band.FAILED
    assert found["shop.loud"].error is None
    assert [m.name for m in report.failures] == ["shop.broken", "shop.dies", "shop.quits"]
    assert report.success_rate == pytest.approx(4 / 7)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory from /proc")
def test_retained_memory_is_the_modules_own(shop: Path) -> None:
    heavy = next(m for m in report_of(shop).submodules if m.name == "shop.inner.heavy")
    assert heavy.memory_bytes is not None
    assert 8_000_000 <= heavy.memory_bytes < 14_000_000


def test_what_is_loaded_from_outside_is_listed_by_its_top_name(shop: Path) -> None:
    report = report_of(shop, submodules=False)
    assert "colorsys" in report.itself.outside()
    assert "shop" not in report.itself.outside()
    assert report.submodules == ()


def test_a_forbidden_import_is_shown_with_the_way_to_it(shop: Path) -> None:
    heavy = next(m for m in report_of(shop).submodules if m.name == "shop.inner.heavy")
    lines = heavy.forbidden(["decimal", "torch"])
    assert len(lines) == 1
    assert lines[0].startswith("decimal is imported (shop.inner.heavy -> decimal")


def test_an_import_that_hangs_is_a_failure(shop: Path) -> None:
    (shop / "shop" / "__init__.py").write_text("while True:\n    pass\n")
    report = report_of(shop, submodules=False, timeout_s=0.5)
    assert report.itself.error == "took longer than 0.5 s"


def test_nothing_is_imported_into_this_process(shop: Path) -> None:
    report_of(shop)
    assert not any(name == "shop" or name.startswith("shop.") for name in sys.modules)


@pytest.mark.parametrize("name", ["no_such_package", "shop.no_such", "", "a..b", "../x"])
def test_a_name_that_is_nowhere_is_one_clear_message(shop: Path, name: str) -> None:
    with pytest.raises(MeasureError, match="there is no module"):
        import_report(name, path=[str(shop)])


def test_the_tree_is_read_back_from_its_indentation() -> None:
    nodes = {node.name: node for node in read_tree(TREE)}
    assert set(nodes) == {"numpy.core", "numpy", "pandas", "shop.feeds", "shop"}
    assert nodes["numpy"].parent == "pandas"
    assert nodes["shop"].parent is None
    assert nodes["pandas"].total_ns == 35_100_000
    assert chain(nodes, "numpy.core") == ("shop", "pandas", "numpy", "numpy.core")


def test_lazy_candidates_are_what_the_package_itself_pulls_in() -> None:
    nodes = read_tree(TREE)
    assert pulled_by(nodes, "shop", 20_000_000) == (("pandas", "shop", 35_100_000),)
    assert pulled_by(nodes, "shop", 40_000_000) == ()


def module(name: str, **fields: object) -> ModuleImport:
    base: dict[str, object] = {"error": None, "wall_ns": 1, "cpu_ns": 1, "memory_bytes": 0, "loaded": {}}
    return ModuleImport(name=name, **(base | fields))  # type: ignore[arg-type]


def test_third_party_share_counts_installed_packages_only() -> None:
    loaded = {
        "pandas": "/v/site-packages/pandas/__init__.py",
        "numpy": "/v/site-packages/numpy/__init__.py",
        "shop": "/p/shop.py",
    }
    report = ImportReport(package="shop", itself=module("shop", loaded=loaded, tree=read_tree(TREE)))
    assert report.third_party_share == pytest.approx(35000 / 35600)
    assert [c[0] for c in report.lazy_candidates] == ["pandas"]


@pytest.mark.parametrize(
    ("wall_ms", "cpu_ms", "band"),
    [
        (99, 99, Band.FAST),
        (300, 90, Band.FAST),
        (101, 101, Band.ACCEPTABLE),
        (501, 501, Band.SLOW),
        (900, 20, Band.SLOW),
    ],
)
def test_bands_follow_cpu_time_unless_the_import_waits(wall_ms: int, cpu_ms: int, band: Band) -> None:
    assert module("m", wall_ns=wall_ms * 10**6, cpu_ns=cpu_ms * 10**6).band is band


def test_difference_names_what_came_and_went() -> None:
    assert difference(["json", "os"], ["os", "pandas", "numpy"]) == "+numpy, +pandas, -json"
    assert difference(["os"], ["os"]) == ""
