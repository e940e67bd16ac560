"""One ticker's deliberation: votes, turns, rulings, each by its own end of time, every failure noted."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pytest_tradeperf.pipeline.debate.answers import Opinion, opinion_of
from pytest_tradeperf.pipeline.debate.decision import (
    Action,
    Arm,
    DebateSettings,
    Decision,
    StopReason,
    action_for,
)
from pytest_tradeperf.pipeline.debate.evidence import Evidence, masked
from pytest_tradeperf.pipeline.debate.prompts import Case, judge_request, turn_request, vote_request
from pytest_tradeperf.pipeline.debate.roles import SIDES, Analyst
from pytest_tradeperf.pipeline.debate.rules import answer_by_rule
from pytest_tradeperf.pipeline.debate.statements import Ruling, Statement, Tally, Vote, tally
from pytest_tradeperf.pipeline.llm.errors import LlmError
from pytest_tradeperf.pipeline.llm.ledger import Ledger
from pytest_tradeperf.pipeline.llm.messages import Request, Usage
from pytest_tradeperf.pipeline.llm.service import AnswerService, QuestionError, read_answer
from pytest_tradeperf.pipeline.llm.tokens import reservation_tokens

VOTE_PRIORITY: Final = 20
_TURN_PRIORITY: Final = 10
_JUDGE_PRIORITY: Final = 0
"""What is nearly done goes first: a ruling frees its debate, a vote opens one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """An opinion, or why there is none."""

    opinion: Opinion | None
    error: str = ""


