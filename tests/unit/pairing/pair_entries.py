"""What the sides of test_pair run instead of pytest."""

import os
import subprocess
import sys
import time
from pathlib import Path

from pytest_tradeperf.pairing.parent import SideContext


def tell(context: SideContext) -> None:
    """Say what this side is, then echo until told to stop."""
    sys.stdout.write("noise on stdout\n")
    context.channel.send(
        {
            "is": "ready",
            "name": context.name,
            "seed": os.environ["PYTHONHASHSEED"],
            "hash": hash("text"),
            "pid": os.getpid(),
            "parent": os.getppid(),
            "modules": "decimal" in sys.modules,
            "payload": context.payload,
            "threads": os.environ.get("OMP_NUM_THREADS"),
        }
    )
    while (message := context.channel.receive())["do"] != "bye":
        if message["do"] == "die":
            os.write(1, message.get("words", "famous last words\n").encode())
            os._exit(3)
        if message["do"] == "child":
            sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
            child = subprocess.Popen(sleeper, start_new_session=message.get("apart", False))
            context.channel.send({"is": "child", "pid": child.pid})
        elif message["do"] == "hang":
            time.sleep(60)
        else:
            context.channel.send({"is": "echo", **message})
    time.sleep(0.2)
    Path(f"{context.name}-has-torn-down").touch()
    context.channel.send({"is": "gone"})


def stay(context: SideContext) -> None:
    """Be inside a test, which a first farewell ends."""
    assert context.channel.receive()["do"] == "bye"
    context.channel.send({"is": "done", "outcome": "failed", "message": "aborted"})
    tell(context)


def controller(folder: str) -> None:
    """Start a pair, say which processes there are, and wait to be killed."""
    from test_pair import plan_in

    from pytest_tradeperf.pairing.pair import ProcessPair

    with ProcessPair(plan_in(Path(folder)), seed=1, parallel=False) as pair:
        pids = []
        for channel in pair.channels.values():
            ready = channel.receive(60)
            channel.send({"do": "child"})
            pids += [ready["pid"], ready["parent"], channel.receive(60)["pid"]]
            channel.send({"do": "hang"})
        os.write(1, " ".join(map(str, pids)).encode() + b"\n")
        time.sleep(60)
