import errno
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tradeperf.errors import BaselineError
from pytest_tradeperf.model import BaselineLine, Better, Kind, Metric
from pytest_tradeperf.store.baseline import PORTABLE, Baseline, check_writable, load, save
from pytest_tradeperf.store.lines import FORMAT

KEY = "linux-x86_64-3.11"
WALL = Metric(name="wall", kind=Kind.TIMING, unit="ns")
ANSWER = Metric(name="digest:a", kind=Kind.DIGEST, better=Better.SAME, relative=1e-9, portable=True)


def line(
    test: str = "t.py::a", metric: Metric = WALL, value: float | str = 100, **kwargs: Any
) -> BaselineLine:
    return BaselineLine(test=test, metric=metric, value=value, **kwargs)


def full(test: str = "t.py::a") -> list[BaselineLine]:
    return [
        line(test, noise=0.02, machine="AMD EPYC, 2 CPUs", tree="abc", dependencies={"numpy": "2.1"}),
        line(test, ANSWER, "sha256:0", text='{"list":[1.0]}', dependencies={"numpy": "2.1"}),
    ]


def stored(folder: Path, lines: Iterable[BaselineLine]) -> Baseline:
    save(load(folder, KEY), lines)
    return load(folder, KEY)


def updated(folder: Path, *lines: BaselineLine) -> Baseline:
    before = load(folder, KEY)
    save(before, ({**before.lines} | {new.key: new for new in lines}).values())
    return load(folder, KEY)


def rows(folder: Path, name: str = f"{KEY}.jsonl") -> list[str]:
    return (folder / name).read_text(encoding="utf-8").splitlines()


def written(folder: Path, *texts: str, end: str = "\n", head: str | None = '{"tradeperf": 1}') -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{KEY}.jsonl"
    path.write_text("\n".join([*([head] if head is not None else []), *texts]) + end, encoding="utf-8")
    return path


GOOD = '{"test": "t.py::a", "metric": "wall", "value": 5, "unit": "ns", "kind": "timing", "better": "lower"}'


def test_an_absent_folder_is_an_empty_baseline(tmp_path: Path) -> None:
    found = load(tmp_path / "no", KEY)
    assert (found.exists, dict(found.lines), found.others) == (False, {}, ())


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    lines = [*full("t.py::b"), *full("t.py::a")]
    assert list(stored(tmp_path / "deep" / "er", lines).lines.values()) == sorted(
        lines, key=lambda saved: (not saved.metric.portable, saved.key)
    )


def test_portable_lines_are_kept_in_a_file_for_all_platforms(tmp_path: Path) -> None:
    stored(tmp_path, full())
    assert json.loads(rows(tmp_path, PORTABLE)[1])["metric"] == "digest:a"
    assert json.loads(rows(tmp_path)[1])["metric"] == "wall"
    assert list(load(tmp_path, "win32-amd64-3.12").lines) == [("t.py::a", "digest:a")]


def test_files_of_other_environments_are_named(tmp_path: Path) -> None:
    stored(tmp_path, full())
    found = load(tmp_path, "darwin-arm64-3.12")
    assert (found.exists, found.others) == (False, (f"{KEY}.jsonl",))


def test_lines_are_sorted_with_a_stable_order_of_keys(tmp_path: Path) -> None:
    stored(tmp_path, [line("b"), line("a", replace(WALL, name="cpu")), line("a")])
    entries = [json.loads(row) for row in rows(tmp_path)]
    assert [(e.get("test"), e.get("metric")) for e in entries[1:]] == [
        ("a", "cpu"),
        ("a", "wall"),
        ("b", "wall"),
    ]
    assert list(entries[1]) == ["test", "metric", "value", "unit", "kind", "better"]


def test_the_first_line_is_the_format_and_the_versions_all_lines_share(tmp_path: Path) -> None:
    stored(tmp_path, full())
    assert json.loads(rows(tmp_path)[0]) == {"tradeperf": FORMAT, "dependencies": {"numpy": "2.1"}}
    assert "numpy" not in rows(tmp_path)[1]


def test_saving_the_same_again_writes_nothing(tmp_path: Path) -> None:
    before = stored(tmp_path, full())
    assert save(before, before.lines.values()) == []


