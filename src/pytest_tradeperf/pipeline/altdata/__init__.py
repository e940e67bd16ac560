"""Alternative data: filings, headlines, messages and options activity, behind one Protocol.

Start at :func:`~pytest_tradeperf.pipeline.altdata.collect.collect`; the sources are in ``edgar``, ``news``,
``stocktwits`` and ``cboe``. Importing the package loads no network library.
"""
