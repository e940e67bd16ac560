"""The code under the gate: signals from a price series."""


def momentum(prices: list[float], window: int) -> list[float]:
    """Return the relative change over ``window`` steps."""
    return [later / earlier - 1 for earlier, later in zip(prices, prices[window:], strict=False)]
