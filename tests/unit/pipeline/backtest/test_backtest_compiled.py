"""What of the compiled code is kept on disk, and when it is believed."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from test_backtest_identity import needs_numba

from pytest_tradeperf.pipeline.backtest.compiled import KERNEL, load_kernel
from pytest_tradeperf.pipeline.errors import EngineError

pytestmark = needs_numba

KERNELS = "from pytest_tradeperf.pipeline.backtest import compiled\nkernel = compiled.load_kernel()\n"


def fresh(code: str) -> Any:
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def test_a_second_process_compiles_nothing() -> None:
    code = (
        "import json\n" + KERNELS + "found = [kernel.simulate_one, kernel.simulate_many, kernel.cross_rows]\n"
        "print(json.dumps([len(one.stats.cache_misses) for one in found]))"
    )
    fresh(code)
    assert fresh(code) == [0, 0, 0]


def test_kernels_are_compiled_anew_when_what_they_call_changes() -> None:
    from pytest_tradeperf.pipeline.backtest import kernel, kernel_account, kernel_many

    source = zlib.crc32(Path(kernel_account.__file__).read_bytes())
    for function in (kernel.simulate_one, kernel_many.simulate_many):
        assert [cell.cell_contents for cell in function.py_func.__closure__] == [source]


class NowhereToWrite:
    """Finds no kernel, with the error that numba raises where it may not write a cache anywhere."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == KERNEL:
            raise RuntimeError(
                "cannot cache function 'simulate_one': no locator available for file 'kernel.py'"
            )


def test_no_folder_to_keep_code_in_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, KERNEL, raising=False)
    monkeypatch.delattr(KERNEL, raising=False)
    monkeypatch.setattr(sys, "meta_path", [NowhereToWrite(), *sys.meta_path])
    with pytest.raises(EngineError, match="name a folder that can be written in NUMBA_CACHE_DIR"):
        load_kernel()