class Sitting:
    """Deliberates about one ticker; ``decide`` always returns, by its deadline.

    Parameters
    ----------
    spent_seconds
        How much of its time went into shared calls before it sat down.
    deadline
        When an outer deadline ends it, on the loop's clock; its own settings may end it sooner.
    """

    def __init__(
        self,
        service: AnswerService,
        settings: DebateSettings,
        evidence: Evidence,
        ledger: Ledger,
        *,
        aliases: Sequence[str] = (),
        spent_seconds: float = 0.0,
        deadline: float = float("inf"),
    ) -> None:
        self._service, self._settings, self._ledger = service, settings, ledger
        self._evidence = evidence
        self._shown = masked(evidence, aliases) if settings.is_masked else evidence
        self._label = f"{evidence.ticker}/{evidence.as_of}"
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time() - spent_seconds
        ends = (self._started + seconds for seconds in settings.stage_ends)
        self._votes_end, self._turns_end, self._rulings_end = (min(end, deadline) for end in ends)
        self._said: list[Statement] = []
        self._rulings: list[Ruling] = []
        self._degraded: set[str] = set()
        self._calls, self._usage = 0, Usage()

    async def decide(self, analysts: Sequence[Analyst], votes: Sequence[Vote] | None = None) -> Decision:
        """Return the decision; ``votes`` are taken as given where there are any."""
        if votes is None:
            votes = await self.vote(analysts)
        votes = tuple(votes)
        for vote in votes:
            if vote.error:
                self._degraded.add(f"vote/{vote.analyst}: {vote.error}")
        counted = tally(votes)
        quorum = min(self._settings.min_votes, len(analysts))
        if counted.probability is None or counted.n_votes < quorum:
            return self._decision(votes, counted, StopReason.NO_QUORUM, None)
        if not self._is_contested(counted):
            return self._decision(votes, counted, StopReason.CONSENSUS, counted.probability)
        if self._settings.arm is Arm.VOTE:
            return self._decision(votes, counted, StopReason.VOTE, counted.probability)
        reason = await self._debate(votes)
        await self._judge(votes)
        return self._decision(votes, counted, reason, self._ruled())

    async def vote(self, analysts: Sequence[Analyst]) -> tuple[Vote, ...]:
        """Return every analyst's vote, asked at once, in the order of ``analysts``."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._vote_of(analyst)) for analyst in analysts]
        return tuple(task.result() for task in tasks)

    async def _vote_of(self, analyst: Analyst) -> Vote:
        if not analyst.view(self._shown):
            return abstention(analyst, "no_evidence")
        request = vote_request(analyst, self._shown, self._settings.horizon_sessions, self._label)
        heard = await self._ask(request, VOTE_PRIORITY, self._votes_end)
        if heard.opinion is None:
            return vote_without_model(analyst, self._shown, self._settings, heard.error)
        return vote_from(analyst, heard.opinion)

    def _is_contested(self, counted: Tally) -> bool:
        settings = self._settings
        assert counted.probability is not None
        is_ambiguous = settings.ambiguous_low <= counted.probability <= settings.ambiguous_high
        return is_ambiguous or counted.agreement < settings.min_agreement

    async def _debate(self, votes: Sequence[Vote]) -> StopReason:
        """Let both sides speak at once, turn by turn, until something ends it."""
        settings = self._settings
        for turn in range(1, settings.max_turns + 1):
            if self._loop.time() >= self._turns_end:
                return StopReason.DEADLINE
            case = self._case(votes)
            requests = {side: turn_request(side, case) for side in SIDES}
            if not self._can_afford_a_turn(tuple(requests.values()), case):
                return StopReason.BUDGET
            async with asyncio.TaskGroup() as group:
                tasks = {
                    side: group.create_task(self._ask(request, _TURN_PRIORITY, self._turns_end))
                    for side, request in requests.items()
                }
            heard = {side: task.result() for side, task in tasks.items()}
            self._said += [
                Statement(
                    turn=turn,
                    side=side,
                    probability=said.opinion.probability,
                    confidence=said.opinion.confidence,
                    reason=said.opinion.reason,
                )
                for side, said in heard.items()
                if said.opinion is not None
            ]
            if reason := self._why_stop(turn, heard):
                return reason
        return StopReason.TURNS

    def _why_stop(self, turn: int, heard: dict[str, _Heard]) -> StopReason | None:
        errors = {said.error for said in heard.values() if said.opinion is None}
        if errors and all(said.opinion is None for said in heard.values()):
            if self._loop.time() >= self._turns_end:
                return StopReason.DEADLINE
            return StopReason.BUDGET if errors == {"budget"} else StopReason.ERROR
        bull, bear = (
            [s.probability for s in self._said if s.turn == turn and s.side == side] for side in SIDES
        )
        if not (bull and bear):
            return None
        if abs(bull[0] - bear[0]) <= self._settings.convergence:
            return StopReason.CONVERGENCE
        actions = {action_for(p, self._settings.margin) for p in (bull[0], bear[0])}
        return StopReason.CONSENSUS if len(actions) == 1 and Action.HOLD not in actions else None

    def _can_afford_a_turn(self, requests: Sequence[Request], case: Case) -> bool:
        """Return whether this turn and the judge after it fit in what is left of the budget."""
        judge = judge_request("bull", case)
        spoken = sum(request.max_tokens for request in requests)
        # what this turn says will be in both of the judge's prompts
        prompts = sum(reservation_tokens(request) for request in requests) - spoken
        prompts += 2 * (reservation_tokens(judge) - judge.max_tokens + spoken)
        return self._ledger.can_afford(prompt_tokens=prompts, completion_tokens=spoken + 2 * judge.max_tokens)

    def _case(self, votes: Sequence[Vote]) -> Case:
        return Case(
            evidence=self._shown,
            votes=votes,
            said=tuple(self._said),
            horizon=self._settings.horizon_sessions,
            label=self._label,
        )

    async def _judge(self, votes: Sequence[Vote]) -> None:
        """Ask for two rulings at once, each side first in one of them."""
        case = self._case(votes)
        async with asyncio.TaskGroup() as group:
            tasks = {
                first: group.create_task(
                    self._ask(judge_request(first, case), _JUDGE_PRIORITY, self._rulings_end)
                )
                for first in SIDES
            }
        self._rulings = [
            Ruling(
                first=first,
                probability=ruled.probability,
                confidence=ruled.confidence,
                reason=ruled.reason,
            )
            for first, task in tasks.items()
            if (ruled := task.result().opinion) is not None
        ]

    def _ruled(self) -> float | None:
        """Return the mean of the rulings, None without any."""
        if not self._rulings:
            return None
        return round(sum(ruling.probability for ruling in self._rulings) / len(self._rulings), 12)

    async def _ask(self, request: Request, priority: int, until: float) -> _Heard:
        """Return an opinion or the kind of failure; only cancellation gets out of here."""
        place = request.label.removeprefix(f"{self._label}/")
        try:
            answer = await self._service.ask(
                request,
                opinion_of(self._settings.reason_characters),
                ledger=self._ledger,
                deadline=until,
                priority=priority,
            )
        except QuestionError as error:
            self.count(error.spent.calls, error.spent.usage)
            kind = error.cause.kind
        else:
            self.count(answer.calls, answer.usage)
            if answer.was_repaired:
                self._degraded.add(f"{place}: repaired")
            return _Heard(opinion=answer.value)
        if not place.startswith("vote/"):  # votes carry their error themselves
            self._degraded.add(f"{place}: {kind}")
        return _Heard(opinion=None, error=kind)

    def count(self, calls: int, usage: Usage) -> None:
        """Book calls made for this ticker."""
        self._calls += calls
        self._usage += usage

    def _decision(
        self, votes: tuple[Vote, ...], counted: Tally, reason: StopReason, probability: float | None
    ) -> Decision:
        settings = self._settings
        is_debated = reason not in (StopReason.VOTE, StopReason.NO_QUORUM) and (
            counted.probability is not None and self._is_contested(counted)
        )
        action = action_for(probability, settings.margin)
        if is_debated and probability is None:
            # no ruling: a clear vote stands, an unclear one is an abstention, never a hold
            self._degraded.add("judge: no ruling, votes decide")
            action = action_for(counted.probability, settings.margin)
            action = Action.ABSTAIN if action is Action.HOLD else action
            probability = None if action is Action.ABSTAIN else counted.probability
        prices = self._ledger.prices
        saved = settings.calls_of_a_debate if reason is StopReason.CONSENSUS and not is_debated else 0
        return Decision(
            ticker=self._evidence.ticker,
            as_of=self._evidence.as_of,
            action=action,
            probability=probability,
            stop_reason=reason,
            arm=settings.arm,
            is_contested=counted.probability is not None and self._is_contested(counted),
            vote_probability=counted.probability,
            agreement=counted.agreement,
            votes=votes,
            statements=tuple(self._said),
            rulings=tuple(self._rulings),
            degraded=tuple(sorted(self._degraded)),
            calls=self._calls,
            calls_saved=saved,
            prompt_tokens=self._usage.prompt_tokens,
            completion_tokens=self._usage.completion_tokens,
            cost_usd=prices.cost_usd(self._usage.prompt_tokens, self._usage.completion_tokens),
            wall_seconds=self._loop.time() - self._started,
        )


def abstention(analyst: Analyst, error: str) -> Vote:
    """Return the vote of an analyst who has no opinion."""
    return Vote(analyst=analyst.name, probability=None, weight=analyst.weight, error=error)


def vote_from(analyst: Analyst, opinion: Opinion, error: str = "") -> Vote:
    """Return an opinion as this analyst's vote."""
    return Vote(
        analyst=analyst.name,
        probability=opinion.probability,
        confidence=opinion.confidence,
        weight=analyst.weight,
        reason=opinion.reason,
        error=error,
    )


def vote_without_model(analyst: Analyst, evidence: Evidence, settings: DebateSettings, error: str) -> Vote:
    """Return the rule's vote where the settings allow it to stand in, else the abstention."""
    if not settings.may_stand_in:
        return abstention(analyst, error)
    request = vote_request(analyst, evidence, settings.horizon_sessions, evidence.ticker)
    try:
        opinion, problem = read_answer(answer_by_rule(request), Opinion)
    except LlmError:
        opinion, problem = None, error
    if opinion is None:
        return abstention(analyst, problem)
    return vote_from(analyst, opinion, error=f"{error}, rules stood in")
