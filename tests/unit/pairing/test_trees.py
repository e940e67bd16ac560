from pathlib import Path

import pytest
from repositories import commit, git, repository, write

from pytest_tradeperf.errors import RevisionError, SettingsError
from pytest_tradeperf.pairing.trees import (
    SourceTree,
    default_sources,
    resolve_revision,
    resolve_sources,
    revision_tree,
    source_tree_id,
    stand_in_commit,
)

FILES = {"src/pkg/__init__.py": "x = 1\n", "tests/test_a.py": "", ".gitignore": "_version.py\n"}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "höme with space" / "repo", FILES)


def test_clean_tree_has_the_id_git_gives_the_folder(repo: Path) -> None:
    assert source_tree_id(repo, ["src"]) == f"src:{git(repo, 'rev-parse', 'HEAD:src')}"


def test_uncommitted_edit_changes_the_id_and_leaves_the_index_alone(repo: Path) -> None:
    before = source_tree_id(repo, ["src"])
    write(repo, {"src/pkg/__init__.py": "x = 2\n", "src/pkg/new.py": ""})
    index = (repo / ".git/index").read_bytes()
    edited = source_tree_id(repo, ["src"])
    assert edited != before
    assert (repo / ".git/index").read_bytes() == index
    commit(repo)
    assert f"src:{git(repo, 'rev-parse', 'HEAD:src')}" == edited


def test_change_outside_the_sources_keeps_the_id(repo: Path) -> None:
    before = source_tree_id(repo, ["src"])
    write(repo, {"tests/test_a.py": "y = 1\n", "src/pkg/_version.py": "ignored = 1\n"})
    assert source_tree_id(repo, ["src"]) == before


def test_objects_are_kept_only_when_asked(repo: Path) -> None:
    write(repo, {"src/pkg/__init__.py": "x = 3\n"})
    tree = source_tree_id(repo, ["src"]).partition(":")[2]
    with pytest.raises(AssertionError, match="Not a valid object"):
        git(repo, "cat-file", "-p", tree)
    source_tree_id(repo, ["src"], keep=True)
    assert "pkg" in git(repo, "cat-file", "-p", tree)


def test_file_that_is_tracked_and_ignored_counts(repo: Path) -> None:
    write(repo, {"src/pkg/_version.py": "1"})
    git(repo, "add", "-f", "src/pkg/_version.py")
    commit(repo)
    assert source_tree_id(repo, ["src"]) == f"src:{git(repo, 'rev-parse', 'HEAD:src')}"


def test_unmerged_index_does_not_stop_it(repo: Path) -> None:
    git(repo, "checkout", "-q", "-b", "other")
    commit(repo, {"src/pkg/__init__.py": "x = 5\n", "tests/test_a.py": "1"})
    git(repo, "checkout", "-q", "main")
    commit(repo, {"src/pkg/__init__.py": "x = 6\n", "tests/test_a.py": "2"})
    with pytest.raises(AssertionError):
        git(repo, "merge", "other")
    assert source_tree_id(repo, ["src"]).startswith("src:")


def test_hook_environment_does_not_mislead(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = source_tree_id(repo, ["src"])
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert source_tree_id(repo, ["src"]) == expected


def test_rootdir_below_the_top_of_the_repository(tmp_path: Path) -> None:
    top = repository(tmp_path / "mono", {"service/pkg/__init__.py": "", "service/mod.py": "a = 1\n"})
    text = source_tree_id(top / "service", ["mod.py", "pkg"])
    assert text == str(revision_tree(top / "service", "HEAD", ["mod.py", "pkg"]))
    assert SourceTree.parse(text).parts[0] == ("mod.py", git(top, "rev-parse", "HEAD:service/mod.py"))


def test_submodule_contents_count(tmp_path: Path) -> None:
    library = repository(tmp_path / "library", {"lib.py": "a = 1\n"})
    top = repository(tmp_path / "top", {"src/pkg/__init__.py": ""})
    git(top, "submodule", "-q", "add", str(library), "src/vendor")
    commit(top)
    before = source_tree_id(top, ["src"])
    assert before == str(revision_tree(top, "HEAD", ["src"]))
    assert [path for path, _ in SourceTree.parse(before).parts] == ["src", "src/vendor"]
    write(top, {"src/vendor/lib.py": "a = 2\n"})
    assert source_tree_id(top, ["src"]) != before


def test_source_inside_a_submodule(tmp_path: Path) -> None:
    library = repository(tmp_path / "library", {"deep/lib.py": "a = 1\n"})
    top = repository(tmp_path / "top", {"a.py": ""})
    git(top, "submodule", "-q", "add", str(library), "vendor")
    commit(top)
    assert source_tree_id(top, ["vendor/deep"]) == str(revision_tree(top, "HEAD", ["vendor/deep"]))


def test_absent_source_is_a_dash(repo: Path) -> None:
    assert source_tree_id(repo, ["gone", "src"]).startswith("gone:- src:")
    assert revision_tree(repo, "HEAD", ["gone", "src"]).parts[0] == ("gone", "-")


def test_read_only_repository_still_has_an_id(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repo, {"src/pkg/__init__.py": "x = 9\n"})
    monkeypatch.setattr("os.access", lambda *_: False)
    tree = source_tree_id(repo, ["src"], keep=True).partition(":")[2]
    with pytest.raises(AssertionError):
        git(repo, "cat-file", "-p", tree)


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        ("-x", "is not a revision"),
        ("--help", "is not a revision"),
        ("nope", "git knows no revision 'nope'"),
        ("", "is not a revision"),
    ],
)
def test_bad_revision_is_named(repo: Path, revision: str, said: str) -> None:
    with pytest.raises(RevisionError, match=said):
        resolve_revision(repo, revision)


