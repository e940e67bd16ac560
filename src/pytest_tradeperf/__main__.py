"""``python -m pytest_tradeperf`` and the command ``tradeperf``."""

from pytest_tradeperf.cli import main

if __name__ == "__main__":
    main()
