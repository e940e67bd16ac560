"""``python -m pytest_tradeperf.pipeline.world``: the same as ``tradeperf world``."""

from pytest_tradeperf.pipeline.world.commands import world_command

if __name__ == "__main__":
    world_command()
