"""Votes of one analyst on several tickers from one call, and what each ticker's share of it cost."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from pytest_tradeperf.pipeline.debate.answers import Sheet, sheet_of
from pytest_tradeperf.pipeline.debate.decision import DebateSettings
from pytest_tradeperf.pipeline.debate.evidence import Evidence, masked
from pytest_tradeperf.pipeline.debate.prompts import sheet_request
from pytest_tradeperf.pipeline.debate.roles import Analyst
from pytest_tradeperf.pipeline.debate.sitting import VOTE_PRIORITY, abstention, vote_from, vote_without_model
from pytest_tradeperf.pipeline.debate.statements import Vote
from pytest_tradeperf.pipeline.llm.errors import MalformedError
from pytest_tradeperf.pipeline.llm.ledger import Ledger
from pytest_tradeperf.pipeline.llm.messages import Usage
from pytest_tradeperf.pipeline.llm.service import AnswerService, QuestionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One ticker's vote from a sheet and its part of the cost; the first ticker carries the calls."""

    vote: Vote
    calls: int = 0
    usage: Usage = Usage()  # noqa: RUF009 - frozen


Columns: TypeAlias = Mapping[str, Mapping[str, Share]]
"""Analyst, then ticker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """One ticker's votes from shared calls, its share of what those used, and how long they took."""

    seconds: float
    votes: tuple[Vote, ...]
    calls: int
    usage: Usage


def ballots_of(
    columns: Columns, analysts: Sequence[Analyst], evidences: Sequence[Evidence], seconds: float
) -> list[Ballot]:
    """Return the votes by ticker, in the order of ``evidences``; who was not asked abstains."""
    ballots = []
    for evidence in evidences:
        shares = [
            columns[analyst.name].get(evidence.ticker, Share(vote=abstention(analyst, "not_asked")))
            for analyst in analysts
        ]
        ballots.append(
            Ballot(
                seconds=seconds,
                votes=tuple(share.vote for share in shares),
                calls=sum(share.calls for share in shares),
                usage=sum((share.usage for share in shares), Usage()),
            )
        )
    return ballots


class SheetVoter:
    """Asks for sheets until a moment of the loop's clock, out of one ledger."""

    def __init__(
        self,
        service: AnswerService,
        settings: DebateSettings,
        aliases: Mapping[str, Sequence[str]],
        ledger: Ledger,
        until: float,
    ) -> None:
        self._service, self._settings, self._aliases = service, settings, aliases
        self._ledger, self._until = ledger, until

    async def columns(
        self, analysts: Sequence[Analyst], evidences: Sequence[Evidence], batch: int
    ) -> Columns:
        """Return each analyst's votes on all tickers, ``batch`` tickers a call, all calls at once."""
        chunks = [evidences[place : place + batch] for place in range(0, len(evidences), batch)]
        async with asyncio.TaskGroup() as group:
            tasks = {
                analyst.name: [group.create_task(self._sheet(analyst, chunk)) for chunk in chunks]
                for analyst in analysts
            }
        return {
            name: {
                evidence.ticker: share
                for chunk, task in zip(chunks, sheets, strict=True)
                for evidence, share in zip(chunk, task.result(), strict=True)
            }
            for name, sheets in tasks.items()
        }

    async def _sheet(self, analyst: Analyst, chunk: Sequence[Evidence]) -> list[Share]:
        """Return one analyst's votes on a chunk; whoever is missing from the answer gets an abstention.

        Of an answer that is cut off by the deadline, the items that came count.
        """
        is_masked, aliases = self._settings.is_masked, self._aliases
        shown = [masked(e, aliases.get(e.ticker, ())) if is_masked else e for e in chunk]
        told = [place for place, evidence in enumerate(shown) if analyst.view(evidence)]
        votes = [abstention(analyst, "no_evidence")] * len(chunk)
        if not told:
            return [Share(vote=vote) for vote in votes]
        request = sheet_request(
            analyst,
            [shown[place] for place in told],
            self._settings.horizon_sessions,
            [f"{chunk[place].ticker}/{chunk[place].as_of}" for place in told],
        )
        calls, usage, error = 0, Usage(), MalformedError.kind
        sheet: Sheet | None = None
        shape = sheet_of(len(told), self._settings.reason_characters)
        try:
            answer = await self._service.ask(
                request,
                shape,
                ledger=self._ledger,
                deadline=self._until,
                priority=VOTE_PRIORITY,
            )
        except QuestionError as failure:
            calls, usage, error = failure.spent.calls, failure.spent.usage, failure.cause.kind
            sheet = shape.in_part(failure.heard)
        else:
            calls, usage, sheet = answer.calls, answer.usage, answer.value
        for number, place in enumerate(told, 1):
            opinion = sheet.opinion(number) if sheet else None
            if opinion is not None:
                votes[place] = vote_from(analyst, opinion)
            else:
                votes[place] = vote_without_model(analyst, shown[place], self._settings, error)
        shares = _shared(usage, len(told))
        out = [Share(vote=vote) for vote in votes]
        for number, place in enumerate(told):
            out[place] = Share(vote=votes[place], calls=calls if number == 0 else 0, usage=shares[number])
        return out


def _shared(usage: Usage, parts: int) -> list[Usage]:
    """Return ``usage`` in equal parts, the remainder in the first, so that the parts add up."""
    each = replace(
        usage,
        prompt_tokens=usage.prompt_tokens // parts,
        completion_tokens=usage.completion_tokens // parts,
    )
    first = replace(
        usage,
        prompt_tokens=usage.prompt_tokens - each.prompt_tokens * (parts - 1),
        completion_tokens=usage.completion_tokens - each.completion_tokens * (parts - 1),
    )
    return [first, *[each] * (parts - 1)]
