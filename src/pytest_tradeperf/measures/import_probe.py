"""Run in a fresh interpreter: import one module and write what that cost to a file.

``python import_probe.py MODULE ANSWER SYS_PATH`` where SYS_PATH is joined by newlines. Before the import
this script may load nothing that is not loaded anyway, or the module would seem to need less.
"""

import gc
import sys
import time


def private_bytes() -> "int | None":
    """Return the anonymous resident memory of this process, or None without /proc."""
    try:
        with open("/proc/self/status") as status:  # noqa: PTH123 - pathlib is not loaded yet
            found = [line.split()[1] for line in status if line.startswith("RssAnon:")]
    except OSError:
        return None
    return int(found[0]) * 1024 if found else None


def main(module: str, answer: str, path: str) -> None:
    """Import ``module`` and write the answer as JSON."""
    sys.path[:] = path.split("\n")
    sys.argv[1:] = []
    before = frozenset(sys.modules)
    gc.collect()
    memory = private_bytes()
    sys.stderr.write("tradeperf: begin\n")
    sys.stderr.flush()
    error = None
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    try:
        __import__(module)
    except BaseException as failure:  # noqa: BLE001 - SystemExit at import is a failure too
        error = f"{type(failure).__name__}: {failure}".split("\n", 1)[0]
    cpu_end, wall_end = time.process_time_ns(), time.perf_counter_ns()
    gc.collect()
    memory_end = private_bytes()
    loaded = sorted(set(sys.modules) - before)
    origins = {name: getattr(getattr(sys.modules[name], "__spec__", None), "origin", None) for name in loaded}
    import json

    retained = None if memory is None or memory_end is None else max(0, memory_end - memory)
    with open(answer, "w", encoding="utf-8") as file:  # noqa: PTH123 - as above
        json.dump(
            {
                "error": error,
                "wall_ns": wall_end - wall,
                "cpu_ns": cpu_end - cpu,
                "memory_bytes": retained,
                "modules": {k: v if isinstance(v, str) else None for k, v in origins.items()},
            },
            file,
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