def test_line_ends_that_git_converted_are_no_change(tmp_path: Path) -> None:
    stored(tmp_path, full())
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    again = load(tmp_path, KEY)
    assert len(again.lines) == 2
    assert save(again, again.lines.values()) == []


def test_nothing_to_store_creates_no_file(tmp_path: Path) -> None:
    assert save(load(tmp_path, KEY), []) == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_last_line_goes_keeps_its_first(tmp_path: Path) -> None:
    save(stored(tmp_path, full()), [])
    assert len(rows(tmp_path)) == 1
    assert dict(load(tmp_path, KEY).lines) == {}


def test_save_names_the_files_that_changed(tmp_path: Path) -> None:
    before = stored(tmp_path, full())
    wall, answer = full()
    assert save(before, [replace(wall, value=1), answer]) == [tmp_path / f"{KEY}.jsonl"]


@pytest.mark.parametrize(
    "test",
    [
        "t.py::a[x\ny]",
        't.py::a["quoted" \\ back]',
        "t.py::a[größe 日本 🚀]",
        "t.py::a[" + "x" * 4000 + "]",
        "t.py::a[\u2028\x85\x0b\r]",
        "t.py::a[\x00\x1b[31m]",
        "t.py::a[\udcff]",
        "t.py::a[<<<<<<< HEAD]",
        "",
        " ",
    ],
    ids=ascii,
)
def test_any_test_id_comes_back_as_it_was_on_one_line(tmp_path: Path, test: str) -> None:
    found = stored(tmp_path, [line(test)])
    assert list(found.lines) == [(test, "wall")]
    assert found.of(test)["wall"].value == 100
    assert len((tmp_path / f"{KEY}.jsonl").read_bytes().split(b"\n")) == 3


@given(
    st.dictionaries(
        st.tuples(st.text(max_size=8), st.text(min_size=1, max_size=8)),
        st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        max_size=5,
    ),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2"])),
)
def test_any_lines_come_back_as_they_were(
    values: dict[tuple[str, str], float], dependencies: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            line(test, replace(WALL, name=name), value, dependencies=dependencies if test else {})
            for (test, name), value in values.items()
        ]
        assert dict(stored(Path(folder), lines).lines) == {one.key: one for one in lines}


