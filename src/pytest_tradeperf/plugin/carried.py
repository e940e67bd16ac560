"""Options that a session's child processes need beside its configuration: those of conftests and plug-ins.

A plug-in too: a process started with ``-p`` and this module takes them over.
"""

import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

OPTIONS_VARIABLE: Final = "PYTEST_TRADEPERF_OPTIONS"
"""Names the file with the options, for a process that loads this module as a plug-in."""

_OWN_OPTIONS: Final = frozenset(
    [
        "file_or_dir",
        "keyword",
        "markexpr",
        "deselect",
        "lf",
        "failedfirst",
        "newfirst",
        "last_failed_no_failures",
        "stepwise",
        "stepwise_skip",
        "stepwise_reset",
        "maxfail",
        "xmlpath",
        "junitprefix",
        "collectonly",
        "verbose",
        "usepdb",
        "usepdb_cls",
        "trace",
        "durations",
        "durations_min",
        "pastebin",
        "tbstyle",
        "capture",
        "reportchars",
        "color",
        "code_highlight",
        "plugins",
        "inifilename",
        "rootdir",
        "confcutdir",
        "override_ini",
        "basetemp",
        "cacheclear",
        "cacheshow",
        "setuponly",
        "setupshow",
        "setupplan",
        "show_fixtures_per_test",
        "showfixtures",
        "markers",
        "version",
        "help",
        "pythonwarnings",
        "importmode",
        "numprocesses",
        "maxprocesses",
        "dist",
        "tx",
        "px",
        "looponfail",
        "testrunuid",
        "rsyncdir",
        "ignore",
        "ignore_glob",
        "log_file",
        "log_cli_level",
        "strict_config",
        "strict_markers",
        "debug",
        "traceconfig",
        "noconftest",
        "pyargs",
    ]
)
"""Options of pytest and xdist that select, report or distribute, or that the arguments carry already."""

_OWN_PREFIXES: Final = ("perf_", "cov_", "benchmark_", "no_cov", "hypothesis")


def carried_options(config: pytest.Config) -> dict[str, Any]:
    """Return options that conftests and other plug-ins declared, as far as they can be written down."""
    return {
        name: value
        for name, value in vars(config.option).items()
        if name not in _OWN_OPTIONS and not name.startswith(_OWN_PREFIXES) and _is_plain(value)
    }


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Take over the options of the session that started this process."""
    take_over(config, json.loads(Path(os.environ[OPTIONS_VARIABLE]).read_text(encoding="utf-8")))


def take_over(config: pytest.Config, options: dict[str, Any]) -> None:
    """Set the options that conftests and plug-ins have declared here too."""
    for name, value in options.items():
        if hasattr(config.option, name):
            setattr(config.option, name, value)


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, str | int | float | bool)
