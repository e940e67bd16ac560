"""Decisions for one ticker or for many: who sits when, who shares a call, who pays from which part."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from pytest_tradeperf.pipeline.debate.decision import DebateSettings, Decision
from pytest_tradeperf.pipeline.debate.evidence import Evidence
from pytest_tradeperf.pipeline.debate.roles import ANALYSTS, Analyst
from pytest_tradeperf.pipeline.debate.sheets import Ballot, Columns, Share, SheetVoter, ballots_of
from pytest_tradeperf.pipeline.debate.sitting import Sitting
from pytest_tradeperf.pipeline.llm.ledger import Ledger
from pytest_tradeperf.pipeline.llm.service import AnswerService

_SLOTS_PER_SITTING: Final = 3
"""Sittings at once = queue workers / 3: four votes fit in two rounds of slots, well within their time."""


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
        early: Sequence[Awaitable[Columns]] = (),
        on_decision: Callable[[Decision], object] | None = None,
    ) -> tuple[Decision, ...]:
        """Return the decisions in the order of ``evidences``.

        Each ticker's time begins when it gets a seat (shared calls count against it), and each has an
        equal part of the budget, so none can starve another.

        Parameters
        ----------
        batch
            Tickers that share one call for each analyst's vote; 1: every vote is its own call.
        early
            What ``vote_early`` gives for the same tickers, in parts; those analysts are not asked again, and
            the others are asked while it is still under way. Only with ``batch`` above 1.
        on_decision
            Told every decision as it is made: what is left when the whole is cancelled.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch!r}")
        if not evidences:
            return ()
        ledger = ledger or Ledger()
        ballots: Sequence[Ballot | None] = [None] * len(evidences)
        if batch > 1:
            ballots = await self._ballots(evidences, ledger, batch, deadline, early)
        seats = asyncio.Semaphore(max(1, self._service.queue.workers // _SLOTS_PER_SITTING))

        async def decide(evidence: Evidence, part: Ledger, ballot: Ballot | None) -> Decision:
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

    @property
    def mean_first_token_seconds(self) -> float | None:
        """Mean time to the first token of the model's streamed answers; None without any."""
        return self._service.mean_first_token_seconds

    @property
    def has_early_voters(self) -> bool:
        """Whether any analyst can vote before the news is there."""
        return not all(analyst.reads_news for analyst in self._analysts)

    async def vote_early(
        self, evidences: Sequence[Evidence], *, ledger: Ledger, deadline: float, batch: int
    ) -> Columns:
        """Return the votes of the analysts that need no news, for ``decide_many`` once the news is there."""
        waiting = [analyst for analyst in self._analysts if not analyst.reads_news]
        return await self._sheets(waiting, evidences, ledger, batch, deadline)

    async def _ballots(
        self,
        evidences: Sequence[Evidence],
        ledger: Ledger,
        batch: int,
        deadline: float,
        early: Sequence[Awaitable[Columns]],
    ) -> list[Ballot]:
        """Return every ticker's votes, each analyst asked once for ``batch`` tickers."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        asked = [analyst for analyst in self._analysts if not early or analyst.reads_news]
        parts = [
            await self._sheets(asked, evidences, ledger, batch, deadline),
            *[await part for part in early],
        ]
        columns: dict[str, dict[str, Share]] = {analyst.name: {} for analyst in self._analysts}
        for part in parts:
            for name, shares in part.items():
                columns[name] |= shares
        return ballots_of(columns, self._analysts, evidences, loop.time() - started)

    async def _sheets(
        self,
        analysts: Sequence[Analyst],
        evidences: Sequence[Evidence],
        ledger: Ledger,
        batch: int,
        deadline: float,
    ) -> Columns:
        until = min(deadline, asyncio.get_running_loop().time() + self.settings.stage_ends[0])
        voter = SheetVoter(self._service, self.settings, self._aliases, ledger, until)
        return await voter.columns(analysts, evidences, batch)

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
