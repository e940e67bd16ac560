"""The network stack of every live source: pacing, caching, retries, deadlines, one error tree.

Nothing here knows what a payload means; that belongs to :mod:`~pytest_tradeperf.pipeline.altdata` and to
``marketdata.network``. Importing this package loads nothing heavy; httpx2 and its companions load with
:mod:`~pytest_tradeperf.pipeline.net.fetcher`.
"""
