"""Decisions for one ticker or for many: who sits when, who shares a call, who pays from which part."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pytest_tradeperf.pipeline.debate.answers import Sheet, sheet_of
from pytest_tradeperf.pipeline.debate.decision import DebateSettings, Decision
from pytest_tradeperf.pipeline.debate.evidence import Evidence, masked
from pytest_tradeperf.pipeline.debate.prompts import sheet_request
from pytest_tradeperf.pipeline.debate.roles import ANALYSTS, Analyst
from pytest_tradeperf.pipeline.debate.sitting import VOTE_PRIORITY, Sitting, abstention, vote_from
from pytest_tradeperf.pipeline.debate.statements import Vote
from pytest_tradeperf.pipeline.llm.errors import MalformedError
from pytest_tradeperf.pipeline.llm.ledger import Ledger
from pytest_tradeperf.pipeline.llm.messages import Usage
from pytest_tradeperf.pipeline.llm.service import AnswerService, QuestionError

_SLOTS_PER_SITTING: Final = 3
"""Sittings at once = queue workers / 3: four votes fit in two rounds of slots, well within their time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ballot:
    """One ticker's votes from shared calls, its share of what those used, and how long they took."""

    seconds: float
    votes: tuple[Vote, ...]
    calls: int
    usage: Usage


class Panel:
    """Analysts, two sides and a judge.

    Parameters
    ----------
    aliases
        For masking: other words that give a ticker away, by ticker.
    """

    def __init__(
        self,
        service: AnswerService,
        *,
        analysts: Sequence[Analyst] = ANALYSTS,
        settings: DebateSettings = DebateSettings(),  # noqa: B008 - frozen
        aliases: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        names = [analyst.name for analyst in analysts]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a panel needs analysts with different names, not {names!r}")
        self._service, self._analysts, self.settings = service, tuple(analysts), settings
        self._aliases = aliases or {}

    async def decide(
        self, evidence: Evidence, *, ledger: Ledger | None = None, deadline: float = math.inf
    ) -> Decision:
        """Return the decision for one ticker, by its settings' deadline or ``deadline`` (loop's clock)."""
        return await self._sitting(evidence, ledger or Ledger(), deadline).decide(self._analysts)

    async def decide_many(
        self,
        evidences: Sequence[Evidence],
        *,
        ledger: Ledger | None = None,
        deadline: float = math.inf,
        batch: int = 1,
        on_decision: Callable[[Decision], object] | None = None,
    ) -> tuple[Decision, ...]:
        """Return the decisions in the order of ``evidences``.

        Each ticker's time begins when it gets a seat (shared calls count against it), and each has an
        equal part of the budget, so none can starve another.

        Parameters
        ----------
        batch
            Tickers that share one call for each analyst's vote; 1: every vote is its own call.
        on_decision
            Told every decision as it is made: what is left when the whole is cancelled.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch!r}")
        if not evidences:
            return ()
        ledger = ledger or Ledger()
        ballots: Sequence[_Ballot | None] = [None] * len(evidences)
        if batch > 1:
            ballots = await self._ballots(evidences, ledger, batch, deadline)
        seats = asyncio.Semaphore(max(1, self._service.queue.workers // _SLOTS_PER_SITTING))

        async def decide(evidence: Evidence, part: Ledger, ballot: _Ballot | None) -> Decision:
            async with seats:
                sitting = self._sitting(evidence, part, deadline, ballot.seconds if ballot else 0.0)
                if ballot is not None:
                    sitting.count(ballot.calls, ballot.usage)
                decision = await sitting.decide(self._analysts, ballot.votes if ballot else None)
            if on_decision is not None:
                on_decision(decision)
            return decision

        parts = ledger.divide(len(evidences))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(decide(evidence, part, ballot))
                for evidence, part, ballot in zip(evidences, parts, ballots, strict=True)
            ]
        return tuple(task.result() for task in tasks)

    def _sitting(
        self, evidence: Evidence, ledger: Ledger, deadline: float, spent_seconds: float = 0.0
    ) -> Sitting:
        return Sitting(
            self._service,
            self.settings,
            evidence,
            ledger,
            aliases=self._aliases.get(evidence.ticker, ()),
            spent_seconds=spent_seconds,
            deadline=deadline,
        )

    async def _ballots(
        self, evidences: Sequence[Evidence], ledger: Ledger, batch: int, deadline: float
    ) -> list[_Ballot]:
        """Return every ticker's votes, each analyst asked once for ``batch`` tickers."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        until = min(deadline, started + self.settings.stage_ends[0])
        chunks = [evidences[place : place + batch] for place in range(0, len(evidences), batch)]
        async with asyncio.TaskGroup() as group:
            tasks = [
                [group.create_task(self._sheet(analyst, chunk, ledger, until)) for analyst in self._analysts]
                for chunk in chunks
            ]
        seconds = loop.time() - started
        ballots: list[_Ballot] = []
        for chunk, sheets in zip(chunks, tasks, strict=True):
            columns = [sheet.result() for sheet in sheets]
            ballots += [
                _Ballot(
                    seconds=seconds,
                    votes=tuple(column[row].vote for column in columns),
                    calls=sum(column[row].calls for column in columns),
                    usage=sum((column[row].usage for column in columns), Usage()),
                )
                for row in range(len(chunk))
            ]
        return ballots

    async def _sheet(
        self, analyst: Analyst, chunk: Sequence[Evidence], ledger: Ledger, until: float
    ) -> "list[_Share]":
        """Return one analyst's votes on a chunk; whoever is missing from the answer gets an abstention."""
        shown = [masked(e, self._aliases.get(e.ticker, ())) if self.settings.is_masked else e for e in chunk]
        told = [place for place, evidence in enumerate(shown) if analyst.view(evidence)]
        votes = [abstention(analyst, "no_evidence")] * len(chunk)
        if not told:
            return [_Share(vote=vote) for vote in votes]
        request = sheet_request(
            analyst,
            [shown[place] for place in told],
            self.settings.horizon_sessions,
            [f"{chunk[place].ticker}/{chunk[place].as_of}" for place in told],
        )
        calls, usage, error = 0, Usage(), MalformedError.kind
        sheet: Sheet | None = None
        try:
            answer = await self._service.ask(
                request, sheet_of(len(told)), ledger=ledger, deadline=until, priority=VOTE_PRIORITY
            )
        except QuestionError as failure:
            calls, usage, error = failure.spent.calls, failure.spent.usage, failure.cause.kind
        except Exception as failure:  # noqa: BLE001 - a broken model must not end the panel
            error = f"error {type(failure).__name__}"
        else:
            calls, usage, sheet = answer.calls, answer.usage, answer.value
        for number, place in enumerate(told, 1):
            opinion = sheet.opinion(number) if sheet else None
            if opinion is not None:
                votes[place] = vote_from(analyst, opinion)
            else:
                sitting = self._sitting(chunk[place], ledger, until)
                votes[place] = sitting.vote_without_model(analyst, error)
        shares = _shared(usage, len(told))
        out = [_Share(vote=vote) for vote in votes]
        for number, place in enumerate(told):
            out[place] = _Share(vote=votes[place], calls=calls if number == 0 else 0, usage=shares[number])
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """One ticker's vote from a sheet and its part of the cost; the first ticker carries the calls."""

    vote: Vote
    calls: int = 0
    usage: Usage = Usage()  # noqa: RUF009 - frozen


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
