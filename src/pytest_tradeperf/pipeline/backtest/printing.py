"""How results look on the terminal and in files. No arithmetic here beyond units."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import TYPE_CHECKING, Any

from pytest_tradeperf.pipeline.backtest.metrics import METRIC_NAMES, WHOLE_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_tradeperf.pipeline.backtest.market import MarketFit
    from pytest_tradeperf.pipeline.backtest.result import BacktestResult
    from pytest_tradeperf.pipeline.backtest.sweep_result import SweepResult

PERCENT = frozenset(
    (
        *("total_return", "cagr", "volatility", "max_drawdown", "best_bar_return", "worst_bar_return"),
        *("exposure", "win_rate", "average_trade_return", "best_trade_return", "worst_trade_return"),
    )
)
LABELS = {
    "sharpe": "Sharpe (arithmetic)",
    "sharpe_geometric": "Sharpe (geometric)",
    "cagr": "CAGR",
    "sqn": "SQN",
}
MONEY = frozenset(("initial_cash", "final_equity", "fees_paid", "expectancy", "average_win", "average_loss"))


def write(text: str, path: Path | None) -> None:
    """Print the text, or put it into a file."""
    if path is not None:
        path.write_text(text, encoding="utf-8")
        return
    import click

    click.echo(text, nl=not text.endswith("\n"))


def report(result: BacktestResult, fit: MarketFit | None, *, style: str) -> str:
    """Return every metric of a run as a table, JSON or CSV."""
    record = result.as_record()
    if fit is not None:
        record |= {"alpha": fit.alpha, "beta": fit.beta, "index_correlation": _plain(fit.correlation)}
    if style == "json":
        return json.dumps(record, indent=2, allow_nan=False)
    if style == "csv":
        return _csv([["metric", "value"], *([name, _cell(value)] for name, value in record.items())])
    rows = [(LABELS.get(name, name.replace("_", " ")), shown(name, value)) for name, value in record.items()]
    note = f"\n{result.note}" if result.note else ""
    return _columns(rows) + note


def comparison(runs: list[tuple[BacktestResult, float]], *, identical: bool, style: str) -> str:
    """Return the time of each engine, and whether the results are identical."""
    slowest = max(seconds for _, seconds in runs)
    if style == "json":
        times = {result.engine: seconds for result, seconds in runs}
        return json.dumps({"seconds": times, "identical": identical, "digest": runs[0][0].digest}, indent=2)
    rows = [("engine", "milliseconds", "times faster", "final equity", "digest")]
    for result, seconds in runs:
        faster = f"{slowest / seconds:.1f}"
        rows.append(
            (result.engine, f"{seconds * 1e3:.3f}", faster, f"{result.final_equity!r}", result.digest[:16])
        )
    if style == "csv":
        return _csv([list(row) for row in rows])
    return _columns(rows) + f"\nresults identical: {'yes' if identical else 'NO'}"


def ranking(result: SweepResult, options: dict[str, Any]) -> str:
    """Return the best combinations of a sweep as a table, or all of them as CSV or JSON."""
    values = result.metric(options["metric"]).tolist()
    sign = 1.0 if options["smallest"] else -1.0
    order = sorted(
        range(len(values)), key=lambda row: math.inf if math.isnan(values[row]) else sign * values[row]
    )
    if options["style"] == "table":
        shown_names = list(
            dict.fromkeys([options["metric"], "total_return", "sharpe", "max_drawdown", "n_trades"])
        )
        rows: list[tuple[str, ...]] = [(*result.parameters, *shown_names)]
        for row in order[: options["top"]]:
            metrics = [shown(name, float(result.metric(name)[row])) for name in shown_names]
            rows.append((*map(str, result.rows[row]), *metrics))
        failed = f", {len(result.errors)} failed" if result.errors else ""
        total = f"{int(result.done.sum())} of {len(values)} combinations on {result.engine}{failed}"
        reasons = sorted(set(result.errors.values()))
        return "\n".join([_columns(rows), total, *reasons[:3], *([result.note] if result.note else [])])
    header = [*result.parameters, *METRIC_NAMES, "error"]
    body = []
    for row in order:
        named = zip(METRIC_NAMES, result.table[row].tolist(), strict=True)
        cells = [_plain(value, name) for name, value in named]
        body.append([*result.rows[row], *cells, result.errors.get(row, "")])
    if options["style"] == "json":
        return json.dumps([dict(zip(header, row, strict=True)) for row in body], indent=2, allow_nan=False)
    return _csv([header, *body])


def shown(name: str, value: Any) -> str:
    """Return a value with its unit, for people."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, str):
        return value
    if name in PERCENT:
        return f"{value:.2%}"
    if name in MONEY:
        return f"{value:,.2f}"
    return f"{value:,.0f}" if name in WHOLE_NUMBERS or isinstance(value, int) else f"{value:,.4f}"


def _plain(value: float, name: str = "") -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if name in WHOLE_NUMBERS else value


def _cell(value: Any) -> Any:
    return "" if value is None else value


def _csv(rows: list[list[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[side]) for row in rows) for side in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
