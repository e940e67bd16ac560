"""What a strategy says at the close of a bar: one small code, acted on at the next opportunity.

Codes mark *changes of mind*, not states: between two codes the position is left alone. A long position that a
stop took out is therefore not bought back until the strategy says so again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from pytest_tradeperf.pipeline.errors import SettingError, StrategyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Side = Literal["long", "short", "both"]

HOLD: Final = 0
BUY: Final = 1
SELL: Final = -1
EXIT: Final = 2
CODES: Final = (SELL, HOLD, BUY, EXIT)


def cross_signals(
    fast: NDArray[np.float64], slow: NDArray[np.float64], side: Side = "long"
) -> NDArray[np.int8]:
    """Return BUY where fast crosses above slow, and its opposite where it crosses below.

    A cross is two consecutive bars on which both series exist: at or below, then above (or at or above, then
    below). ``side`` decides what the opposite means: leave the market (long, short) or reverse (both).

    Parameters
    ----------
    fast, slow
        ndarrays of shape (n_bars,) or (n_combinations, n_bars), or shapes that broadcast to one; NaN where
        the
        series does not exist yet.

    Returns
    -------
    int8 ndarray of the common shape

    Examples
    --------
    >>> cross_signals(np.array([1.0, 2, 2, 1]), np.array([1.0, 1, 2, 2]), "both").tolist()
    [0, 1, 0, -1]
    """
    # A comparison with NaN is False: a bar on which one of the two does not exist is on neither side.
    is_high, is_low = fast >= slow, fast <= slow
    up = is_high[..., 1:] & ~is_low[..., 1:] & is_low[..., :-1]
    down = is_low[..., 1:] & ~is_high[..., 1:] & is_high[..., :-1]
    up_code, down_code = codes_for(side)
    codes = np.zeros(is_high.shape, dtype=np.int8)
    np.multiply(up.view(np.int8), np.int8(up_code), out=codes[..., 1:])
    down_codes = down.view(np.int8)
    down_codes *= np.int8(down_code)
    codes[..., 1:] |= down_codes  # a bar is never both
    return codes


def codes_for(side: Side) -> tuple[int, int]:
    """Return what an upward and a downward turn mean for a side.

    Raises
    ------
    SettingError
        The side is not long, short or both.
    """
    if side not in get_args(Side):
        raise SettingError(f"side is {side!r}: expected one of {', '.join(get_args(Side))}")
    return (EXIT if side == "short" else BUY), (EXIT if side == "long" else SELL)


def checked_signals(answer: object, n_bars: int, strategy: object) -> NDArray[np.int8]:
    """Return a strategy's answer as int8 codes, or say what is wrong with it.

    Raises
    ------
    StrategyError
        Wrong shape, not whole numbers, or a code that does not exist.
    """
    name = type(strategy).__name__
    codes = np.asarray(answer)
    if codes.shape != (n_bars,):
        raise StrategyError(
            f"{name}.signals answered shape {codes.shape}, expected ({n_bars},): one code for every bar"
        )
    if codes.dtype == np.int8:
        as_int8 = codes
    elif codes.dtype.kind in "iub":
        as_int8 = codes.astype(np.int8)
        if not np.array_equal(as_int8, codes):
            raise StrategyError(
                f"{name}.signals answered codes outside of {CODES}; use HOLD, BUY, SELL and EXIT"
            )
    else:
        raise StrategyError(
            f"{name}.signals answered dtype {codes.dtype}, expected whole numbers: use HOLD, BUY, SELL and "
            f"EXIT"
        )
    wrong = (as_int8 < SELL) | (as_int8 > EXIT)
    if wrong.any():
        bar = int(wrong.argmax())
        raise StrategyError(
            f"{name}.signals answered {int(as_int8[bar])} at bar {bar}, expected one of {CODES}"
        )
    return as_int8
