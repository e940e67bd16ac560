"""Does a strategy or a feature know the future? Cut the bars short, and see whether the past changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.errors import PipelineError, SettingError, StrategyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.marketdata.bars import Bars


@dataclass(frozen=True, slots=True, kw_only=True)
class LookaheadReport:
    """What cutting the bars at random places showed.

    Attributes
    ----------
    name
        What was checked.
    n_cuts
        Cuts tried.
    first_changed_bar
        The earliest bar whose value depends on bars after it, or None.
    cut
        Number of bars left when it changed, or None.
    before, after
        That bar's value with all bars, and with the cut; None without a change.
    """

    name: str
    n_cuts: int
    first_changed_bar: int | None = None
    cut: int | None = None
    before: float | None = None
    after: float | None = None

    @property
    def is_clean(self) -> bool:
        """Whether no past value changed."""
        return self.first_changed_bar is None

    def __str__(self) -> str:
        """Return one line."""
        if self.is_clean:
            return f"{self.name}: no look-ahead in {self.n_cuts} cuts"
        return (
            f"{self.name} looks ahead: bar {self.first_changed_bar} is {self.before} with all bars and "
            f"{self.after} with the first {self.cut}"
        )


def check_lookahead(
    strategy_or_feature: Any, bars: Bars, *, n_cuts: int = 25, seed: int = 0
) -> LookaheadReport:
    """Return whether values of past bars change when later bars are taken away.

    Parameters
    ----------
    strategy_or_feature
        A strategy, or a function from bars to an array whose first axis is the bars (or a tuple of such).
    n_cuts
        Random places at which to cut, beside the one that takes away only the last bar.

    Raises
    ------
    SettingError
        Fewer than two bars or no cut: nothing could show.
    StrategyError
        It raised, or its answer is not one value a bar.

    Examples
    --------
    >>> from pytest_tradeperf.pipeline.marketdata import load_bars
    >>> check_lookahead(lambda bars: bars.close - bars.close[-1], load_bars("FB")).first_changed_bar
    0
    """
    if len(bars) < 2 or n_cuts < 1:  # noqa: PLR2004 - a past and a future
        raise SettingError(f"{len(bars)} bars and n_cuts={n_cuts!r}: expected at least 2 bars and 1 cut")
    name, answer = _asked(strategy_or_feature)
    whole = _table(name, answer(bars), len(bars))
    random = np.random.default_rng(seed)
    cuts = {len(bars) - 1, *random.integers(1, len(bars), size=n_cuts).tolist()}
    found: LookaheadReport | None = None
    for cut in sorted(cuts):
        part = _table(name, answer(bars[:cut]), cut)
        same = (whole[:cut] == part) | (np.isnan(whole[:cut]) & np.isnan(part))
        if same.all():
            continue
        bar, column = (int(place) for place in np.argwhere(~same)[0])
        if found is None or found.first_changed_bar is None or bar < found.first_changed_bar:
            found = LookaheadReport(
                name=name,
                n_cuts=len(cuts),
                first_changed_bar=bar,
                cut=cut,
                before=float(whole[bar, column]),
                after=float(part[bar, column]),
            )
    return found or LookaheadReport(name=name, n_cuts=len(cuts))


def _asked(thing: Any) -> tuple[str, Callable[[Bars], Any]]:
    is_strategy = callable(getattr(thing, "signals", None))
    call = thing.signals if is_strategy else thing
    if not callable(call):
        raise SettingError(f"{thing!r} is neither a strategy nor a function of bars")
    name = type(thing).__name__ if is_strategy else getattr(thing, "__name__", repr(thing))

    def answer(bars: Bars) -> Any:
        try:
            return call(bars)
        except PipelineError:
            raise
        except Exception as error:
            raise StrategyError(
                f"{name} raised {type(error).__name__} on {len(bars)} bars: {error}"
            ) from error

    return name, answer


def _table(name: str, answer: Any, n_bars: int) -> NDArray[np.float64]:
    columns = answer if isinstance(answer, tuple) else (answer,)
    try:
        arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    except (TypeError, ValueError) as error:
        raise StrategyError(f"{name} answered something that is no array of numbers: {error}") from error
    shapes = [array.shape for array in arrays]
    if any(shape[:1] != (n_bars,) for shape in shapes):
        raise StrategyError(f"{name} answered shapes {shapes} for {n_bars} bars: expected one value a bar")
    return np.concatenate([array.reshape(n_bars, -1) for array in arrays], axis=1)
