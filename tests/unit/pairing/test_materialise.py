from pathlib import Path

import pytest
from repositories import commit, git, repository, write

from pytest_tradeperf.errors import RevisionError
from pytest_tradeperf.pairing.materialise import (
    describe_generated,
    is_available,
    link_surroundings,
    materialise,
    prepare,
)
from pytest_tradeperf.pairing.trees import SourceTree, revision_tree, source_tree_id

FILES = {
    "src/pkg/__init__.py": "x = 1\n",
    "src/pkg/data/ü ñ.txt": "text\n",
    "mod.py": "m = 1\n",
    "data/prices.csv": "1\n",
    "setup.py": "",
    ".gitignore": "_version.py\n*.so\n",
}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "with space", FILES)


def test_tree_of_a_revision_becomes_files_and_git_notices_nothing(repo: Path, tmp_path: Path) -> None:
    tree = revision_tree(repo, "HEAD", ["mod.py", "src"])
    commit(repo, {"src/pkg/__init__.py": "x = 2\n", "mod.py": "m = 2\n"})
    materialise(repo, tree, tmp_path / "base")
    assert (tmp_path / "base/src/pkg/__init__.py").read_text() == "x = 1\n"
    assert (tmp_path / "base/src/pkg/data/ü ñ.txt").read_text() == "text\n"
    assert (tmp_path / "base/mod.py").read_text() == "m = 1\n"
    assert git(repo, "worktree", "list").count("\n") == 0
    assert git(repo, "status", "--short") == ""


def test_uncommitted_tree_is_there_when_its_objects_were_kept(repo: Path, tmp_path: Path) -> None:
    write(repo, {"src/pkg/__init__.py": "x = 3\n"})
    lost = SourceTree.parse(source_tree_id(repo, ["src"]))
    assert not is_available(repo, lost)
    kept = SourceTree.parse(source_tree_id(repo, ["src"], keep=True))
    assert is_available(repo, kept)
    materialise(repo, kept, tmp_path / "base")
    assert (tmp_path / "base/src/pkg/__init__.py").read_text() == "x = 3\n"


def test_submodule_is_materialised_too(tmp_path: Path) -> None:
    library = repository(tmp_path / "library", {"lib.py": "a = 1\n"})
    top = repository(tmp_path / "top", {"src/pkg/__init__.py": ""})
    git(top, "submodule", "-q", "add", str(library), "src/vendor")
    commit(top)
    materialise(top, revision_tree(top, "HEAD", ["src"]), tmp_path / "base")
    assert (tmp_path / "base/src/vendor/lib.py").read_text() == "a = 1\n"


def test_tree_that_git_lost_names_the_cure(repo: Path, tmp_path: Path) -> None:
    tree = SourceTree(parts=(("src", "a" * 40),))
    with pytest.raises(
        RevisionError, match="no longer in the repository; accept the present code with --perf-update"
    ):
        materialise(repo, tree, tmp_path / "base")
    commit(repo, {"mod.py": "m = 2\n"})
    git(tmp_path, "clone", "-q", "--depth", "1", repo.as_uri(), "shallow")
    with pytest.raises(RevisionError, match="fetch-depth: 0"):
        materialise(tmp_path / "shallow", tree, tmp_path / "base")


def test_surroundings_are_within_reach_but_files_are_copies(repo: Path, tmp_path: Path) -> None:
    tree = revision_tree(repo, "HEAD", ["src"])
    base = tmp_path / "base"
    materialise(repo, tree, base)
    link_surroundings(repo, tree, base, ["mod.py", "src"])
    assert (base / "data/prices.csv").read_text() == "1\n"
    (base / "setup.py").write_text("changed")
    assert (repo / "setup.py").read_text() == ""


def test_prepare_runs_in_the_base_and_knows_both_folders(repo: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    prepare('echo "$TRADEPERF_BASE $TRADEPERF_HEAD" > made', repo, base, 10)
    assert (base / "made").read_text().strip() == f"{base} {repo}"


@pytest.mark.parametrize(
    ("command", "seconds", "said"),
    [("echo oops; exit 3", 10, "failed with exit code 3: oops"), ("sleep 5", 0.05, "took longer than 0 s")],
)
def test_failing_prepare_is_named(tmp_path: Path, command: str, seconds: float, said: str) -> None:
    with pytest.raises(RevisionError, match=said):
        prepare(command, tmp_path, tmp_path, seconds)


def test_generated_files_are_named_with_the_cure(repo: Path) -> None:
    assert describe_generated(repo, ["src"]) == ""
    write(repo, {"src/pkg/_version.py": "", "src/pkg/fast.so": "", "src/pkg/__pycache__/x.so": ""})
    said = describe_generated(repo, ["src"])
    assert said.startswith("git ignores src/pkg/_version.py, src/pkg/fast.so: set perf_prepare")


def test_package_that_came_later_is_no_surrounding_of_the_accepted_code(repo: Path, tmp_path: Path) -> None:
    tree = revision_tree(repo, "HEAD", ["mod.py"])
    commit(repo, {"later/__init__.py": "x = 1\n"})
    link_surroundings(repo, tree, tmp_path, ["later", "mod.py"])
    assert not (tmp_path / "later").exists()
    assert (tmp_path / "data/prices.csv").exists()
