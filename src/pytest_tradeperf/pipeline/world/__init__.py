"""A loopback world: real sockets in the shapes of the live sources, with seeded latency, limits and faults.

>>> from pytest_tradeperf.pipeline.world.settings import WorldSettings
>>> from pytest_tradeperf.pipeline.world.server import World
>>> async def main() -> None:
...     async with World(WorldSettings(seed=7)) as world:
...         print(world.url_of("llm"))  # http://127.0.0.1:PORT/llm/v1

The same seed gives the same payloads, latencies and faults in every process and under any completion order:
every draw depends on the request itself and on how often it was made before, never on what else was under
way.
"""
