"""A chat model without a model: rules of thumb that read the same prompts and answer in the same shapes.

The offline default. It makes the whole path real (prompts, schema, budget, queue, cassettes, judge)
with no key, no network and no chance: equal prompts get equal answers on every machine.
"""

import asyncio
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pytest_tradeperf.pipeline.llm.errors import MalformedError
from pytest_tradeperf.pipeline.llm.messages import Completion, Request, Usage
from pytest_tradeperf.pipeline.llm.tokens import count_tokens, prompt_tokens

_ROLE: Final = re.compile(r"^Role: (\w+)\.")
_ITEM: Final = re.compile(r"<data>(.*)</data>", re.DOTALL)
_CONCESSION: Final = 0.4
"""How much of the distance to the other side's last word an advocate gives up each turn."""
_ADVOCACY: Final = 0.18
_WORDS: Final = {
    "beat": 1, "beats": 1, "raises": 1, "raised": 1, "upgrade": 1, "upgraded": 1, "record": 1,
    "surge": 1, "surges": 1, "growth": 1, "profit": 1, "buyback": 1, "strong": 1, "wins": 1, "approval": 1,
    "miss": -1, "misses": -1, "cuts": -1, "cut": -1, "downgrade": -1, "downgraded": -1, "lawsuit": -1,
    "probe": -1, "recall": -1, "warning": -1, "loss": -1, "losses": -1, "weak": -1, "fraud": -1,
    "bankruptcy": -1, "layoffs": -1, "plunge": -1, "plunges": -1,
}  # fmt: skip
"""Finance words that general lexicons miss or read the other way; a ``sentiment`` fact outranks them."""


class RuleModel:
    """Answers votes, arguments and rulings by rule.

    Parameters
    ----------
    seconds
        How long an answer takes on the loop's clock, as a function of the request; at once by default.
        ``seeded_seconds`` gives delays like a real model's.
    """

    def __init__(self, seconds: Callable[[Request], float] | None = None) -> None:
        self._seconds = seconds

    async def complete(self, request: Request) -> Completion:
        """Return what the role named in the prompt says about the data in it."""
        wait = self._seconds(request) if self._seconds else 0.0
        await asyncio.sleep(wait)
        text = answer_by_rule(request)
        used = Usage(
            prompt_tokens=prompt_tokens(request), completion_tokens=count_tokens(text), is_reported=False
        )
        return Completion(text=text, usage=used, wall_seconds=wait)


def seeded_seconds(seed: int, low: float, high: float) -> Callable[[Request], float]:
    """Return a function that gives each request its own delay in [low, high), the same in every run."""

    def seconds(request: Request) -> float:
        digest = hashlib.sha256(f"{seed}:{request.key}".encode()).digest()
        return low + (high - low) * int.from_bytes(digest[:8], "big") / 2**64

    return seconds


def answer_by_rule(request: Request) -> str:
    """Return the JSON answer to a prompt of ``prompts``; raises MalformedError for any other prompt."""
    role = _ROLE.match(request.messages[0].content)
    found = next((m for message in request.messages[1:] if (m := _ITEM.search(message.content))), None)
    try:
        data = json.loads(found[1]) if found else None
    except ValueError as error:
        raise MalformedError(f"the rules cannot read the quoted data: {error}") from error
    if role is None or data is None or (role[1] not in _SPEAKERS):
        raise MalformedError("the rules answer only prompts of the debate: use a language model for others")
    speak = _SPEAKERS[role[1]]
    if "items" in data:
        return json.dumps({item["item"]: speak(item) for item in data["items"]})
    return json.dumps(speak(data))


def _opinion(score: float, reach: float, reason: str) -> dict[str, Any]:
    """Return an opinion whose probability leans at most ``reach`` from even odds, the further the surer."""
    lean = math.tanh(score)
    return {
        "probability": round(0.5 + reach * lean, 4),
        "confidence": round(min(1.0, 0.2 + 0.8 * abs(lean)), 4),
        "reason": reason,
    }