def test_updating_one_test_leaves_the_bytes_of_the_others(tmp_path: Path) -> None:
    stored(tmp_path, [*full("t.py::a"), *full("t.py::b"), *full("t.py::c")])
    before = rows(tmp_path)
    updated(tmp_path, replace(full("t.py::b")[0], value=7, tree="other", dependencies={"numpy": "3.0"}))
    after = rows(tmp_path)
    assert [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [2]


@pytest.mark.parametrize(
    "dependencies", [{}, {"numpy": "9"}, {"numpy": "2.1", "pandas": "2.2"}, {"pandas": "2.2"}]
)
def test_whatever_a_new_test_depends_on_the_other_lines_keep_their_bytes(
    tmp_path: Path, dependencies: dict[str, str]
) -> None:
    stored(tmp_path, [*full("t.py::a"), *full("t.py::c")])
    before = rows(tmp_path)
    new = line("t.py::b", dependencies=dependencies)
    found = updated(tmp_path, new)
    assert [row for row in rows(tmp_path) if '"t.py::b"' not in row] == before
    assert found.lines[new.key].dependencies == dependencies


def test_a_line_without_a_dependency_does_not_get_that_of_the_others(tmp_path: Path) -> None:
    lines = [line("t.py::a", dependencies={}), line("t.py::b", dependencies={"numpy": "2.1"})]
    found = stored(tmp_path, lines)
    assert found.lines["t.py::a", "wall"].dependencies == {}
    assert found.lines["t.py::b", "wall"].dependencies == {"numpy": "2.1"}


def test_accepting_everything_with_new_versions_changes_the_first_line_alone(tmp_path: Path) -> None:
    stored(tmp_path, [line(f"t.py::{n}", dependencies={"numpy": "2.1"}) for n in "abc"])
    before = rows(tmp_path)
    updated(tmp_path, *(line(f"t.py::{n}", dependencies={"numpy": "2.2"}) for n in "abc"))
    after = rows(tmp_path)
    assert after[1:] == before[1:]
    assert json.loads(after[0])["dependencies"] == {"numpy": "2.2"}


def test_two_branches_that_accept_different_tests_merge_line_by_line(tmp_path: Path) -> None:
    names = {}
    for name, changed in (("base", ""), ("ours", "b"), ("theirs", "h")):
        stored(tmp_path / name, [line(f"t.py::{n}") for n in "abcdefghi"])
        if changed:
            updated(tmp_path / name, line(f"t.py::{changed}", value=7, dependencies={"numpy": "3"}))
        names[name] = str(tmp_path / name / f"{KEY}.jsonl")
    done = subprocess.run(["git", "merge-file", names["ours"], names["base"], names["theirs"]], check=False)
    assert done.returncode == 0
    merged = load(tmp_path / "ours", KEY).lines
    assert [one.test for one in merged.values() if one.value == 7] == ["t.py::b", "t.py::h"]


def refused(folder: Path) -> str:
    with pytest.raises(BaselineError) as error:
        load(folder, KEY)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_that_is_a_file_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "is a file, not a folder: remove it or set perf_baselines elsewhere" in refused(tmp_path / "file")


def test_a_file_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{KEY}.jsonl").mkdir()
    assert refused(tmp_path) == f"cannot read {tmp_path / f'{KEY}.jsonl'}: Is a directory"


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, GOOD)

    def deny(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_text", deny)
    assert refused(tmp_path).endswith(".jsonl: Permission denied")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD[:50], r"2: the file is truncated"),
        (f"{GOOD}\n{GOOD}\n", r"both 'wall' of 't.py::a'"),
        ("<<<<<<< HEAD\n" + GOOD + "\n", r"2: a merge conflict is not resolved"),
        ("||||||| base\n", r"2: a merge conflict is not resolved"),
        ("=======\n", r"2: a merge conflict is not resolved"),
        (">>>>>>> theirs\n", r"2: a merge conflict is not resolved"),
        ("\n", r"2: not a JSON line"),
        ("{'test': 5}\n", r"2: not a JSON line"),
        ("[1, 2]\n", r"2: a JSON object was expected, not '[1, 2]'"),
        ("[" * 200_000 + "\n", r"2: not a JSON line"),
        (GOOD.replace("5", "NaN") + "\n", r"2: not a JSON line (NaN is not a number here)"),
        (GOOD.replace("5", "1e999") + "\n", r"2: value Infinity is not a number"),
        (GOOD.replace("5", "9" * 400) + "\n", r"2: value 9999999999"),
        (GOOD.replace("5", "9" * 5000) + "\n", r"2: not a JSON line"),
        (GOOD.replace("5", "true") + "\n", r"2: value true is not a number"),
        (GOOD.replace("5", '"5"') + "\n", r'2: value "5" is not a number'),
        (GOOD.replace('"value": 5, ', "") + "\n", r"2: 'value' is missing"),
        (GOOD.replace('"t.py::a"', "7") + "\n", r"2: test 7 is not text"),
        (GOOD.replace('"timing"', '"digest"') + "\n", r"2: value 5 is not text"),
        (GOOD.replace('"timing"', '"feeling"') + "\n", r"2: 'feeling' is not a valid Kind"),
        (GOOD.replace('"lower"', "null") + "\n", r"2: None is not a valid Better"),
        (GOOD.replace('"wall"', '""') + "\n", r"2: a metric needs a name"),
        (GOOD[:-1] + ', "noise": "much"}\n', r'2: noise "much" is not a number'),
        (GOOD[:-1] + ', "noise": -0.1}\n', r"2: noise -0.1 is below zero"),
        (GOOD[:-1] + ', "with": {"numpy": 2}}\n', r'2: dependency "numpy": 2 is not a name with a version'),
        (GOOD[:-1] + ', "relative": -1}\n', r"2: tolerances of 'wall'"),
        (GOOD[:-1] + ', "relative": "1%"}\n', r'2: relative "1%" is not a number'),
        (GOOD[:-1] + ', "with": ["numpy"]}\n', r'2: with ["numpy"] is not a mapping'),
        (GOOD[:-1] + ', "machine": 5}\n', r"2: machine 5 is not text"),
        (GOOD[:-1] + ', "text": {}}\n', r"2: text {} is not text"),
    ],
)
def test_a_broken_line_is_refused_by_place_and_problem(tmp_path: Path, text: str, problem: str) -> None:
    written(tmp_path, text, end="")
    message = refused(tmp_path)
    assert problem in message
    assert f"{KEY}.jsonl:" in message
    assert len(message) < 500
    assert any(cure in message for cure in ("restore it from git", "keep one"))


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("", "1: not a JSON line"),
        (GOOD, "1: not a baseline file (no 'tradeperf' format number)"),
        ('{"tradeperf": "1"}', "1: not a baseline file"),
        ('{"tradeperf": true}', "1: not a baseline file"),
        ('{"tradeperf": 0}', "1: not a baseline file"),
        ('{"tradeperf": 2}', "format 2 was written by a newer pytest-tradeperf (this one reads 1): upgrade"),
        ('{"tradeperf": 1, "dependencies": []}', "1: 'dependencies' must map names to versions"),
        ("<<<<<<< HEAD", "1: a merge conflict is not resolved"),
    ],
)
def test_a_wrong_first_line_is_refused(tmp_path: Path, head: str, problem: str) -> None:
    written(tmp_path, GOOD, head=head)
    assert problem in refused(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    written(tmp_path, head=None, end="")
    assert "1: not a JSON line" in refused(tmp_path)


def test_a_newer_format_is_refused_whatever_its_lines_look_like(tmp_path: Path) -> None:
    written(tmp_path, "binary nonsense", head='{"tradeperf": 99}')
    assert "upgrade pytest-tradeperf" in refused(tmp_path)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{KEY}.jsonl").write_bytes(b'{"tradeperf": 1}\n\xff\xfe\n')
    assert "is not UTF-8 text (byte 17)" in refused(tmp_path)


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load(tmp_path, KEY).lines) == 1


