"""Import reports as text: every printed figure with its unit, failures and advice named."""

import json

from click.testing import CliRunner

from pytest_tradeperf.commands.imports import imports
from pytest_tradeperf.measures.import_tree import Node
from pytest_tradeperf.measures.imports import ImportReport, ModuleImport
from pytest_tradeperf.report.imports import import_json, import_lines


def sample() -> ImportReport:
    tree = (
        Node(name="pandas", parent="shop", self_ns=300_000_000, total_ns=300_000_000),
        Node(name="shop", parent=None, self_ns=100_000_000, total_ns=400_000_000),
    )
    loaded: dict[str, str | None] = {"shop": "/p/shop.py", "pandas": "/v/site-packages/pandas/__init__.py"}
    itself = ModuleImport(
        name="shop",
        error=None,
        wall_ns=400_000_000,
        cpu_ns=390_000_000,
        memory_bytes=41_943_040,
        loaded=loaded,
        tree=tree,
    )
    broken = ModuleImport(
        name="shop.broken", error="ValueError: no", wall_ns=1, cpu_ns=1, memory_bytes=None, loaded={}
    )
    return ImportReport(package="shop", itself=itself, submodules=(broken,), skipped=("shop.__main__",))


def test_text_says_cost_status_failures_share_and_what_can_wait() -> None:
    lines = import_lines(sample())
    assert lines[2].split() == ["shop", "acceptable", "390", "ms", "40.0", "MiB", "2"]
    assert lines[3].split()[:2] == ["shop.broken", "failed"]
    assert "2 modules: 1 acceptable, 1 failed; 50.0 % can be imported" in lines
    assert "third-party share of importing shop: 75.0 %" in lines
    assert "FAILED shop.broken: ValueError: no" in lines
    assert "  pandas (300 ms), imported by shop" in lines
    assert "left out (importing runs a program): shop.__main__" in lines
    assert max(map(len, lines)) <= 100


def test_json_holds_the_same_in_plain_units() -> None:
    data = json.loads(json.dumps(import_json(sample())))
    assert data["success_rate"] == 0.5
    assert data["modules"][0]["memory_bytes"] == 41_943_040
    assert data["lazy_candidates"] == [{"module": "pandas", "importer": "shop", "ns": 300_000_000}]


def test_the_command_reports_and_its_exit_code_tells() -> None:
    runner = CliRunner()
    good = runner.invoke(imports, ["colorsys", "--repeats", "1"])
    assert good.exit_code == 0
    assert "1 modules: 1 fast; 100 % can be imported" in good.output
    bad = runner.invoke(imports, ["json", "--only", "--repeats", "1", "--forbid", "json.decoder", "--json"])
    assert bad.exit_code == 1
    assert json.loads(bad.output)["forbidden"][0].startswith("json.decoder is imported")
    wrong = runner.invoke(imports, ["json", "--timeout", "soon"])
    assert wrong.exit_code == 2
    assert "cannot read 'soon' as a quantity" in wrong.output
