"""What of a project is loaded, for layouts whose code the sources hold and such that they do not."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from repositories import write

from pytest_tradeperf.pairing.reach import Reach, reach


def loaded(root: Path, *files: str) -> dict[str, ModuleType]:
    """Return modules of files relative to ``root``, named by their path."""
    modules = {}
    for file in files:
        name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        modules[name] = ModuleType(name)
        modules[name].__file__ = str(root / file)
    return modules


def found(root: Path, *files: str, sources: tuple[str, ...] = ("src",), **more: Any) -> Reach:
    tests = more.pop("tests", ("tests/unit/test_it.py",))
    return reach(loaded(root, *files), root=root, sources=sources, tests=tests, **more)


def test_code_of_the_sources_is_inside_and_other_code_outside_by_its_outermost_name(tmp_path: Path) -> None:
    assert found(tmp_path, "src/pkg/core.py") == Reach(is_inside=True)
    assert found(tmp_path, "lib/pkg/__init__.py", "lib/pkg/core.py", "lib/pkg/a/b.py") == Reach(
        outside=("lib.pkg",)
    )
    assert found(tmp_path, "a.py", "b.py", sources=("a.py",)) == Reach(is_inside=True, outside=("b",))


def test_link_that_leads_out_of_the_sources_is_outside(tmp_path: Path) -> None:
    write(tmp_path, {"shared/common.py": "", "src/pkg/__init__.py": ""})
    (tmp_path / "src/pkg/linked.py").symlink_to("../../shared/common.py")
    assert found(tmp_path, "src/pkg/__init__.py", "src/pkg/linked.py") == Reach(
        is_inside=True, outside=("src.pkg.linked",)
    )


def test_tests_inside_the_sources_are_none_of_the_code(tmp_path: Path) -> None:
    files = ("src/pkg/tests/test_it.py", "src/pkg/tests/helper.py", "src/pkg/conftest.py")
    assert found(tmp_path, *files, tests=files[:1]) == Reach()
    assert found(tmp_path, *files, "src/pkg/stress_test.py", tests=files[:1]) == Reach(is_inside=True)


@pytest.mark.parametrize(
    ("file", "tests"),
    [
        ("tests/helpers/orders.py", ()),
        ("lib/shop/tests/builders.py", ()),
        ("checks/orders.py", ("checks/test_it.py",)),
        ("checks/helpers/orders.py", ("checks/test_it.py",)),
        ("helper.py", ("test_it.py",)),
        ("conftest.py", ()),
        ("setup.py", ()),
        ("examples/demo/desk.py", ("examples/demo/test_desk.py",)),
        (".tox/py311/lib/python3.11/site-packages/plugin.py", ()),
        ("environment/lib/python3.11/random.py", ()),
        ("build/cp311/pkg/fast.so", ()),
    ],
)
def test_tests_helpers_tools_and_environments_in_the_tree_are_not_outside(
    tmp_path: Path, file: str, tests: tuple[str, ...]
) -> None:
    prefix = str(tmp_path / "environment")
    assert found(tmp_path, "src/a.py", file, tests=tests, prefix=prefix) == Reach(is_inside=True)


def test_package_that_holds_its_own_tests_is_code(tmp_path: Path) -> None:
    write(tmp_path, {"backend/shop/__init__.py": ""})
    files = ("backend/shop/test_cart.py", "backend/shop/cart.py")
    assert found(tmp_path, *files, tests=files[:1]).outside == ("backend.shop.cart",)


def test_project_below_the_interpreters_own_folder_is_a_project(tmp_path: Path) -> None:
    assert found(tmp_path, "lib/shop.py", prefix=str(tmp_path.parent)).outside == ("lib.shop",)


def test_script_that_runs_pytest_is_no_code(tmp_path: Path) -> None:
    (script,) = loaded(tmp_path, "run.py").values()
    assert reach({"__main__": script}, root=tmp_path, sources=("run.py",), tests=()) == Reach()


def test_plugins_loaded_before_the_tests_and_modules_elsewhere_are_not_outside(tmp_path: Path) -> None:
    files = ("plugins/mine.py", "../elsewhere/editable.py")
    assert found(tmp_path, *files, tooling=("plugins.mine",)) == Reach()
    assert reach(sys.modules, root=tmp_path, sources=(), tests=()) == Reach()


def test_installed_copy_stands_for_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"src/shop/__init__.py": "", "venv/shop/cart.py": ""})
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path / "venv"))
    copy = ModuleType("shop.cart")
    copy.__file__ = str(tmp_path / "venv/shop/cart.py")
    other = ModuleType("numpy")
    other.__file__ = str(tmp_path / "venv/numpy.py")
    look = {"root": tmp_path, "sources": ("src",), "tests": ()}
    assert reach({"shop.cart": copy}, **look).is_inside  # type: ignore[arg-type]
    assert not reach({"numpy": other}, **look).is_inside  # type: ignore[arg-type]


def test_what_several_processes_loaded_is_added_up() -> None:
    both = Reach(outside=("a", "b")) | Reach(is_inside=True, outside=("b", "c"))
    assert both == Reach(is_inside=True, outside=("a", "b", "c"))
