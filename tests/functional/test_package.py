"""The wheel that users install."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_wheel_holds_what_it_needs_and_little_data(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="builds the wheel; in the extra dev")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.compress_size for info in archive.infolist()}
        entries = archive.read(next(n for n in sizes if n.endswith("entry_points.txt"))).decode()
    assert "pytest_tradeperf/py.typed" in sizes
    assert any(name.endswith("licenses/LICENSE") for name in sizes)
    assert "tradeperf = pytest_tradeperf.plugin" in entries
    data = {name: size for name, size in sizes.items() if "/marketdata/data/" in name}
    assert data
    assert sum(data.values()) <= 400 * 1024
    assert not [name for name in sizes if name.startswith(("tests/", "examples/"))]
