"""The finder in fresh interpreters: every way a project's modules can be found today."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from repositories import write

SCRIPT = """
import importlib, json, sys
from pathlib import Path
from pytest_tradeperf.pairing.redirect import Redirect
from pytest_tradeperf.pairing.shared import SharedFiles
plan = json.loads(sys.argv[1])
sys.dont_write_bytecode = True
sys.path[:0] = plan["path"]
exec(plan["before"])
redirect = Redirect(head=Path(plan["head"]), side=Path(plan["side"]), sources=plan["sources"],
                    shared=SharedFiles(plan["tests"], sources=plan["sources"], overlay=plan["overlay"]), cache=Path(plan["cache"]))
redirect.install()
found = {}
for name in plan["names"]:
    try:
        found[name] = getattr(importlib.import_module(name), "WHO", None)
    except ImportError as error:
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps([found, *redirect.loaded(), redirect.absent]))
"""


class Sides:
    def __init__(self, tmp_path: Path) -> None:
        self.head, self.base = tmp_path / "project", tmp_path / "pairs" / "base"
        self.link, self.cache = tmp_path / "pairs" / "head", tmp_path / "cache"
        accepted = tmp_path / "pairs" / "accepted"
        for folder in (self.head, accepted, self.cache):
            folder.mkdir(parents=True)
        self.base.symlink_to(accepted, target_is_directory=True)
        self.link.symlink_to(self.head, target_is_directory=True)

    def both(self, *names: str, text: str = "") -> None:
        for folder, who in ((self.head, "head"), (self.base, "base")):
            write(folder, dict.fromkeys(names, f"WHO = {who!r}\n{text}"))

    def load(
        self,
        *names: str,
        side: str = "base",
        sources: tuple[str, ...] = ("src",),
        path: str = "src",
        before: str = "",
        overlay: tuple[str, ...] = (),
        tests: tuple[str, ...] = (),
    ) -> tuple[dict[str, Any], list[str], list[str], dict[str, str]]:
        plan = {
            "path": [str(self.head / path)] if path is not None else [],
            "head": str(self.head),
            "side": str(self.base if side == "base" else self.link),
            "sources": sources,
            "overlay": overlay,
            "tests": tests,
            "cache": str(self.cache),
            "names": names,
            "before": before,
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(plan)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found, right, wrong, absent = json.loads(done.stdout)
        return found, right, wrong, absent


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    return Sides(tmp_path)


@pytest.mark.parametrize("side", ["base", "head"])
def test_src_layout_gives_each_side_its_code(sides: Sides, side: str) -> None:
    sides.both("src/pkg/__init__.py", "src/pkg/sub/__init__.py", "src/pkg/sub/deep.py", "src/single.py")
    names = ("pkg", "pkg.sub.deep", "single")
    found, right, wrong, _ = sides.load(*names, side=side)
    assert found == dict.fromkeys(names, side)
    assert right == ["pkg", "pkg.sub", "pkg.sub.deep", "single"]
    assert wrong == []


def test_flat_layout_moves_packages_and_single_modules_alone(sides: Sides) -> None:
    sides.both("pkg/__init__.py", "mod.py", "helper.py")
    found, *_ = sides.load("pkg", "mod", "helper", sources=("pkg", "mod.py"), path=".")
    assert found == {"pkg": "base", "mod": "base", "helper": "head"}


def test_sub_package_alone_is_moved(sides: Sides) -> None:
    sides.both("src/pkg/__init__.py", "src/pkg/core.py", "src/pkg/part/__init__.py", "src/pkg/part/a.py")
    names = ("pkg", "pkg.core", "pkg.part", "pkg.part.a")
    found, *_ = sides.load(*names, sources=("src/pkg/part",))
    assert found == {"pkg": "head", "pkg.core": "head", "pkg.part": "base", "pkg.part.a": "base"}


def test_namespace_package_keeps_portions_from_elsewhere(sides: Sides, tmp_path: Path) -> None:
    sides.both("src/ns/mine/__init__.py")
    write(tmp_path / "elsewhere", {"ns/other/__init__.py": "WHO = 'other'\n"})
    before = f"sys.path.append({str(tmp_path / 'elsewhere')!r})"
    found, *_ = sides.load("ns.mine", "ns.other", before=before)
    assert found == {"ns.mine": "base", "ns.other": "other"}


SETUPTOOLS = """
from importlib.machinery import PathFinder
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        parent, _, child = name.rpartition(".")
        if name == "pkg":
            return PathFinder.find_spec(name, [{src!r}])
        return PathFinder.find_spec(name, [{src!r} + "/pkg"]) if parent == "pkg" else None
