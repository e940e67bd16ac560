from pathlib import Path

from pytest_tradeperf.measures import places
from pytest_tradeperf.measures.places import Places

IN_LIBRARY = "/opt/venv/lib/python3.11/site-packages/pandas/core/frame.py"


def test_places_are_written_without_machine_paths() -> None:
    known = Places(Path("/home/me/project"))
    assert known.of([("load", "/home/me/project/feeds/io.py", 12)]) == "feeds/io.py:12 in load"
    assert known.of([("__init__", IN_LIBRARY, 7)]) == "pandas/core/frame.py:7 in __init__"


def test_the_users_own_frame_is_named_before_the_library_it_called() -> None:
    stack = [("__init__", IN_LIBRARY, 7), ("load", "/home/me/project/io.py", 3), ("main", "/x.py", 1)]
    assert Places(Path("/home/me/project")).of(stack) == "io.py:3 in load"


def test_our_own_frames_are_passed_over() -> None:
    ours = str(Path(places.__file__))
    assert Places(Path("/p")).of([("watch", ours, 1), ("work", "/p/a.py", 2)]) == "a.py:2 in work"
    assert Places(Path("/p")).of([("watch", ours, 1)]) == "outside Python code"
