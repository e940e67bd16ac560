"""Fresh processes that run some tests again and hand back what they measured."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pytest

from pytest_tradeperf.errors import UnavailableError, WorkerError
from pytest_tradeperf.model import RunRecord
from pytest_tradeperf.plugin import carried
from pytest_tradeperf.plugin.carried import carried_options
from pytest_tradeperf.plugin.settings import CHILD_VARIABLE
from pytest_tradeperf.store.record import load_record

_ARGUMENT_BYTES: Final = 100_000
"""Most bytes of test ids on one command line; beyond it whole files are named."""


def measure_again(config: pytest.Config, tests: list[str], timeout_s: float) -> RunRecord:
    """Run ``tests`` once in a fresh process and return its record.

    Raises
    ------
    UnavailableError
        When the process takes longer than ``timeout_s``.
    WorkerError
        When it ends without a record.
    """
    with tempfile.TemporaryDirectory(prefix="tradeperf-") as folder:
        path, options = Path(folder) / "record.json", Path(folder) / "options.json"
        options.write_text(json.dumps(carried_options(config)), encoding="utf-8")
        # What selects tests may stand in addopts; the rest of it is in the arguments and options already.
        chosen = ["-o", "addopts=", "-p", carried.__name__, *_targets(config, tests)]
        command = [sys.executable, "-m", "pytest", *session_arguments(config), *chosen]
        child = {**os.environ, CHILD_VARIABLE: str(path), carried.OPTIONS_VARIABLE: str(options)}
        for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
            child.pop(name, None)
        try:
            done = subprocess.run(
                command,
                env=child,
                cwd=config.invocation_params.dir,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError("--perf-time was spent on fresh processes") from error
        if not path.exists():
            last = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no output"]
            raise WorkerError(f"a measuring process ended with exit code {done.returncode}: {last[0]}")
        return load_record(path)


def session_arguments(config: pytest.Config) -> list[str]:
    """Return this session's configuration as options, without what selects, reports or distributes."""
    arguments = ["-q", "--rootdir", str(config.rootpath), "-p", "no:cacheprovider"]
    if config.inipath is not None:
        arguments += ["-c", str(config.inipath)]
    arguments += [f"--import-mode={config.getoption('importmode')}"]
    for override in config.getoption("override_ini") or ():
        arguments += ["-o", override]
    for plugin in config.getoption("plugins") or ():
        if plugin == "no:terminal":
            continue  # -q would be an unknown option, and a failed start would have no last words
        arguments += ["-p", plugin]
    for warning in config.known_args_namespace.pythonwarnings or ():
        arguments += ["-W", warning]
    if config.pluginmanager.hasplugin("xdist"):
        arguments += ["-n", "0"]
    if config.pluginmanager.hasplugin("pytest_cov"):
        arguments += ["--no-cov"]
    return arguments


def _targets(config: pytest.Config, tests: list[str]) -> list[str]:
    targets = [str(config.rootpath / test) for test in tests]
    if sum(len(os.fsencode(t)) for t in targets) <= _ARGUMENT_BYTES:
        return targets
    return sorted({str(config.rootpath / test.partition("::")[0]) for test in tests})
