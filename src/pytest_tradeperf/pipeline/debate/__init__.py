"""Analysts vote, contested tickers are debated and judged; every answer says how it came about."""