def test_shallow_clone_names_the_cure(repo: Path, tmp_path: Path) -> None:
    first = git(repo, "rev-parse", "HEAD")
    commit(repo, {"src/pkg/__init__.py": "x = 2\n"})
    git(tmp_path, "clone", "-q", "--depth", "1", repo.as_uri(), "shallow")
    with pytest.raises(RevisionError, match="fetch-depth: 0"):
        resolve_revision(tmp_path / "shallow", first)


def test_no_repository_is_named(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for call in (lambda: source_tree_id(tmp_path, ["src"]), lambda: resolve_revision(tmp_path, "HEAD")):
        with pytest.raises(RevisionError, match="not inside a git repository"):
            call()


def test_missing_git_is_named(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repo))
    with pytest.raises(RevisionError, match="git is not on PATH"):
        source_tree_id(repo, ["src"])


def test_ignored_source_is_named(repo: Path) -> None:
    write(repo, {".gitignore": "gen\n", "gen/a.py": ""})
    with pytest.raises(RevisionError, match="git tracks nothing below 'gen'"):
        source_tree_id(repo, ["gen"])


def test_stand_in_is_the_commit_that_brought_the_line(repo: Path, tmp_path: Path) -> None:
    tree = "src:" + "a" * 40
    accepted = commit(repo, {"perf-baselines/l.jsonl": f'{{"tree": "{tree}"}}\n'})
    commit(repo, {"perf-baselines/l.jsonl": f'{{"tree": "{tree}"}}\n{{"tree": "{tree}"}}\n'})
    assert stand_in_commit(repo, tree, repo / "perf-baselines/l.jsonl") == accepted
    assert stand_in_commit(repo, "src:" + "b" * 40, repo / "perf-baselines/l.jsonl") is None
    git(tmp_path, "clone", "-q", "--depth", "1", repo.as_uri(), "shallow")
    assert stand_in_commit(tmp_path / "shallow", tree, tmp_path / "shallow/perf-baselines/l.jsonl") is None


def test_default_sources_are_src_or_the_top_level_packages(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "pkg/__init__.py": "",
            "mod.py": "",
            "tests/__init__.py": "",
            "test_mod.py": "",
            "setup.py": "",
            "data/x.csv": "",
        },
    )
    assert default_sources(tmp_path) == ("mod.py", "pkg")
    (tmp_path / "src").mkdir()
    assert default_sources(tmp_path) == ("src",)


def test_configured_sources_are_sorted_and_nested_ones_merge(tmp_path: Path) -> None:
    write(tmp_path, {"b/__init__.py": "", "a/x/__init__.py": "", "a/__init__.py": ""})
    assert resolve_sources(tmp_path, ["b", "a/x", "./a"]) == ("a", "b")


@pytest.mark.parametrize(("source", "said"), [("..", "outside rootdir"), ("nope", "does not exist")])
def test_bad_source_is_named(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        resolve_sources(tmp_path, [source])


def test_nothing_importable_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="set perf_source"):
        resolve_sources(tmp_path)


def test_tree_survives_its_text() -> None:
    tree = SourceTree(parts=(("a b/ü", "0" * 40), ("src", "-")))
    assert SourceTree.parse(str(tree)) == tree


@pytest.mark.parametrize(
    "text", ["", "src", "src:xyz", ":" + "0" * 40, "../up:" + "0" * 40, "/abs:" + "0" * 40]
)
def test_unreadable_tree_is_named(text: str) -> None:
    with pytest.raises(RevisionError):
        SourceTree.parse(text)
