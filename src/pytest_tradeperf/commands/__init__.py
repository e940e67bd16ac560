"""Commands of ``tradeperf``, one module each, loaded when called."""
