"""What the README shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_first_example_fails_as_shown(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    (tmp_path / "test_speed.py").write_text(blocks("python")[0])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "test_speed.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(
        r"^over budget: wall [\d.]+ (us|ms), limit <= 200 us \(\+[\d,.]+ %\)$", done.stdout, re.MULTILINE
    )
    assert "FAILED test_speed.py::test_report - " in done.stdout


def test_set_up_is_two_lines_to_paste() -> None:
    section = README.partition("\n## Set up\n")[2].partition("\n## ")[0]
    commands = re.search(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert commands is not None
    gate, tests = commands[1].splitlines()
    assert gate.endswith("-m pytest --perf-gate examples/trading")
    assert "-m pytest" in tests
    for line in (gate, tests):
        assert "python3 -m venv .venv" in line
        assert "pip install" in line


def test_every_path_and_option_named_in_the_documents_exists() -> None:
    plugin = (ROOT / "src" / "pytest_tradeperf" / "plugin" / "__init__.py").read_text(encoding="utf-8")
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([\w./-]+)\)", text):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
        for option in re.findall(r"--perf-([a-z]+)", text):
            assert f'"{option}"' in plugin or f"--perf-{option}" in plugin, (
                f"{document.name}: --perf-{option}"
            )