def _trend(data: Mapping[str, Any]) -> dict[str, Any]:
    facts = data.get("facts", {})
    month, quarter = facts.get("return_20", 0.0), facts.get("return_60", 0.0)
    gap, cross = facts.get("sma_gap", 0.0), facts.get("sma_cross", 0.0)
    reason = f"20-bar return {month:+.1%}, close {gap:+.1%} from its 50-bar average"
    return _opinion(2 * month + 2 * quarter + 3 * gap + 8 * cross, 0.25, reason)


def _reversion(data: Mapping[str, Any]) -> dict[str, Any]:
    facts = data.get("facts", {})
    rsi, band = facts.get("rsi_14", 50.0), facts.get("band_position", 0.5)
    reason = f"RSI {rsi:.0f}, at {band:.0%} of the band"
    return _opinion(-(((rsi - 50) / 25) ** 3) - (band - 0.5) - 3 * facts.get("return_5", 0.0), 0.2, reason)


def _volatility(data: Mapping[str, Any]) -> dict[str, Any]:
    facts = data.get("facts", {})
    ratio, drawdown = facts.get("volatility_ratio", 1.0), facts.get("drawdown_60", 0.0)
    reason = f"volatility {ratio:.2f} of its longer self, {drawdown:.1%} below the 60-bar high"
    return _opinion(1.2 * (1.0 - ratio) + 1.5 * (drawdown + 0.05), 0.15, reason)


def _sentiment(data: Mapping[str, Any]) -> dict[str, Any]:
    facts = data.get("facts", {})
    words = [w for text in data.get("headlines", ()) for w in re.findall(r"[a-z]+", str(text).lower())]
    lexicon = math.tanh(sum(_WORDS.get(word, 0) for word in words) / 2)
    mood = facts.get("sentiment", lexicon)
    crowd = 1.0 - min(3.0, facts.get("put_call", 1.0))
    return _opinion(1.5 * mood + 0.4 * crowd, 0.25, f"news mood {mood:+.2f}, put/call lean {crowd:+.2f}")


def _advocate(side: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lean of the votes pushed one way, less what the other side's last word takes away."""
    sign = 1 if side == "bull" else -1
    lean = _mean(data.get("votes", ()))
    mine = min(0.98, max(0.02, lean + sign * _ADVOCACY))
    for statement in data.get("said", ()):
        if statement["side"] != side:
            mine += _CONCESSION * (statement["probability"] - mine)
    for_me = [v["analyst"] for v in data.get("votes", ()) if sign * (v["probability"] - 0.5) > 0]
    reason = f"{' and '.join(for_me)} speak for it" if for_me else "the case against is priced in"
    return {"probability": round(mine, 4), "confidence": round(0.5 + abs(mine - 0.5), 4), "reason": reason}


def _judge(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the votes and each side's last word, weighted by confidence; order plays no part."""
    last: dict[str, float] = {}
    for statement in sorted(data.get("said", ()), key=lambda s: s["turn"]):
        last[statement["side"]] = statement["probability"]
    votes = _mean(data.get("votes", ()))
    sides = math.fsum(last.values()) / len(last) if last else votes
    probability = 0.5 * votes + 0.5 * sides
    reason = f"votes say {votes:.2f}, the sides meet at {sides:.2f}"
    return {
        "probability": round(probability, 4),
        "confidence": round(0.4 + abs(probability - 0.5), 4),
        "reason": reason,
    }


def _mean(votes: Sequence[Mapping[str, Any]]) -> float:
    weights = [v["confidence"] for v in votes]
    total = math.fsum(weights)
    if not total:
        return 0.5
    return math.fsum(w * v["probability"] for w, v in zip(weights, votes, strict=True)) / total


_SPEAKERS: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "trend": _trend,
    "reversion": _reversion,
    "volatility": _volatility,
    "sentiment": _sentiment,
    "bull": lambda data: _advocate("bull", data),
    "bear": lambda data: _advocate("bear", data),
    "judge": _judge,
}
