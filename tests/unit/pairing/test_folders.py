import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_tradeperf.pairing.folders import place_as_deep_as, session_folder, sweep


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    return tmp_path


def test_folder_is_private_and_gone_afterwards(temporary: Path) -> None:
    with session_folder() as folder:
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "locked").mkdir(mode=0o500)
        (folder / "locked").chmod(0o700)
        (folder / "locked" / "file").touch()
        (folder / "locked").chmod(0o500)
    assert list(temporary.iterdir()) == []


def test_folder_is_gone_after_an_interrupt(temporary: Path) -> None:
    with pytest.raises(KeyboardInterrupt), session_folder():
        raise KeyboardInterrupt
    assert list(temporary.iterdir()) == []


def test_what_a_link_points_to_survives(temporary: Path) -> None:
    (temporary / "project").mkdir()
    (temporary / "project" / "file").touch()
    with session_folder() as folder:
        (folder / "head").symlink_to(temporary / "project")
    assert (temporary / "project" / "file").exists()


def test_folder_of_a_dead_process_is_swept_and_of_a_living_one_kept(temporary: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead = temporary / f"tradeperf-pairs-{int(ended.stdout)}-12345-abc"
    reused = temporary / f"tradeperf-pairs-{os.getpid()}-1-abc"
    strange = temporary / "tradeperf-pairs-notes"
    for folder in (dead, reused, strange):
        folder.mkdir()
    with session_folder() as mine:
        assert sorted(temporary.iterdir()) == sorted([mine, strange])
        assert sweep(temporary) == []


@pytest.mark.parametrize(
    ("root", "parts", "is_as_long"),
    [
        ("/home/user/work/name/of-a-long-project", 6, True),
        ("/home/user/a/b/c/d/e", 8, False),
        ("/a", 4, False),
    ],
)
def test_accepted_code_lies_as_deep_as_rootdir(root: str, parts: int, is_as_long: bool) -> None:
    folder = Path("/tmp/pairs-1-2-3")
    place = place_as_deep_as(Path(root), folder)
    assert place.is_relative_to(folder)
    assert len(place.parts) == parts
    assert (len(str(place)) == len(root)) is is_as_long