def test_a_broken_file_of_another_environment_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "win32-amd64-3.12.jsonl").write_text("nonsense")
    assert load(tmp_path, KEY).others == ("win32-amd64-3.12.jsonl",)


def test_a_folder_that_cannot_be_made_is_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BaselineError, match=r"cannot write into .*Not a directory: make it writable"):
        check_writable(tmp_path / "file" / "baselines")


def test_a_folder_that_can_still_be_made_is_writable(tmp_path: Path) -> None:
    check_writable(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_is_refused_before_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", deny)
    with pytest.raises(
        BaselineError, match="Read-only file system: make it writable or change perf_baselines"
    ):
        check_writable(tmp_path)


def test_a_save_into_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BaselineError, match="what was stored is untouched"):
        save(Baseline(folder=tmp_path / "file" / "baselines", key=KEY), full())


@pytest.mark.parametrize("call", ["fsync", "rename"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_failure_midway_leaves_both_files_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int
) -> None:
    before = stored(tmp_path, full())
    contents = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls: list[int] = []

    def fail(*_: object, **__: object) -> None:
        calls.append(1)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        nth = 1  # after the first rename the second can only fail with the file system itself
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(BaselineError, match="No space left on device"):
        save(before, [replace(one, value=1 if one.metric is WALL else "sha256:1") for one in full()])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == contents


def test_an_interrupt_midway_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored(tmp_path, full())
    names = sorted(tmp_path.iterdir())

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(before, [line(value=1)])
    assert sorted(tmp_path.iterdir()) == names


def test_the_mode_of_a_file_is_kept_and_a_new_one_follows_the_umask(tmp_path: Path) -> None:
    before = stored(tmp_path, full())
    path = tmp_path / f"{KEY}.jsonl"
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    path.chmod(0o640)
    save(before, [line(value=1)])
    assert path.stat().st_mode & 0o777 == 0o640


def test_the_lines_of_one_test_are_found_by_metric(tmp_path: Path) -> None:
    found = stored(tmp_path, [*full("t.py::a"), *full("t.py::ab")])
    assert sorted(found.of("t.py::a")) == ["digest:a", "wall"]
    assert found.of("t.py::none") == {}