sys.meta_path.{how}
"""


@pytest.mark.parametrize("how", ["append(Finder)", "insert(0, Finder)"], ids=["setuptools", "meson-python"])
def test_finder_of_an_editable_install_does_not_reach_round(sides: Sides, how: str) -> None:
    sides.both("src/pkg/__init__.py", "src/pkg/a.py")
    write(sides.head, {"src/pkg/new.py": "WHO = 'head'\n"})
    before = SETUPTOOLS.format(src=str(sides.head / "src"), how=how)
    found, _, wrong, absent = sides.load("pkg", "pkg.a", "pkg.new", path="nowhere", before=before)
    assert (found["pkg"], found["pkg.a"]) == ("base", "base")
    assert found["pkg.new"] == "ModuleNotFoundError: No module named 'pkg.new'"
    assert wrong == []
    assert absent == {"pkg.new": "src/pkg/new.py"}


@pytest.mark.parametrize("side", ["base", "head"])
def test_installed_copy_of_the_project_stands_for_its_source(sides: Sides, tmp_path: Path, side: str) -> None:
    sides.both("src/pkg/__init__.py", "src/pkg/a.py", "src/pkg/part/__init__.py")
    library = tmp_path / "site-packages"
    write(
        library,
        {f"pkg/{name}": "WHO = 'installed'\n" for name in ("__init__.py", "a.py", "part/__init__.py")},
    )
    before = f"sys.path.append({str(library)!r}); import sysconfig; sysconfig.get_path = lambda _: {str(library)!r}"
    found, *_ = sides.load("pkg", "pkg.a", path="nowhere", before=before, side=side)
    assert found == {"pkg": side, "pkg.a": side}
    found, *_ = sides.load(
        "pkg", "pkg.part", path="nowhere", before=before, side=side, sources=("src/pkg/part",)
    )
    assert found == {"pkg": "installed", "pkg.part": side}


def test_module_built_into_a_build_folder_is_refused_with_the_cure(sides: Sides) -> None:
    sides.both("src/pkg/__init__.py")
    write(sides.head, {"build/pkg/fast.py": "WHO = 'head'\n"})
    before = (
        SETUPTOOLS.format(src=str(sides.head / "src"), how="append(Finder)")
        .replace("[{!r}]", "")
        .replace(f'[{str(sides.head / "src")!r} + "/pkg"]', f"[{str(sides.head / 'build/pkg')!r}]")
    )
    found, *_ = sides.load("pkg.fast", path="nowhere", before=before)
    assert "set perf_prepare to build it there" in found["pkg.fast"]


@pytest.mark.parametrize("side", ["base", "head"])
def test_link_in_the_sources_that_leads_out_of_them_is_followed_on_both_sides(
    sides: Sides, side: str
) -> None:
    sides.both("src/pkg/__init__.py")
    write(sides.head, {"shared/common.py": "WHO = 'both'\n"})
    for folder in (sides.head, sides.base):
        (folder / "src/pkg/linked.py").symlink_to("../../shared/common.py")
    (sides.base / "shared").symlink_to(sides.head / "shared", target_is_directory=True)
    assert sides.load("pkg.linked", side=side)[0] == {"pkg.linked": "both"}


def test_module_that_became_a_package_or_went_away_is_found_in_the_base(sides: Sides) -> None:
    write(sides.head, {"src/grown/__init__.py": "WHO = 'head'\n", "src/pkg/__init__.py": "WHO = 'head'\n"})
    write(
        sides.base,
        {
            "src/grown.py": "WHO = 'base'\n",
            "src/old.py": "WHO = 'base'\n",
            "src/pkg/__init__.py": "",
            "src/pkg/gone.py": "WHO = 'base'\n",
        },
    )
    found, *_ = sides.load("grown", "old", "pkg.gone")
    assert found == dict.fromkeys(("grown", "old", "pkg.gone"), "base")


def test_optional_import_of_a_module_the_base_lacks_stays_optional(sides: Sides) -> None:
    sides.both(
        "src/pkg/__init__.py",
        text="try:\n    from pkg import extra\nexcept ImportError:\n    WHO += ' without'\n",
    )
    write(sides.head, {"src/pkg/extra.py": ""})
    found, _, _, absent = sides.load("pkg")
    assert found == {"pkg": "base without"}
    assert absent == {"pkg.extra": "src/pkg/extra.py"}
    assert sides.load("pkg", side="head")[0] == {"pkg": "head"}


def test_tests_inside_the_sources_and_overlays_are_the_present_ones(sides: Sides) -> None:
    sides.both(
        "src/pkg/__init__.py", "src/pkg/tests/__init__.py", "src/pkg/tests/helper.py", "src/pkg/data.py"
    )
    write(sides.head, {"src/pkg/tests/new.py": "WHO = 'head'\n", "src/pkg/test_core.py": "WHO = 'head'\n"})
    names = ("pkg", "pkg.tests", "pkg.tests.helper", "pkg.tests.new", "pkg.data", "pkg.test_core")
    tests = ("src/pkg/tests/unit/test_it.py", "src/pkg/test_core.py")
    found, _, wrong, _ = sides.load(*names, overlay=("src/pkg/data.py",), tests=tests)
    assert found == {"pkg": "base"} | dict.fromkeys(names[1:], "head")
    assert wrong == []


@pytest.mark.parametrize("side", ["base", "head"])
def test_code_that_is_only_called_like_a_test_is_each_sides_own(sides: Sides, side: str) -> None:
    names = ("src/pkg/__init__.py", "src/pkg/test/__init__.py", "src/pkg/test/stress.py")
    sides.both(*names, "src/pkg/walk_forward_test.py", "src/pkg/test_plan.py", "src/pkg/tests/__init__.py")
    names = ("pkg", "pkg.test.stress", "pkg.walk_forward_test", "pkg.test_plan")
    found, right, *_ = sides.load(*names, "pkg.tests", tests=("src/pkg/tests/test_it.py",), side=side)
    assert found == {**dict.fromkeys(names, side), "pkg.tests": "head"}
    assert "pkg.walk_forward_test" in right
    assert "pkg.tests" not in right


def test_wrongly_loaded_code_is_named(sides: Sides) -> None:
    sides.both("src/pkg/__init__.py")
    before = "import importlib.util; spec = importlib.util.spec_from_file_location('pkg', {!r}); module = importlib.util.module_from_spec(spec); sys.modules['pkg'] = module".format(
        str(sides.head / "src/pkg/__init__.py")
    )
    assert sides.load(before=before)[1:3] == ([], ["pkg"])


def test_both_sides_have_paths_of_one_length(sides: Sides) -> None:
    sides.both("src/pkg/__init__.py", text="WHO = len(__file__)\n")
    assert sides.load("pkg", side="base")[0] == sides.load("pkg", side="head")[0]


def test_library_outside_the_project_is_left_alone(sides: Sides) -> None:
    sides.both("src/pkg/__init__.py")
    found, right, *_ = sides.load("json", "xml.dom")
    assert found == {"json": None, "xml.dom": None}
    assert right == []
