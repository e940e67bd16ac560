"""A valgrind for tests: runs ``python -m pytest ...`` in this process and counts calls, 10,000 for each."""

import os
import runpy
import sys
from pathlib import Path

INSTRUCTIONS = 10_000

options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
if options[0] == "--version":
    sys.stdout.write(os.environ.get("STAND_IN_VERSION", "valgrind-3.19.0") + "\n")
    sys.exit()
with Path(os.environ["STAND_IN_STARTS"]).open("a") as starts:
    starts.write("started\n")
if "STAND_IN_FAILS" in os.environ:
    sys.exit("valgrind: Fatal error at startup: no such tool")
template = next(o.partition("=")[2] for o in options if o.startswith("--cachegrind-out-file="))
module = sys.argv.index("-m") + 1
sys.argv = sys.argv[module:]
calls = 0
end = os._exit


def count(frame, event, argument):
    global calls  # noqa: PLW0603 - the quickest way to count
    calls += event in ("call", "c_call")


def write_and_end(status):
    sys.setprofile(None)
    text = f"events: Ir\nsummary: {calls * INSTRUCTIONS}\n"
    Path(template.replace("%p", str(os.getpid()))).write_text(text)
    end(status)


os._exit = write_and_end
os.register_at_fork(after_in_child=lambda: sys.setprofile(count))  # nothing before the first copy counts
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
