"""Figures of a result; needs the ``charts`` extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tradeperf.pipeline.errors import MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tradeperf.pipeline.backtest.result import BacktestResult
    from pytest_tradeperf.pipeline.backtest.sweep_result import SweepResult


def _new_figure(**options: Any) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        message = "plots need matplotlib: install the charts extra, pip install 'pytest-tradeperf[charts]'"
        raise MissingExtraError(message) from error
    return Figure(**options)


def equity_figure(result: BacktestResult, path: str | Path | None = None) -> Any:
    """Return a figure of equity over drawdown; written to ``path`` (PNG, SVG, PDF by suffix) if given."""
    figure = _new_figure(figsize=(9, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    times = result.timestamps.astype("datetime64[ms]").astype(object)
    upper.plot(times, result.equity, linewidth=1.0)
    upper.set_title(f"{result.symbol}: {result.strategy}")
    upper.set_ylabel("equity")
    lower.fill_between(times, result.drawdown * 100.0, 0.0, color="tab:red", alpha=0.4)
    lower.set_ylabel("drawdown, %")
    if path is not None:
        figure.savefig(path)
    return figure


def sweep_figure(sweep: SweepResult, metric: str, path: str | Path | None = None) -> Any:
    """Return a heat map of a metric over the first two parameters of a sweep."""
    rows, columns, grid = sweep.heat_map(metric)
    figure = _new_figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(grid, origin="lower", aspect="auto", interpolation="nearest")
    for name, values, set_label, set_ticks in (
        (sweep.parameters[0], rows, axes.set_ylabel, axes.set_yticks),
        (sweep.parameters[1], columns, axes.set_xlabel, axes.set_xticks),
    ):
        step = max(1, len(values) // 10)
        set_label(name)
        set_ticks(range(0, len(values), step), [str(value) for value in values[::step]])
    figure.colorbar(image, label=metric)
    if path is not None:
        figure.savefig(path)
    return figure
