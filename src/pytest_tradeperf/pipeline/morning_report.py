"""Writes a morning report as Markdown and as HTML. Strangers' words are escaped in both."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jinja2

from pytest_tradeperf.pipeline.desk import Outcome
from pytest_tradeperf.pipeline.morning import MorningReport, Tracked
from pytest_tradeperf.pipeline.stages import stage_table

_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>|~])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A titled table of plain text."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One ticker: its line, tables and what was said about it."""

    title: str
    lines: tuple[str, ...]
    tables: tuple[Table, ...]
    said: tuple[str, ...]
    charts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The report as both writers print it: every number is already text."""

    title: str
    summary: tuple[str, ...]
    tables: tuple[Table, ...]
    sections: tuple[Section, ...]
    degraded: tuple[str, ...]
    stages: tuple[str, ...]


def write_report(report: MorningReport, folder: Path) -> tuple[Path, Path]:
    """Return the Markdown and the HTML file, written whole and renamed into place.

    Raises
    ------
    OSError
        The folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document = document_of(report, folder)
    paths = folder / "morning.md", folder / "morning.html"
    for path, text in zip(paths, (to_markdown(document), to_html(document)), strict=True):
        part = path.with_name(path.name + ".part")
        part.write_text(text, "utf-8")
        part.replace(path)
    return paths


def document_of(report: MorningReport, folder: Path) -> Document:
    """Return the report in words."""
    ledger = report.ledger
    state = "" if report.is_complete else " (cut short)"
    decided = f"{len(report.outcomes)} of {len(report.tickers)} tickers decided"
    calls = f"{ledger.calls} model calls, {report.calls_saved} saved"
    return Document(
        title=f"Morning report {report.as_of[:10]}{state}",
        summary=(
            f"{decided} in {report.wall_seconds:.1f} s, {report.stored} stored",
            f"{calls}, {ledger.total_tokens:,} tokens, ${ledger.cost_usd:.4f}",
            str(report.resources),
        ),
        tables=(
            _decisions(report.outcomes),
            _validation(report),
            _sizing(report.outcomes),
            _tracking(report.tracked),
        ),
        sections=tuple(_section(outcome, report, folder) for outcome in report.outcomes),
        degraded=report.degraded,
        stages=tuple(stage_table(report.stages, report.wall_seconds)),
    )


def to_markdown(document: Document) -> str:
    """Return the document as GitHub-flavoured Markdown."""
    lines = [f"# {_plain(document.title)}", "", *(f"- {_plain(line)}" for line in document.summary), ""]
    for table in document.tables:
        lines += [f"## {_plain(table.title)}", "", *_markdown_table(table), ""]
    for section in document.sections:
        lines += [f"## {_plain(section.title)}", ""]
        lines += [*(f"- {_plain(line)}" for line in section.lines), ""]
        lines += (
            [*(f"![{_plain(chart)}](<{chart}>)" for chart in section.charts), ""] if section.charts else []
        )
        for table in section.tables:
            lines += [f"### {_plain(table.title)}", "", *_markdown_table(table), ""]
        lines += [*(f"> {_plain(line)}" for line in section.said), ""] if section.said else []
    lines += ["## Degraded", "", *(f"- {_plain(line)}" for line in document.degraded or ("nothing",)), ""]
    return "\n".join([*lines, "## Where the time went", "", "```", *document.stages, "```", ""])


def to_html(document: Document) -> str:
    """Return the document as one HTML page without scripts or outside resources."""
    loader = jinja2.PackageLoader("pytest_tradeperf.pipeline", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("morning.html").render(document=document)


def _decisions(outcomes: Sequence[Outcome]) -> Table:
    return Table(
        title="Decisions",
        head=("ticker", "action", "rise", "agreement", "votes", "decided by", "calls", "seconds"),
        rows=tuple(
            (
                d.ticker,
                d.action.value,
                _percent(d.probability),
                _percent(d.agreement),
                f"{sum(v.probability is not None for v in d.votes)} of {len(d.votes)}",
                d.stop_reason.value,
                str(d.calls),
                f"{d.wall_seconds:.2f}",
            )
            for d in (outcome.decision for outcome in outcomes)
        ),
    )


def _validation(report: MorningReport) -> Table:
    return Table(
        title="Validation",
        head=("ticker", "data", "bars", "mood", "headlines", "checks"),
        rows=tuple(
            (
                r.ticker,
                r.quality.value,
                str(len(r.bars) if r.bars is not None else 0),
                r.mood.value,
                str(len(r.news.headlines)),
                "; ".join(r.checks) or "passed",
            )
            for r in report.researched
        ),
    )


def _sizing(outcomes: Sequence[Outcome]) -> Table:
    return Table(
        title="Sizing",
        head=("ticker", "shares", "entry", "stop", "of account", "why"),
        rows=tuple(
            (
                outcome.decision.ticker,
                f"{p.quantity:+g}",
                f"{p.entry_price:,.2f}",
                "" if p.stop_price is None else f"{p.stop_price:,.2f}",
                f"{p.share:+.1%}",
                p.note,
            )
            for outcome in outcomes
            if (p := outcome.position) is not None
        ),
        empty="no positions",
    )


def _tracking(tracked: Sequence[Tracked]) -> Table:
    return Table(
        title="Tracking",
        head=("ticker", "since", "shares", "entry", "now", "gain"),
        rows=tuple(
            (
                t.trade.ticker,
                t.trade.since,
                f"{t.trade.quantity:+g}",
                f"{t.trade.entry_price:,.2f}",
                "" if t.price is None else f"{t.price:,.2f}",
                "" if t.gain is None else f"{t.gain:+.1%}",
            )
            for t in tracked
        ),
        empty="no open trades",
    )


def _section(outcome: Outcome, report: MorningReport, folder: Path) -> Section:
    decision, researched = outcome.decision, outcome.researched
    facts = ", ".join(f"{name} {value:g}" for name, value in researched.evidence.facts.items())
    return Section(
        title=f"{decision.ticker}: {decision.action.value}",
        lines=(
            (
                f"rise within the horizon {_percent(decision.probability)},"
                f" by votes alone {_percent(decision.vote_probability)}"
            ),
            f"evidence: {facts or 'none'}",
            *(f"headline: {text}" for text in researched.evidence.headlines),
        ),
        tables=(
            Table(
                title="Votes",
                head=("analyst", "rise", "confidence", "reason"),
                rows=tuple(
                    (v.analyst, _percent(v.probability), _percent(v.confidence), v.reason or v.error)
                    for v in decision.votes
                ),
            ),
        ),
        said=(
            *(f"turn {s.turn}, {s.side} {_percent(s.probability)}: {s.reason}" for s in decision.statements),
            *(f"judge, {r.first} first, {_percent(r.probability)}: {r.reason}" for r in decision.rulings),
        ),
        charts=tuple(_relative(path, folder) for path in report.charts.get(decision.ticker, ())),
    )


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _percent(share: float | None) -> str:
    return "abstains" if share is None else f"{share:.1%}"


def _plain(text: str) -> str:
    """Return text that Markdown prints as it is."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _markdown_table(table: Table) -> list[str]:
    if not table.rows:
        return [_plain(table.empty)]
    return [
        f"| {' | '.join(table.head)} |",
        f"|{' --- |' * len(table.head)}",
        *(f"| {' | '.join(_plain(cell) for cell in row)} |" for row in table.rows),
    ]
