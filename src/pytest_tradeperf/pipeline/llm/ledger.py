"""What asking may cost and has cost: every call is reserved before it is sent, and settled after.

A ledger may be divided: a part given to one debate spends from its own limit *and* from the whole, so
debates that run at once never take each other's budget and who is refused does not depend on timing.
"""

import math
from dataclasses import dataclass

from pytest_tradeperf.pipeline.llm.errors import BudgetError
from pytest_tradeperf.pipeline.llm.messages import Request, Usage
from pytest_tradeperf.pipeline.llm.tokens import reservation_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars a million tokens; zero for a local model."""

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        for name in ("prompt", "completion"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"the {name} price must be finite and at or above zero, not {value!r}")

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the price of so many tokens in US dollars."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A ledger at one moment. ``unaccounted_tokens`` were reserved for calls whose usage was never told."""

    calls: int
    refused: int
    prompt_tokens: int
    completion_tokens: int
    unaccounted_tokens: int
    overrun_tokens: int
    reserved_tokens: int
    cost_usd: float

    @property
    def total_tokens(self) -> int:
        """Tokens known to be spent, without the unaccounted."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(slots=True, kw_only=True)
class _Account:
    """One limit and everything booked against it."""

    max_tokens: int | None
    max_cost_usd: float | None
    calls: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unaccounted_tokens: int = 0
    overrun_tokens: int = 0
    reserved_tokens: int = 0
    reserved_usd: float = 0.0
    cost_usd: float = 0.0

    @property
    def remaining_tokens(self) -> int | None:
        if self.max_tokens is None:
            return None
        spent = self.prompt_tokens + self.completion_tokens + self.unaccounted_tokens
        return max(0, self.max_tokens - spent - self.reserved_tokens)

    @property
    def remaining_usd(self) -> float | None:
        if self.max_cost_usd is None:
            return None
        return max(0.0, self.max_cost_usd - self.cost_usd - self.reserved_usd)

    def refusal(self, tokens: int, usd: float) -> str:
        """Return why so much cannot be set aside, or ""."""
        left, left_usd = self.remaining_tokens, self.remaining_usd
        if left is not None and tokens > left:
            return f"{tokens} tokens were asked for and {left} are left of {self.max_tokens}"
        if left_usd is not None and usd > left_usd:
            return f"${usd:.6f} was asked for and ${left_usd:.6f} is left of ${self.max_cost_usd:.6f}"
        return ""


class Reservation:
    """Tokens set aside for one call. Settle, forfeit or release it; the first of them counts."""

    def __init__(
        self, accounts: tuple[_Account, ...], prices: Prices, prompt_tokens: int, completion_tokens: int
    ) -> None:
        self.tokens = prompt_tokens + completion_tokens
        self.cost_usd = prices.cost_usd(prompt_tokens, completion_tokens)
        self._accounts, self._prices = accounts, prices
        self._is_open = True
        for account in accounts:
            account.reserved_tokens += self.tokens
            account.reserved_usd += self.cost_usd

    def settle(self, usage: Usage) -> None:
        """Replace the reservation by what the endpoint reported."""
        if not self._close():
            return
        for account in self._accounts:
            account.calls += 1
            account.prompt_tokens += usage.prompt_tokens
            account.completion_tokens += usage.completion_tokens
            account.overrun_tokens += max(0, usage.total_tokens - self.tokens)
            account.cost_usd += self._prices.cost_usd(usage.prompt_tokens, usage.completion_tokens)

    def forfeit(self) -> None:
        """Keep the whole reservation spent: the call was sent and nobody told what it used."""
        if not self._close():
            return
        for account in self._accounts:
            account.calls += 1
            account.unaccounted_tokens += self.tokens
            account.cost_usd += self.cost_usd

    def release(self) -> None:
        """Give everything back: the call was never sent, refused, or answered from a cache."""
        self._close()

    def _close(self) -> bool:
        was_open, self._is_open = self._is_open, False
        if was_open:
            for account in self._accounts:
                account.reserved_tokens -= self.tokens
                # float sums do not cancel exactly: never below nothing
                account.reserved_usd = max(0.0, account.reserved_usd - self.cost_usd)
        return was_open


class Ledger:
    """Limits on tokens and money (None: no limit), and what has been spent of them.

    Not for threads: one event loop owns a ledger.

    Examples
    --------
    >>> ledger = Ledger(max_tokens=1000)
    >>> ledger.reserve_tokens(prompt_tokens=300, completion_tokens=100).settle(Usage(prompt_tokens=210))
    >>> ledger.remaining_tokens
    790
    """

    def __init__(
        self,
        *,
        max_tokens: int | None = None,
        max_cost_usd: float | None = None,
        prices: Prices = Prices(),
    ) -> None:
        for name, value in (("max_tokens", max_tokens), ("max_cost_usd", max_cost_usd)):
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and at or above zero, or None, not {value!r}")
        self.prices = prices
        self._account = _Account(max_tokens=max_tokens, max_cost_usd=max_cost_usd)
        self._accounts: tuple[_Account, ...] = (self._account,)

    def divide(self, parts: int) -> "tuple[Ledger, ...]":
        """Return ``parts`` ledgers that share what is left equally; what they spend is booked here too."""
        if parts < 1:
            raise ValueError(f"a ledger is divided into at least one part, not {parts!r}")
        tokens, usd = self.remaining_tokens, self.remaining_cost_usd
        return tuple(
            self._part(None if tokens is None else tokens // parts, None if usd is None else usd / parts)
            for _ in range(parts)
        )

    def _part(self, max_tokens: int | None, max_cost_usd: float | None) -> "Ledger":
        part = Ledger(max_tokens=max_tokens, max_cost_usd=max_cost_usd, prices=self.prices)
        part._accounts += self._accounts
        return part

    @property
    def remaining_tokens(self) -> int | None:
        """Tokens neither spent nor set aside; None without a limit."""
        return self._account.remaining_tokens

    @property
    def remaining_cost_usd(self) -> float | None:
        """Dollars neither spent nor set aside; None without a limit."""
        return self._account.remaining_usd

    def can_afford(self, *, prompt_tokens: int, completion_tokens: int) -> bool:
        """Return whether so many tokens could be set aside now."""
        usd = self.prices.cost_usd(prompt_tokens, completion_tokens)
        return not any(account.refusal(prompt_tokens + completion_tokens, usd) for account in self._accounts)

    def reserve(self, request: Request) -> Reservation:
        """Set aside the most ``request`` can use.

        Raises
        ------
        BudgetError
            Less is left, here or in the ledger this one is a part of. Nothing was set aside.
        """
        bound = reservation_tokens(request)
        return self.reserve_tokens(
            prompt_tokens=bound - request.max_tokens, completion_tokens=request.max_tokens
        )

    def reserve_tokens(self, *, prompt_tokens: int, completion_tokens: int) -> Reservation:
        """Set aside so many tokens; raises BudgetError where less is left."""
        asked = prompt_tokens + completion_tokens
        usd = self.prices.cost_usd(prompt_tokens, completion_tokens)
        refusals = [text for account in self._accounts if (text := account.refusal(asked, usd))]
        if refusals:
            for account in self._accounts:
                account.refused += 1
            raise BudgetError(f"{refusals[0]}: raise the budget or ask for less")
        return Reservation(self._accounts, self.prices, prompt_tokens, completion_tokens)

    def statement(self) -> Statement:
        """Return what has been spent, refused and set aside so far."""
        account = self._account
        return Statement(
            calls=account.calls,
            refused=account.refused,
            prompt_tokens=account.prompt_tokens,
            completion_tokens=account.completion_tokens,
            unaccounted_tokens=account.unaccounted_tokens,
            overrun_tokens=account.overrun_tokens,
            reserved_tokens=account.reserved_tokens,
            cost_usd=account.cost_usd,
        )
